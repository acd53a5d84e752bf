"""What is known of deletion requests beside the score after the last of them: time, accuracy and state after each."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from harness.evaluation.figures import Part
from harness.evaluation.own_reference import models_of
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.run import Requests, records_of
from harness.runs.run_set import RunSet
from harness.scoring.full_stack import FullStack, consistency_kl
from harness.tracks.track import Track

__all__ = ["StreamFigures"]

PerRequest = tuple[float, ...]


class StreamFigures(Part):
    """The figures of runs of several deletion requests; accuracies are means over models, in [0, 1].

    The distance to models retrained without what was forgotten is known after the last request alone: for those in
    between no models were retrained.
    """

    examples: tuple[int, ...]  # that each request forgets
    seconds: PerRequest  # mean over runs
    max_seconds: PerRequest
    runs_over_limit: tuple[int, ...]  # that took longer than the limit
    retain_accuracy: PerRequest  # after each request, on what is retained in the end
    test_accuracy: PerRequest
    forgotten_accuracy: PerRequest  # on what is forgotten so far
    retrained_retain_accuracy: float  # of models retrained without all of it, on the same three
    retrained_test_accuracy: float
    retrained_forgotten_accuracy: PerRequest
    state_mb: PerRequest | None  # of learners: after training and after each request, mean over runs
    distance: float | None  # after the last request, from retrained models: KL in nats of the outputs on the test set
    distance_of_retrained: float | None  # of these from one another; None of a single one
    distance_of_twins: float | None  # of learners: of runs from their own twins

    @classmethod
    def of(cls, run_set: RunSet, track: Track, metrics: FullStack) -> "Self | None":
        """Return the figures of runs that are all there and OK; None where each is one request."""
        runs, found = run_set.runs, [run.requests for run in run_set.runs if run.requests is not None]
        if not found:
            return None
        numbers, labels = track.requests(), track.examples("forget").labels
        retrained = models_of(run_set, track)[1][: len(runs)]
        right = (retrained.forget_logits.argmax(axis=2) == labels).mean(axis=0)
        seconds = np.stack([each.seconds for each in found])
        limits = np.array([[run.info.limit_seconds] for run in runs])
        retain, test, forgotten = np.stack([each.accuracy for each in found]).mean(axis=0).T.tolist()
        learner = run_set if isinstance(run_set, LearnerRunSet) else None
        return cls(
            examples=np.bincount(numbers).tolist(),
            seconds=seconds.mean(axis=0).tolist(),
            max_seconds=seconds.max(axis=0).tolist(),
            runs_over_limit=(seconds > limits).sum(axis=0).tolist(),
            retain_accuracy=retain,
            test_accuracy=test,
            forgotten_accuracy=forgotten,
            retrained_retain_accuracy=float(retrained.accuracy_on("retain").mean()),
            retrained_test_accuracy=float(retrained.accuracy_on("test").mean()),
            retrained_forgotten_accuracy=tuple(
                float(right[numbers <= number].mean()) for number in range(seconds.shape[1])
            ),
            state_mb=None if learner is None else _state_mb(learner, found),
            distance=metrics.consistency_kl.mean,
            distance_of_retrained=metrics.consistency_kl.retrained_mean,
            distance_of_twins=None if learner is None else _distance_of_twins(learner),
        )


def _state_mb(run_set: LearnerRunSet, found: Sequence[Requests]) -> PerRequest:
    before = np.mean([run.state_bytes for run in run_set.originals.runs])
    after = np.mean([each.state_bytes for each in found], axis=0)
    return tuple(float(size) / 2**20 for size in (before, *after))


def _distance_of_twins(run_set: LearnerRunSet) -> float:
    """Return the mean KL divergence in nats of the first runs' outputs on the test set from their twins'."""
    ours, theirs = (records_of(runs).test_logits for runs in (run_set.runs, run_set.twins.runs))
    pairs = zip(ours, theirs, strict=False)
    return float(np.mean([consistency_kl(run[None], twin[None])[0] for run, twin in pairs]))
