"""What is known of a learner beside its score: what its training costs, what it keeps, and whether it is exact."""

from typing import Self

import numpy as np

from harness.evaluation.figures import Part
from harness.evaluation.reference import Reference, outputs
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.run import Conditions, records_of
from harness.runs.run_set import RunSet
from harness.scoring.learners import certificate_bound
from harness.scoring.score import calibrated_score

__all__ = ["NOTHING_TO_FORGET", "LearnerFigures"]

NOTHING_TO_FORGET = 0.9  # calibrated score of originals left as they are, above which a score says little of unlearning

FEWEST_BOUNDED = 8  # runs


class LearnerFigures(Part):
    """The figures of a learner."""

    training_seconds: float  # mean of the originals
    training_share: float | None  # of one training by the track's recipe; None where that is not known
    share_of_training_limit: float
    state_mb: float  # the largest
    speed_up: float  # mean seconds of its training over those of its unlearning
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
        seconds = float(np.mean([run.seconds for run in originals]))
        floor = calibrated_score(reference.floor, reference.ceiling.smooth_quality)
        ordinary = None if limit is None else limit.training_seconds
        claim = run_set.submission.certificate
        bound = None if claim is None else _bound(run_set, reference, claim[1])
        return cls(
            training_seconds=seconds,
            training_share=None if ordinary is None else seconds / ordinary,
            share_of_training_limit=float(np.mean([run.seconds / run.info.limit_seconds for run in originals])),
            state_mb=max(run.state_bytes for run in originals) / 2**20,
            speed_up=seconds / float(np.mean([run.seconds for run in run_set.runs])),
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
        return "a learner is not ranked among other submissions"


def _bound(run_set: LearnerRunSet, reference: Reference, delta: float) -> float | None:
    """Return a lower bound of epsilon; None where there are too few models."""
    if run_set.count < FEWEST_BOUNDED:
        return None
    unlearned = outputs(records_of(run_set.runs), reference.forget_labels).confidences
    return certificate_bound(unlearned, reference.scoring.confidences, delta)
