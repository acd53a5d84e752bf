"""Many independent runs side by side, with joblib; one job means in this process, in order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import joblib

__all__ = ["run_in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int,
    is_last: Callable[[Result], bool] = lambda result: False,
) -> Iterator[Result]:
    """Yield function(item) in the order of the items, `jobs` at a time, in threads: the work is in child processes.

    After a result that is the last nothing more is started; what is in flight is waited for and dropped.
    """
    over = threading.Event()

    def unless_over(item: Item) -> Result | None:
        return None if over.is_set() else function(item)

    parallel = joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator", pre_dispatch=jobs, batch_size=1)
    for result in parallel(joblib.delayed(unless_over)(item) for item in items):
        if over.is_set():
            continue
        yield result
        if is_last(result):
            over.set()
