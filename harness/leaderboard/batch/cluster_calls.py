"""Calls on the workers of a Dask cluster: on those alone that may have some, and again where a worker has died.

Each call is sent to one worker by its address. The scheduler would give it to any that has joined by then, also to one
that nobody has asked what it is.
"""

import contextlib
import queue
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.errors import MachineError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["LOOK_SECONDS", "make_calls"]

Kept = TypeVar("Kept")
Given = TypeVar("Given")
Result = TypeVar("Result")

LOOK_SECONDS = 1.0  # between two looks at who is there
AHEAD = 1  # calls that wait at a worker beside those that it makes, so that it does not wait for the next one
MOST_DEATHS = 3  # of workers with the same call, which may be what kills them
FETCH_SECONDS = 60.0


@dataclass
class _Call(Generic[Kept, Given]):
    kept: Kept
    given: Given
    worker: str = ""
    deaths: int = 0


def make_calls(
    client: "Client",
    function: Callable[[Given], Result],
    items: Iterable[tuple[Kept, Given]],
    workers: Callable[[], Mapping[str, int]],
) -> Iterator[tuple[Kept, Result]]:
    """Yield for each item what is kept here of it and function(what is given of it), as they are done.

    items: asked for one by one, shortly before they are sent; what is given, function and results travel by pickle.
    workers: returns how many calls at once each worker that may have some makes, by address; it is asked often. Calls
    of one that is not among them any more are made by others. Raises MachineError if too many die with the same call.
    """
    calls = (_Call(kept, given) for kept, given in items)
    lost: deque[_Call[Kept, Given]] = deque()
    sent: dict[Future[Result], _Call[Kept, Given]] = {}
    done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    are_more = True
    try:
        while True:
            here = workers()
            lost.extend(_taken_back(client, sent, here))
            while (worker := _freest(here, sent.values())) is not None:
                call = lost.popleft() if lost else next(calls, None)
                if call is None:
                    are_more = False
                    break
                call.worker = worker
                future = client.submit(function, call.given, workers=[worker], pure=False)
                sent[future] = call
                future.add_done_callback(done.put)
            if not (sent or lost or are_more):
                return
            for future, result in _next(done, sent):
                yield sent.pop(future).kept, result
    finally:
        with contextlib.suppress(OSError):  # of a scheduler that is gone
            client.cancel(list(sent))


def _freest(here: Mapping[str, int], sent: Iterable[_Call[Any, Any]]) -> str | None:
    """Return the worker that has room for most calls; None if there is none that has room."""
    counts = Counter(call.worker for call in sent)
    room = {worker: at_once + AHEAD - counts[worker] for worker, at_once in here.items()}
    freest = max(room, key=room.__getitem__, default=None)
    return freest if freest is not None and room[freest] > 0 else None


def _taken_back(
    client: "Client", sent: "dict[Future[Result], _Call[Kept, Given]]", here: Mapping[str, int]
) -> list[_Call[Kept, Given]]:
    """Return the calls of workers that are gone, which are not made there any more, should one come back."""
    gone = [future for future, call in sent.items() if call.worker not in here]
    if gone:
        client.cancel(gone)
    calls = [sent.pop(future) for future in gone]
    for call in calls:
        call.deaths += 1
        if call.deaths > MOST_DEATHS:
            raise MachineError(f"workers died again and again, {call.worker} the last of them; look at their logs")
    return calls


def _next(
    done: "queue.SimpleQueue[Future[Result]]", sent: "Mapping[Future[Result], object]"
) -> "Iterator[tuple[Future[Result], Result]]":
    """Yield a call that is done with its result, if one is before it is time for the next look. Raises what it raised.

    One that is lost with its worker is not yielded: the next look finds that this is gone.
    """
    from distributed import KilledWorker

    try:
        future = done.get(timeout=LOOK_SECONDS)
    except queue.Empty:
        return
    if future not in sent:  # it was taken back
        return
    if future.cancelled():
        raise MachineError("the scheduler has let go of runs; see whether it is still there, and call this again")
    if future.status == "error" and not isinstance(future.exception(), KilledWorker):
        yield future, future.result()
    if future.status == "finished":
        try:
            result = future.result(FETCH_SECONDS)
        except TimeoutError:
            done.put(future)
        else:
            yield future, result
