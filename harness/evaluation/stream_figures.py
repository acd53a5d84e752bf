"""What is known of deletion requests beside the score after the last of them: time, accuracy and state after each."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from harness.evaluation.figures import Part
from harness.evaluation.own_reference import models_of
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.run import Requests, records_of
from harness.runs.run_set import RunSet
from harness.scoring.full_stack import FullStack, consistency_kl, distances
from harness.tracks.track import Track

__all__ = ["StreamFigures"]

PerRequest = tuple[float, ...]


class StreamFigures(Part):
    """The figures of runs of several deletion requests; accuracies are means over models, in [0, 1].

    All distances are KL divergences in nats from models that were retrained without all that is forgotten in the end;
    for the requests in between none were. So the outputs on the test set are compared after the last request alone,
    those on what is forgotten so far after each: the retrained models never saw it either.
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
    forgotten_distance: PerRequest  # after each, on what is forgotten so far
    retrained_forgotten_distance: PerRequest | None  # of retrained models from one another; None of a single one
    distance: float | None  # after the last request, on the test set
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
        apart = _apart(np.stack([each.forget_logits for each in found]), retrained.forget_logits, numbers)
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
            forgotten_distance=tuple(ours for ours, _ in apart),
            retrained_forgotten_distance=tuple(among for _, among in apart if among is not None) or None,
            state_mb=None if learner is None else _state_mb(learner, found),
            distance=metrics.consistency_kl.mean,
            distance_of_retrained=metrics.consistency_kl.retrained_mean,
            distance_of_twins=None if learner is None else _distance_of_twins(learner),
        )


def _apart(logits: np.ndarray, retrained: np.ndarray, numbers: np.ndarray) -> list[tuple[float, float | None]]:
    """Return `distances` after each request, on what is forgotten so far.

    logits: (n, R, n_forget, n_classes) after each request. retrained: (m, n_forget, n_classes). numbers: (n_forget,),
    the request of each example.
    """
    so_far = [numbers <= number for number in range(logits.shape[1])]
    return [distances(logits[:, number, rows], retrained[:, rows]) for number, rows in enumerate(so_far)]


def _state_mb(run_set: LearnerRunSet, found: Sequence[Requests]) -> PerRequest:
    before = np.mean([run.state_bytes for run in run_set.originals.runs])
    after = np.mean([each.state_bytes for each in found], axis=0)
    return tuple(float(size) / 2**20 for size in (before, *after))


def _distance_of_twins(run_set: LearnerRunSet) -> float:
    """Return the mean KL divergence in nats of the first runs' outputs on the test set from their twins'."""
    ours, theirs = (records_of(runs).test_logits for runs in (run_set.runs, run_set.twins.runs))
    pairs = zip(ours, theirs, strict=False)
    return float(np.mean([consistency_kl(run[None], twin[None])[0] for run, twin in pairs]))
