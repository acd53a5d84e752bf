"""The runs of a learner: of its `train`, of its `unlearn` on what that left, and of `train` without the forget set.

original i    `train` on the whole training set
run i         `unlearn` from original i, and for the first few with other examples to forget
scoring i     `train` on the retain set: what the runs are scored against
ceiling i     the same once more, scored as if it were a submission
twin i        `train` on the retain set with the seeds of original i: equal to run i if that is exact
"""

from functools import cached_property
from typing import Any

from harness.runs.run import Run
from harness.runs.run_set import RunSet, Task, seal_of
from harness.runs.stage import Stage
from harness.runs.store import Results
from harness.submission import Submission

__all__ = ["N_TWINS", "LearnerRunSet", "run_set_of", "trainings_of"]

N_TWINS = 4


def trainings_of(count: int) -> dict[Stage, int]:
    """Return how many runs of `train` a score of so many runs of `unlearn` takes, by stage."""
    pools = dict.fromkeys((Stage.ORIGINAL, Stage.SCORING, Stage.CEILING), count)
    return {**pools, Stage.TWIN: min(N_TWINS, count)}


def run_set_of(submission: Submission, results: Results, count: int, **options: Any) -> RunSet:
    """Return the first runs of a submission, with all that a learner needs beside them; options: of a RunSet."""
    kind = LearnerRunSet if submission.is_learner else RunSet
    return kind(submission, results, count, **options)


class LearnerRunSet(RunSet):
    """The runs of `unlearn`, with all that they and their score need of `train`."""

    @cached_property
    def originals(self) -> RunSet:
        """What the runs start from."""
        return self._trainings(Stage.ORIGINAL)

    @cached_property
    def pools(self) -> tuple[RunSet, RunSet]:
        """Models retrained without the forget set: to score against, and to score as if they were a submission."""
        return self._trainings(Stage.SCORING), self._trainings(Stage.CEILING)

    @cached_property
    def twins(self) -> RunSet:
        """Models retrained with the seeds of the first few originals."""
        return self._trainings(Stage.TWIN)

    def _trainings(self, stage: Stage) -> RunSet:
        return RunSet(
            self.submission,
            self.results,
            trainings_of(self.count)[stage],
            required_isolation=self._required_isolation,
            gpus=self._gpus,
            stage=stage,
            with_records=self.with_records,
            in_brief=self.in_brief,
            failure_counts=self._failure_counts,
        )

    # ---- what is there ---------------------------------------------------------------------------------------------

    @property
    def trainings(self) -> tuple[RunSet, ...]:
        """All runs of `train`."""
        return (self.originals, *self.pools, self.twins)

    @property
    def timed(self) -> tuple[RunSet, ...]:
        """What is over its time if its mean is: the originals, and what starts from them."""
        return (self.originals, self)

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """How many runs of either function are there and OK, and how many there are to be."""
        return {**super().counts, "trainings": self.training_counts}

    @property
    def parts(self) -> tuple[tuple[RunSet, int | None], ...]:
        """What is made one after the other: both functions are tried once before all the rest is begun."""
        whole = (self.originals, *self.pools, self, self.twins)
        return ((self.originals, 1), (self, 1), *((each, None) for each in whole))

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of `unlearn`, up to the first that is not OK; the run of `train` alone that failed, if one did."""
        failed = self._failed_training
        return super().runs if failed is None else (failed,)

    @property
    def _failed_training(self) -> Run | None:
        if self.stage != Stage.RUN:
            return None
        return next((each.failed for each in self.trainings if each.failed is not None), None)

    @property
    def has_stored_failure(self) -> bool:
        """Whether what failed was stored before."""
        of_training = [each.has_stored_failure for each in self.trainings if each.failed is not None]
        return of_training[0] if of_training else super().has_stored_failure

    @property
    def lacking(self) -> dict[str, tuple[int, int]]:
        """How many runs of either function are still to be made before it can be scored, and of how many."""
        if self.failed is not None:
            return {}
        missing = sum(len(each.missing) for each in self.trainings)
        return super().lacking | ({"trainings": (missing, self.training_counts[1])} if missing else {})

    @property
    def n_scorable(self) -> int:
        """How many of the first runs could be scored as they are, with their trainings."""
        return min(super().n_scorable, *(min(each.missing, default=self.count) for each in self.trainings))

    @property
    def is_complete(self) -> bool:
        """Whether all is there that can be said of it."""
        if self.failed is not None:
            return True
        return super().is_complete and not any(each.missing for each in self.trainings)

    @property
    def seal(self) -> str:
        """What says from which runs a score was made."""
        return seal_of([run for each in self.trainings for run in each.runs], self.swapped.runs) + super().seal

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """All that a score is made from, the runs of `train` too."""
        return (*super().all_runs, *(run for each in self.trainings for run in each.runs))

    @property
    def training_counts(self) -> tuple[int, int]:
        """How many runs of `train` are there, and how many there are to be."""
        return sum(each.n_ok for each in self.trainings), sum(each.count for each in self.trainings)

    @property
    def n_exact(self) -> int:
        """How many twins have the very weights of the runs of the same index."""
        runs = {run.index: run for run in self.runs}
        pairs = [(twin.record, runs[twin.index].record) for twin in self.twins.runs if twin.index in runs]
        return sum(
            ours is not None and theirs is not None and bool(ours.weights_sha256[0] == theirs.weights_sha256[0])
            for ours, theirs in pairs
        )

    # ---- what is made ----------------------------------------------------------------------------------------------

    def end_at(self, index: int) -> None:
        """Let no run of `unlearn` after this index be started, and none of `train`."""
        super().end_at(index)
        if self.stage == Stage.RUN:
            for each in self.trainings:
                each.end_at(-1)

    def task(self, index: int, order: int) -> Task:
        """Return a run of `unlearn` with what it starts from, which is there by now."""
        start = self.results.trained(index)
        assert start is not None, f"original {index} was made before"
        return Task(self.submission, index, order, self.stage, start)
