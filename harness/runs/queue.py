"""The runs that submissions lack: one queue of all of them, whoever makes them, each stored as soon as it is there."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.runner.outcome import Outcome
from harness.runs.run import Run
from harness.runs.store import Results
from harness.submission import Submission

__all__ = ["Executor", "Pending", "Task", "make_runs"]


@dataclass(frozen=True)
class Task:
    """One run to be made: all that it takes beside the track."""

    submission: Submission
    index: int
    order: int  # its place among the submission's runs made this time, as they are started
    swap_forget_set: bool = False


@dataclass
class Pending:
    """The runs that one submission lacks. Once they have an end, none after that index is started."""

    submission: Submission
    results: Results
    indices: Sequence[int]
    swap_forget_set: bool = False  # the same runs with other examples to forget; they are stored apart
    end: int | None = None

    def end_at(self, index: int) -> None:
        """Let no run after this index be started."""
        self.end = index if self.end is None else min(self.end, index)

    def is_over(self, index: int) -> bool:
        """Whether the run of this index is not to be made any more."""
        return self.end is not None and index > self.end

    def tasks(self) -> Iterator[Task]:
        """Yield the runs in the order of their indices, as long as they are wanted."""
        for order, index in enumerate(self.indices):
            if self.is_over(index):
                return
            yield Task(self.submission, index, order, self.swap_forget_set)

    def store(self, run: Run) -> None:
        """Keep a run, whatever its outcome, unless the harness failed: that one is made again next time."""
        if run.outcome != Outcome.HARNESS_ERROR:
            self.results.save_run(run, swap_forget_set=self.swap_forget_set)


class Executor(Protocol):
    """What makes runs: this machine, or the workers of a cluster."""

    def make(self, wanted: Iterable[tuple[Pending, Task]]) -> Iterator[tuple[Pending, Run]]:
        """Yield the runs as they are done; those that are not wanted any more may be left out."""


def make_runs(pending: Sequence[Pending], executor: Executor) -> Iterator[tuple[Pending, Run]]:
    """Yield the runs that are pending, each once it is stored, as they are done.

    The first run of every submission comes first, since most that fail do so at once, and then one submission after
    another. A run that is not OK is the last that its submission starts.
    """
    for each in pending:
        each.results.begin(each.submission)
    queues = [(each, each.tasks()) for each in pending]
    first = ((each, task) for each, tasks in queues for task in itertools.islice(tasks, 1))
    others = ((each, task) for each, tasks in queues for task in tasks)
    for each, run in executor.make(itertools.chain(first, others)):
        if run.outcome != Outcome.OK:
            each.end_at(run.index)
        each.store(run)
        yield each, run
