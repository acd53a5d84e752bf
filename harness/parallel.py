"""Calls beside one another: many with joblib, in threads here or on the workers of a Dask cluster; one again and again.

One job here means in this process, in order.
"""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import joblib

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["processes_may_end", "repeated", "run_each"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_each(
    function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int = 1, client: "Client | None" = None
) -> Iterator[Result]:
    """Yield function(item) as each is done, `jobs` at a time, in threads: the work is in child processes.

    items: asked for one by one, shortly before they are started. client: of a Dask cluster, whose workers make the
    calls instead, as many at once as they have threads; function, items and results then travel by pickle.
    """
    where: dict[str, Any] = {"backend": "threading", "n_jobs": jobs, "pre_dispatch": jobs}
    if client is not None:  # some are sent ahead, so that no worker waits for the next one
        where = {"backend": _cluster(client), "n_jobs": -1, "pre_dispatch": "1.5 * n_jobs"}
    parallel = joblib.Parallel(**where, return_as="generator_unordered", batch_size=1)
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


def _cluster(client: "Client") -> Any:
    """Return joblib's Dask backend with two things put right.

    It would wait for ever for a call that was lost with its worker, and with one worker alone it would not send any
    call, but make all of them in this process.
    """
    from joblib._dask import DaskDistributedBackend

    class Cluster(DaskDistributedBackend):  # type: ignore[misc]
        def submit(self, func: Any, callback: Callable[[Any], None]) -> "Future[Any]":
            future: Future[Any] = super().submit(func, callback)
            future.add_done_callback(lambda done: callback(done) if done.exception() is not None else None)
            return future

        def effective_n_jobs(self, n_jobs: int) -> int:
            found: int = super().effective_n_jobs(n_jobs)
            return max(2, found)

        def retrieve_result_callback(self, out: Any) -> Any:
            return out.result() if isinstance(out, Future) else super().retrieve_result_callback(out)

    return Cluster(client=client)
