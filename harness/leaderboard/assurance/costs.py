"""What a competition will take, before anyone is promised anything: hours, days and disk from what was measured here.

Every figure says where it comes from: measured on this machine, given, computed, or assumed.
"""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.accelerator import of
from harness.record import record_bytes
from harness.runner.outcome import Outcome
from harness.runs.run import Limit, Run
from harness.runs.run_set import N_SWAPPED
from harness.runs.store import Results, first_runs
from harness.scoring.thresholds import FEWEST_RANKED
from harness.tracks.track import Track

__all__ = ["Figure", "Request", "StoredRuns", "costs", "stored_runs"]

RUNS_READ = 8  # of each stored submission: enough for a mean over submissions
HOUR, DAY = 3600, 86400


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    teams: int
    tries: int  # of each team, over the whole competition
    runs: int  # of each try
    workers: int  # runs at once: GPUs, or processes on a CPU


@dataclass(frozen=True)
class StoredRuns:
    """What runs on this track took here: seconds and bytes in the mean over submissions, the rest in the median."""

    n_submissions: int
    n_runs: int
    seconds: float  # on a participant's clock
    around: float | None  # seconds around that: start, measuring; the median of all runs, None if none of them says
    bytes: float  # of one run on disk


@dataclass(frozen=True)
class Figure:
    """One line of a plan."""

    name: str
    value: float
    unit: str
    origin: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def stored_runs(home: Path, track: Track, device: str) -> StoredRuns | None:
    """Return what the runs that are stored on this machine took, or None if there are none that ended well."""
    read = [_read(folder) for folder in sorted(Results.cache(home, track).glob(f"*-{device}-v*"))]
    found = [runs for runs in read if runs]
    if not found:
        return None
    around = [
        run.info.whole_seconds - run.seconds
        for runs in found
        for run in runs.values()
        if run.info.whole_seconds is not None
    ]
    return StoredRuns(
        n_submissions=len(found),
        n_runs=sum(map(len, found)),
        seconds=statistics.mean(statistics.mean(run.seconds for run in runs.values()) for runs in found),
        # The first run of each command waits for imports, which in a batch of many nobody does.
        around=statistics.median(around) if around else None,
        bytes=statistics.mean(statistics.mean(path.stat().st_size for path in runs) for runs in found),
    )


def _read(folder: Path) -> dict[Path, Run]:
    """Return the first runs in one results folder that ended well, by their files."""
    return {path: run for path, run in first_runs(folder, RUNS_READ) if run.outcome == Outcome.OK}


def costs(request: Request, track: Track, device: str, limit: Limit, stored: StoredRuns | None) -> list[Figure]:
    """Return what so many tries take, line by line: first what a run takes, then all of them."""
    return [*_a_run(track, limit, stored), *_all_runs(request, track, device, limit, stored)]


def _a_run(track: Track, limit: Limit, stored: StoredRuns | None) -> Iterator[Figure]:
    where = "the track's own" if limit.calibration is None else f"measured: {limit.fraction:.0%} of one training"
    yield Figure("time limit of a run", limit.seconds, "s", where)
    if stored is None:
        return
    origin = f"measured: {stored.n_runs} stored runs of {stored.n_submissions} submissions"
    yield Figure("mean time of a run", stored.seconds, "s", origin)
    if stored.around is not None:
        yield Figure("around a run", stored.around, "s", f"{origin}; start and measuring, on no clock")


def _all_runs(request: Request, track: Track, device: str, limit: Limit, stored: StoredRuns | None) -> Iterator[Figure]:
    worker = "GPU" if of(device).is_gpu else "CPU worker"
    submissions, each = request.teams * request.tries, _with_swapped(request.runs)
    extra = f", and {each - request.runs} more for an alarm" if each > request.runs else ""
    yield Figure("submissions", submissions, "", f"given: {request.teams} teams x {request.tries} tries")
    yield Figure("runs", submissions * each, "", f"given: {request.runs} each{extra}")
    around = 0.0 if stored is None else stored.around or 0.0
    uncounted = "" if around else "; what is around a run is not known yet and not counted"
    cases = [(", at most", limit.seconds, f"assumed: every run takes its whole limit{uncounted}")]
    if stored is not None:
        cases.append(("", stored.seconds, f"assumed: runs take what stored ones took{uncounted}"))
    for which, seconds, origin in cases:
        total = submissions * each * (seconds + around)
        yield Figure(f"{worker} hours{which}", total / HOUR, "h", origin)
        yield Figure(
            f"days{which}", total / DAY / request.workers, "d", f"computed: {request.workers} at once, no pause"
        )
    if request.runs > FEWEST_RANKED:
        first = submissions * _with_swapped(FEWEST_RANKED) * (cases[-1][1] + around)
        origin = f"computed: {FEWEST_RANKED} runs each; with --boundary most get no more"
        yield Figure(f"{worker} hours, first stage", first / HOUR, "h", origin)
    per_run, origin = _bytes(track, stored)
    yield Figure("disk", submissions * each * per_run / 1e9, "GB", f"{origin}, {per_run / 1e6:.2f} MB each")


def _with_swapped(runs: int) -> int:
    return runs + (N_SWAPPED if runs >= FEWEST_RANKED else 0)


def _bytes(track: Track, stored: StoredRuns | None) -> tuple[float, str]:
    """Return the bytes of a stored run, and how they are known."""
    if stored is not None:
        return stored.bytes, "measured: stored runs"
    sizes = {name: len(examples) for name, examples in track.recorded().items()}
    return float(record_bytes(sizes, track.manifest.n_classes)), "computed: the arrays of a record"
