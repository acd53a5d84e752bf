"""What is known of a learner beside its score: what its training costs, what it keeps, and whether it is exact."""

from typing import Self

import numpy as np

from harness.evaluation.figures import Part, round_off
from harness.evaluation.reference import Reference, outputs
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.run import Conditions, records_of
from harness.runs.run_set import RunSet
from harness.scoring.learners import certificate_bound
from harness.scoring.score import calibrated_score

__all__ = ["NOTHING_TO_FORGET", "OF_ANOTHER_DIVISION", "LearnerFigures"]

NOTHING_TO_FORGET = 0.9  # calibrated score of originals left as they are, above which a score says little of unlearning

OF_ANOTHER_DIVISION = "a learner is not ranked among other submissions"
FEWEST_BOUNDED = 8  # runs


class LearnerFigures(Part):
    """The figures of a learner."""

    training_seconds: float  # mean of the originals
    training_share: float | None  # of one training by the track's recipe; None where that is not known
    share_of_training_limit: float
    state_mb: float  # the largest
    unlearning_seconds: float  # mean of the runs; of a request, where there are several
    unlearning_share: float | None  # mean seconds of its unlearning, of one training by the track's recipe
    speed_up: float  # mean seconds of its training over those of its unlearning: of a request, as it saves a training
    own_floor: float  # calibrated score of its originals left as they are
    nothing_to_forget: bool
    exact: int  # twins with the very weights of the unlearned model
    twins: int
    certificate: tuple[float, float] | None  # epsilon and delta that the file claims
    certificate_bound: float | None  # what epsilon surely is at that delta, at 95 %; None without a claim
    certificate_refuted: bool | None

    @classmethod
    def of(cls, run_set: RunSet, conditions: Conditions, reference: Reference) -> "Self | None":
        """Return the figures of runs that are all there and OK; None for those of other submissions."""
        if not isinstance(run_set, LearnerRunSet):
            return None
        originals, limit = run_set.originals.runs, conditions.limit
        seconds, unlearning = (float(np.mean([run.seconds for run in runs])) for runs in (originals, run_set.runs))
        floor = calibrated_score(reference.floor, reference.ceiling.smooth_quality)
        ordinary = None
        if limit is not None and limit.training_seconds is not None:  # as it was when they were made
            ordinary = float(np.mean([run.info.limit_seconds for run in run_set.runs])) / limit.fraction
        claim = run_set.submission.certificate
        bound = None if claim is None else _bound(run_set, reference, claim[1])
        return cls(
            training_seconds=seconds,
            training_share=None if ordinary is None else seconds / ordinary,
            share_of_training_limit=float(np.mean([run.seconds / run.info.limit_seconds for run in originals])),
            state_mb=max(run.state_bytes for run in originals) / 2**20,
            unlearning_seconds=unlearning,
            unlearning_share=None if ordinary is None else unlearning / ordinary,
            speed_up=seconds / unlearning,
            own_floor=floor,
            nothing_to_forget=floor > NOTHING_TO_FORGET,
            exact=run_set.n_exact,
            twins=len(run_set.twins.runs),
            certificate=claim,
            certificate_bound=bound,
            certificate_refuted=None if claim is None or bound is None else bound > claim[0],
        )

    @property
    def unranked_because(self) -> str:
        """Why a learner is not ranked among other submissions, or not at all."""
        if self.share_of_training_limit > 1:
            return "training over its limit"
        return OF_ANOTHER_DIVISION

    def rounded(self, digits: int) -> Self:
        """Return figures of which those that are made from the forget set say no more than so many digits."""
        made = {name: round_off(getattr(self, name), digits) for name in ("own_floor", "certificate_bound")}
        return self.model_copy(update=made)


def _bound(run_set: LearnerRunSet, reference: Reference, delta: float) -> float | None:
    """Return a lower bound of epsilon; None where there are too few models."""
    if run_set.count < FEWEST_BOUNDED:
        return None
    unlearned = outputs(records_of(run_set.runs), reference.forget_labels).confidences
    return certificate_bound(unlearned, reference.scoring.confidences, delta)
