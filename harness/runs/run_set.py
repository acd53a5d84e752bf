"""The runs that one submission is to have: those that are stored, and those that are made meanwhile."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from harness.runner.outcome import Outcome
from harness.runs.run import Run, RunInfo, Trained
from harness.runs.stage import Stage
from harness.runs.store import Results
from harness.scoring.thresholds import FEWEST_RANKED
from harness.submission import Submission

__all__ = ["N_SWAPPED", "FailureCounts", "RunSet", "Task", "seal_of", "until_failed"]

N_SWAPPED = 2  # runs made again with other examples to forget, for an alarm
FailureCounts = Callable[[Run], bool]  # whether a stored run that is not OK would not be either if it were made now


@dataclass(frozen=True)
class Task:
    """One run to be made: all that it takes beside the track."""

    submission: Submission
    index: int
    order: int  # its place among the submission's runs made this time, as they are started
    stage: Stage = Stage.RUN
    start: Trained | None = None  # of a learner: the original that it starts from


class RunSet:
    """The first runs of a submission. A run that is not OK is the last that is wanted."""

    def __init__(
        self,
        submission: Submission,
        results: Results,
        count: int,
        *,
        required_isolation: str | None = None,
        gpus: Collection[str] = (),
        stage: Stage = Stage.RUN,
        with_records: bool = False,
        in_brief: bool = False,
        failure_counts: FailureCounts = lambda run: True,
    ) -> None:
        """Read the runs that are stored.

        required_isolation, gpus: stored runs below that level, or of other GPUs than these if there are any, do not
        count. stage: what the runs are for; those of each stage are stored apart. with_records: keep all of a run here,
        not its outcome and time alone: for a single submission. in_brief: read no more of a run than its file states,
        which tells whether a score is of it, not whether it can be scored. failure_counts: a stored failure for which
        it returns False is made again; runs that are OK stay.
        """
        self.submission, self.results, self.count = submission, results, count
        self.stage, self.with_records, self.in_brief = stage, with_records, in_brief
        self.made: set[int] = set()  # indices of the runs that were not stored before
        self._required_isolation, self._gpus, self._failure_counts = required_isolation, gpus, failure_counts
        self._end: int | None = None
        stored = results.runs(range(count), required_isolation, gpus=gpus, stage=stage, in_brief=in_brief)
        self._runs = {index: self._kept(run) for index, run in stored.items() if self._is_counted(run)}

    @cached_property
    def swapped(self) -> "RunSet":
        """The first few runs made with other examples to forget."""
        return type(self)(
            self.submission,
            self.results,
            N_SWAPPED,
            required_isolation=self._required_isolation,
            gpus=self._gpus,
            stage=Stage.SWAPPED,
            with_records=self.with_records,
            in_brief=self.in_brief,
            failure_counts=self._failure_counts,
        )

    @property
    def parts(self) -> "tuple[tuple[RunSet, int | None], ...]":
        """What is made one after the other, each with how many of its runs at most: these runs alone."""
        return ((self, None),)

    # ---- what is there ---------------------------------------------------------------------------------------------

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs that are there in the order of their indices, up to and including the first that is not OK.

        If all are OK and the harness failed at one with other examples to forget, that one alone.
        """
        runs, unlucky = until_failed(self._runs), self._unlucky_swapped
        return runs if unlucky is None or (runs and runs[-1].outcome != Outcome.OK) else (unlucky,)

    @property
    def _unlucky_swapped(self) -> Run | None:
        """The run with other examples to forget that the harness failed at, if its score takes one."""
        takes_some = self.stage == Stage.RUN and self.count >= FEWEST_RANKED
        failed = self.swapped.failed if takes_some else None
        return failed if failed is not None and failed.outcome == Outcome.HARNESS_ERROR else None

    @property
    def missing(self) -> list[int]:
        """The indices that are still to be run: those after a run that is not OK are not."""
        failed = self.failed
        end = self.count if failed is None else failed.index
        return [index for index in range(end) if index not in self._runs]

    @property
    def lacking(self) -> dict[str, tuple[int, int]]:
        """How many runs are still to be made before it can be scored, and of how many, by what they are called."""
        return {"runs": (len(self.missing), self.count)} if self.missing else {}

    @property
    def n_scorable(self) -> int:
        """How many of the first runs could be scored as they are."""
        return min(self.missing, default=self.count)

    @property
    def failed(self) -> Run | None:
        """The first run that is not OK."""
        return next((run for run in self.runs if run.outcome != Outcome.OK), None)

    @property
    def failed_in_train(self) -> bool:
        """Whether the first run that is not OK is one of `train`, which has a time limit of its own."""
        return any(each.failed is not None for each in self.trainings)

    @property
    def has_stored_failure(self) -> bool:
        """Whether the first run that is not OK was stored before."""
        failed = self.failed
        if failed is None or failed.outcome == Outcome.HARNESS_ERROR:  # that is never stored
            return False
        return failed.index not in self.made

    @property
    def n_ok(self) -> int:
        """How many runs are there and OK."""
        return sum(run.outcome == Outcome.OK for run in self._runs.values())

    @property
    def needs_swapped(self) -> bool:
        """Whether its score takes runs with other examples to forget: no run failed, and there are to be enough."""
        return self.stage == Stage.RUN and self.count >= FEWEST_RANKED and self.failed is None

    @property
    def is_complete(self) -> bool:
        """Whether all is there that can be said of it: a score, or a failure."""
        return not self.missing and not (self.needs_swapped and self.swapped.missing)

    @property
    def seal(self) -> str:
        """What says from which runs a score was made."""
        return seal_of(self.runs, self.swapped.runs)

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """All that a score is made from: these runs and, if there are enough for alarms, those of other examples."""
        return (*self.runs, *(self.swapped.runs if len(self.runs) >= FEWEST_RANKED else ()))

    @property
    def trainings(self) -> "tuple[RunSet, ...]":
        """All runs of `train`: those of a learner."""
        return ()

    @property
    def timed(self) -> "tuple[RunSet, ...]":
        """What is over its time if its mean is: these runs."""
        return (self,)

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """How many runs are there and OK, and how many there are to be, by what they are called."""
        return {"runs": (self.n_ok, self.count)}

    @property
    def limits_used(self) -> float:
        """The time of all runs together, in time limits."""
        return sum((run.seconds / run.info.limit_seconds for run in self._runs.values()), 0.0)

    # ---- what is made ----------------------------------------------------------------------------------------------

    def tasks(self, most: int | None = None) -> Iterator[Task]:
        """Yield the missing runs in the order of their indices, as long as they are wanted: of the first `most`."""
        for order, index in enumerate(self.missing):
            if self.is_over(index) or (most is not None and index >= most):
                return
            yield self.task(index, order)

    def task(self, index: int, order: int) -> Task:
        """Return a run to be made."""
        return Task(self.submission, index, order, self.stage)

    def add(self, run: Run) -> None:
        """Take a run that was made, and store it unless the harness failed: that one is made again next time."""
        if run.outcome != Outcome.OK:
            self.end_at(run.index)
        if run.outcome != Outcome.HARNESS_ERROR:
            run = self.results.save_run(run, self.stage)
        self._runs[run.index] = self._kept(run)
        self.made.add(run.index)

    def end_at(self, index: int) -> None:
        """Let no run after this index be started, and none with other examples to forget."""
        self._end = index if self._end is None else min(self._end, index)
        if self.stage == Stage.RUN:
            self.swapped.end_at(-1)

    def is_over(self, index: int) -> bool:
        """Whether the run of this index is not to be made any more."""
        return self._end is not None and index > self._end

    @property
    def is_ended(self) -> bool:
        """Whether runs were wanted that are not any more."""
        return self._end is not None

    def _is_counted(self, run: Run) -> bool:
        return run.outcome == Outcome.OK or self._failure_counts(run)

    def _kept(self, run: Run) -> Run:
        if self.with_records:
            return replace(run, trained=None)  # a state may be large: it is read again for the run that starts from it
        info = RunInfo(run.info.limit_seconds, run.info.isolation, message=run.info.message)
        return replace(run, record=None, info=info, trained=None)


def until_failed(runs: Mapping[int, Run]) -> tuple[Run, ...]:
    """Return runs in the order of their indices, up to and including the first that is not OK."""
    in_order = [runs[index] for index in sorted(runs)]
    ends = [place for place, run in enumerate(in_order, start=1) if run.outcome != Outcome.OK]
    return tuple(in_order[: ends[0]] if ends else in_order)


def seal_of(runs: Sequence[Run], swapped: Sequence[Run]) -> str:
    """Return the sha256 of the seals of all runs that a score is made from.

    swapped: those with other examples to forget, which count only where there are runs enough for alarms.
    """
    used = [*runs, *swapped] if len(runs) >= FEWEST_RANKED else runs
    return hashlib.sha256("\n".join(run.seal for run in used).encode()).hexdigest()
