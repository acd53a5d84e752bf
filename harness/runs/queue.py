"""The runs that submissions lack: one queue of all of them, whoever makes them, each stored as soon as it is there."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from harness.runs.run import Run
from harness.runs.run_set import RunSet, Task

__all__ = ["Executor", "make_runs"]


class Executor(Protocol):
    """What makes runs: this machine, or the workers of a cluster."""

    def make(self, wanted: Iterable[tuple[RunSet, Task]]) -> Iterator[tuple[RunSet, Run]]:
        """Yield the runs as they are done; those that are not wanted any more may be left out."""


def make_runs(run_sets: Sequence[RunSet], executor: Executor) -> Iterator[tuple[RunSet, Run]]:
    """Yield the runs that are missing, each once it is stored, as they are done.

    The first run of every submission comes first, since most that fail do so at once, and then one submission after
    another.
    """
    for each in run_sets:
        each.results.begin(each.submission)
    queues = [(each, each.tasks()) for each in run_sets]
    first = ((each, task) for each, tasks in queues for task in itertools.islice(tasks, 1))
    others = ((each, task) for each, tasks in queues for task in tasks)
    for each, run in executor.make(itertools.chain(first, others)):
        each.add(run)
        yield each, run
