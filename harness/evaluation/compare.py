"""Whether two submissions differ, by an exact test on their runs and by the noise of their scores."""

from dataclasses import dataclass

import numpy as np

from harness.errors import UsageError
from harness.evaluation.reference import Reference, Scored, outputs
from harness.record import Records
from harness.scoring.score import MIN_HALVED, Outputs, calibrated_quality, official_score
from harness.scoring.thresholds import FEWEST_RANKED
from harness.scoring.uncertainty import CONFIDENCE, Difference, difference, permutation_p_value
from harness.submission import Submission

__all__ = [
    "RETRAINED",
    "Comparison",
    "Side",
    "compare",
    "exact_p_value",
    "no_comparison",
    "require_enough",
    "retrained_side",
    "submission_side",
]

RETRAINED = "retrained"  # stands for the second pool of retrained models


@dataclass(frozen=True)
class Side:
    """One of the two compared."""

    name: str
    outputs: Outputs
    scored: Scored


@dataclass(frozen=True)
class Comparison:
    """Two sides and what is to be said of their difference."""

    first: Side
    second: Side
    difference: Difference  # of the calibrated scores
    p_value: float  # of the permutation test

    @property
    def sentence(self) -> str:
        """The finding in one sentence. The exact test decides, which with few runs sees less than half-samples do."""
        scores = f"{self.first.scored.calibrated:.2f} against {self.second.scored.calibrated:.2f}"
        evidence = f"{scores}, p = {self.p_value:.2g} by permutation of the runs"
        if self.p_value >= 1 - CONFIDENCE:
            names = f"{self.first.name} and {self.second.name}"
            return f"{names} cannot be told apart: {evidence}; more runs may tell{self._few}"
        better, worse = (self.first, self.second) if self.difference.value > 0 else (self.second, self.first)
        return f"{better.name} is better than {worse.name}: {evidence}{self._few}"

    @property
    def _few(self) -> str:
        n_runs = len(self.first.outputs)
        return "" if n_runs >= FEWEST_RANKED else f"; {n_runs} runs of each are few, and say little"


def require_enough(runs: int) -> None:
    """Raise UsageError unless so many runs of each side can be compared."""
    if runs < MIN_HALVED:
        raise UsageError(f"{runs} runs are too few to compare; ask for at least {MIN_HALVED}: --runs {FEWEST_RANKED}")


def no_comparison(learner: Submission) -> str:
    """Return why a learner is not compared with anything."""
    return f"{learner.name} is a learner, scored against models of its own: it is compared with none by its runs"


def submission_side(name: str, records: Records, scored: Scored, reference: Reference) -> Side:
    """Return a side of a submission's runs."""
    return Side(name, outputs(records, reference.forget_labels), scored)


def retrained_side(reference: Reference) -> Side:
    """Return the side of models retrained without the forget set."""
    return Side(RETRAINED, reference.ceiling_outputs, reference.score(reference.ceiling_outputs))


def compare(first: Side, second: Side, reference: Reference, *, n_permutations: int = 999) -> Comparison:
    """Compare two sides of equally many models.

    The test exchanges models between the sides, within those that started from the same original (retrained models
    started from none: then within all), and looks at the difference of calibrated scores.
    """
    require_enough(len(first.outputs))
    assert first.scored.halves is not None, "there are runs enough"
    assert second.scored.halves is not None, "there are runs enough"
    of_retrained = RETRAINED in (first.name, second.name)
    return Comparison(
        first,
        second,
        difference(
            first.scored.calibrated,
            second.scored.calibrated,
            first.scored.halves.calibrated_score,
            second.scored.halves.calibrated_score,
        ),
        exact_p_value(
            first.outputs, second.outputs, reference, stratified=not of_retrained, n_permutations=n_permutations
        ),
    )


def exact_p_value(
    first: Outputs,
    second: Outputs,
    reference: Reference,
    *,
    rank_by: str = "calibrated",
    stratified: bool = True,
    n_permutations: int = 999,
) -> float:
    """Return the p-value of the difference of two sides' scores under exchange of their models.

    It is exact if the models of both sides, equally many, come from one distribution. stratified: models are exchanged
    within those that started from the same original. rank_by: which of the two scores, `calibrated` or `official`.
    """
    together = Outputs.concatenate(first, second)

    def value(models: Outputs) -> float:
        if rank_by == "official":
            return official_score(models, reference.scoring).score
        return calibrated_quality(models, reference.scoring, reference.ceiling.smooth_quality)

    def gap(rows: np.ndarray, other_rows: np.ndarray) -> float:
        return value(together[rows]) - value(together[other_rows])

    strata = together.original if stratified else np.zeros(len(together), int)
    return permutation_p_value(gap, strata, n_permutations=n_permutations)
