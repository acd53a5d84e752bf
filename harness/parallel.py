"""Many independent runs side by side, with joblib; one job means in this process, in order."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import joblib

__all__ = ["run_in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_order(function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int) -> Iterator[Result]:
    """Yield function(item) in the order of the items, `jobs` at a time, in threads: the work is in child processes.

    Closing the iterator early starts nothing more.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    parallel = joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator", pre_dispatch=jobs)
    yield from parallel(joblib.delayed(function)(item) for item in items)
