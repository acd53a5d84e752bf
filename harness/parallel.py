"""Calls beside one another, with joblib, in threads; one again and again.

One job here means in this process, in order.
"""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import joblib

__all__ = ["processes_may_end", "repeated", "run_each"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_each(function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int = 1) -> Iterator[Result]:
    """Yield function(item) as each is done, `jobs` at a time, in threads: the work is in child processes.

    items: asked for one by one, shortly before they are started.
    """
    parallel = joblib.Parallel(
        backend="threading", n_jobs=jobs, pre_dispatch=jobs, return_as="generator_unordered", batch_size=1
    )
    results = parallel(joblib.delayed(function)(item) for item in items)
    try:
        for result in results:  # noqa: UP028 - `yield from` would close them before the warning below is silenced
            yield result
    finally:
        with warnings.catch_warnings(action="ignore"):  # joblib's: that results are made which nobody asks for
            results.close()


@contextlib.contextmanager
def processes_may_end() -> Iterator[None]:
    """Let joblib's processes end between two calls, as those do that hold much memory: others take their place.

    It warns of that from a thread of its own, which nobody can act on. As an error it would end the thread, and whoever
    waits for results would wait for ever.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
        yield


@contextlib.contextmanager
def repeated(call: Callable[[], None], seconds: float) -> Iterator[None]:
    """Make a call in a thread of its own, so many seconds apart, while the block runs; none is in flight after it."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
