"""What a run that does nothing takes on the clock: no submission is faster, and every one pays it.

Between "go" and the end of the process lie the start of the file, the weights that are handed in, and the end of the
process itself, on a GPU with that of its context. Measured once for each calibration and level of isolation.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.runner.execution import execute
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runs.launchers import launcher_for
from harness.runs.measured_once import measured_once
from harness.runs.positions import ids_of_job
from harness.runs.run import RUNNER_VERSION, Conditions
from harness.runs.stream import sets_of_requests
from harness.seal import read_sealed, write_sealed
from harness.tracks.track import Track

__all__ = ["LARGE_SHARE", "floor_seconds"]

LARGE_SHARE = 0.05  # of the time limit: more is said beside the times
N_RUNS = 3
NOTHING = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"


def floor_seconds(
    track: Track, home: Path, conditions: Conditions, on_wait: Callable[[], None] = lambda: None
) -> float | None:
    """Return the median seconds of a run that does nothing, measured now if it is not stored, or not whole.

    None if such a run fails: whatever it is, the next run says it. on_wait: as of `measured_once`.
    """
    assert conditions.limit is not None, "runs need a time limit"
    name = f"{track.name}-{conditions.limit.calibration}-{conditions.isolation.level}-v{RUNNER_VERSION}"
    path = home / "calibration" / f"floor-{name}.json"

    def measure() -> float | None:
        if (seconds := _measured(track, conditions)) is None:
            return None
        median = statistics.median(seconds)
        write_sealed(path, {"median": median, "samples": seconds})
        return median

    return measured_once(path, _stored, measure, on_wait)


def _stored(path: Path) -> float | None:
    return float(read_sealed(path)["median"])


def _measured(track: Track, conditions: Conditions) -> list[float] | None:
    assert conditions.limit is not None
    n_values = sum(value.size for value in track.original(0).values() if value.dtype.kind == "f")
    seeds = {"torch": 0, "numpy": 0, "random": 0}
    job = Job(NOTHING, "nothing.py", 0, seeds, conditions.device, conditions.threads, conditions.limit.seconds)
    if requests := sets_of_requests(track):
        job = replace(job, given=ids_of_job(requests[0]))
    found = []
    for _ in range(N_RUNS):
        finished = execute(launcher_for(track, conditions), job, n_values=n_values)
        if finished.outcome != Outcome.OK:
            return None
        found.append(finished.seconds)
    return found
