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


def make_runs(
    run_sets: Sequence[RunSet], executor: Executor, *, most: int | None = None
) -> Iterator[tuple[RunSet, Run]]:
    """Yield the runs that are missing, each once it is stored, as they are done.

    The first run of every submission comes first, since most that fail do so at once, and then one submission after
    another. Where all runs of one are OK and enough for alarms, its few with other examples to forget come after them:
    what is yielded with these is `run_set.swapped`. most: make only those of the first so many runs of each.
    """
    for each in run_sets:
        each.results.begin(each.submission)
    queues = [_wanted(each, most) for each in run_sets]
    first = (wanted for queue in queues for wanted in itertools.islice(queue, 1))
    for each, run in executor.make(itertools.chain(first, *queues)):
        each.add(run)
        yield each, run


def _wanted(run_set: RunSet, most: int | None) -> Iterator[tuple[RunSet, Task]]:
    for each in (run_set, run_set.swapped) if run_set.needs_swapped else (run_set,):
        for task in each.tasks(most):
            yield each, task
