"""A run of several deletion requests: `unlearn` is called for each, and goes on from what the call before left.

Each call is made in a process of its own, under the time limit of one. What later requests forget is still among what
a call retains, and what earlier ones forgot is not there any more. The model after the last call is the one scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.record import Records
from harness.runner.execution import Finished, seeds_of
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runs.positions import ids_of_job
from harness.runs.run import Requests, Trained
from harness.runs.run_set import Task
from harness.tracks.track import Track

__all__ = ["Call", "Positions", "as_one", "request_job", "requests_of", "sets_of_requests"]

Positions = Mapping[str, np.ndarray]  # of the retain and the forget set's examples in the training set


@dataclass(frozen=True)
class Call:
    """One call of a submission's function, and the record of the model that it left if it is OK."""

    finished: Finished
    record: Records | None
    state_bytes: int  # of a learner's state
    whole_seconds: float  # with start and measuring

    @property
    def left(self) -> Trained | None:
        """What the next call goes on from; None if it left no net."""
        weights = self.finished.weights
        return None if weights is None else Trained(weights, self.finished.state)

    @property
    def spent(self) -> "Call":
        """Itself without what the next call went on from, which may be large."""
        return replace(self, finished=replace(self.finished, weights=None, state=b""))


def sets_of_requests(track: Track, *, swapped: bool = False) -> list[Positions]:
    """Return what each request of a track is given, in the order of the data; nothing for a track of only one.

    swapped: as many other examples are forgotten, always the same ones.
    """
    if track.declaration.forget.requests == 1:
        return []
    ids, numbers = track.training_ids(), track.requests()
    forgotten = [np.sort(ids["forget"][numbers == number]) for number in range(numbers.max() + 1)]
    if swapped:
        drawn = np.random.default_rng(0).permutation(ids["retain"])[: len(numbers)]
        forgotten = [np.sort(part) for part in np.array_split(drawn, len(forgotten)) if len(part)]
    retained, found = np.sort(np.concatenate(list(ids.values()))), list[Positions]()
    for part in forgotten:
        retained = np.setdiff1d(retained, part)
        found.append({"retain": retained, "forget": part})
    return found


def request_job(
    job: Job, track: Track, task: Task, given: Sequence[Positions], number: int, left: Trained | None
) -> Job:
    """Return the job of a run as that of one of its requests, numbered from 0.

    given: what all of them are given. left: what the request before left; None for the first.
    """
    own = replace(
        job,
        seeds=seeds_of(track.secret, task.submission.code_hash, task.index, stage=f"request {number}"),
        swap_forget_set=False,
        ids={},
        given=ids_of_job(given[number]),
    )
    return own if left is None else replace(own, weights=left.weights.tobytes(), state=left.state)


def as_one(calls: Sequence[Call], n_requests: int) -> Finished:
    """Return how a run went that made these calls, up to the first that is not OK: seconds are those of one request.

    n_requests: how many were to be made; 0 for a run of one call.
    """
    made = [call.finished for call in calls]
    if not n_requests:
        return made[-1]
    last = replace(made[-1], harness_errors=tuple(error for each in made for error in each.harness_errors))
    if last.outcome != Outcome.OK:
        return replace(last, message=f"request {len(made)} of {n_requests}: {last.message}")
    seconds, inside = (float(np.mean([getattr(each, name) for each in made])) for name in ("seconds", "seconds_inside"))
    return replace(last, seconds=seconds, seconds_inside=inside)


def requests_of(calls: Sequence[Call], track: Track) -> Requests:
    """Return what is kept of the requests of a run that is OK."""
    numbers, labels = track.requests(), track.examples("forget").labels
    records = [call.record for call in calls if call.record is not None]
    right = [record.forget_logits[0].argmax(axis=1) == labels for record in records]
    forgotten = [each[numbers <= number].mean() for number, each in enumerate(right)]
    others = [[record.accuracy_on(name)[0] for name in ("retain", "test")] for record in records]
    return Requests(
        seconds=np.array([call.finished.seconds for call in calls]),
        state_bytes=np.array([call.state_bytes for call in calls]),
        accuracy=np.column_stack([others, forgotten]),
        forget_logits=np.concatenate([record.forget_logits for record in records]),
    )
