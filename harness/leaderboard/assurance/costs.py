"""What a competition will take, before anyone is promised anything: hours, days and disk from what was measured here.

Every figure says where it comes from: measured on this machine, given, computed, or assumed.
"""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.accelerator import of
from harness.runner.outcome import Outcome
from harness.runs.learner_runs import N_TWINS, trainings_of
from harness.runs.run import Limit, Run, percent
from harness.runs.run_set import N_SWAPPED
from harness.runs.stage import Stage
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
    learners: int = 0  # of all tries: each takes trainings beside its runs


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


def stored_runs(home: Path, track: Track, device: str, stage: Stage = Stage.RUN) -> StoredRuns | None:
    """Return what the runs that are stored on this machine took, or None if there are none that ended well."""
    read = [_read(folder, stage) for folder in sorted(Results.cache(home, track).glob(f"*-{device}-v*"))]
    found = [runs for runs in read if runs]
    if not found:
        return None
    around = [
        run.info.whole_seconds - sum(run.request_seconds)
        for runs in found
        for run in runs.values()
        if run.info.whole_seconds is not None
    ]
    return StoredRuns(
        n_submissions=len(found),
        n_runs=sum(map(len, found)),
        seconds=statistics.mean(statistics.mean(sum(run.request_seconds) for run in runs.values()) for runs in found),
        # The first run of each command waits for imports, which in a batch of many nobody does.
        around=statistics.median(around) if around else None,
        bytes=statistics.mean(statistics.mean(path.stat().st_size for path in runs) for runs in found),
    )


def _read(folder: Path, stage: Stage) -> dict[Path, Run]:
    """Return the first runs in one results folder that ended well, by their files."""
    return {path: run for path, run in first_runs(folder, RUNS_READ, stage) if run.outcome == Outcome.OK}


def costs(
    request: Request,
    track: Track,
    device: str,
    limit: Limit,
    stored: StoredRuns | None,
    stored_trainings: StoredRuns | None = None,
) -> list[Figure]:
    """Return what so many tries take, line by line: first what a run takes, then all of them.

    stored, stored_trainings: what runs of `unlearn`, and originals of learners, took here.
    """
    trainings = _Trainings(request, track, limit, stored_trainings)
    first = [*_a_run(track, limit, stored), *(trainings.one() if request.learners else ())]
    return [*first, *_all_runs(request, track, device, limit, stored, trainings)]


@dataclass(frozen=True)
class _Trainings:
    """What the trainings of learners take."""

    request: Request
    track: Track
    limit: Limit
    stored: StoredRuns | None

    def one(self) -> Iterator[Figure]:
        """Yield what one of them takes."""
        times = self.track.declaration.limits.train_limit
        yield Figure("time limit of a training", self.most, "s", f"computed: {times:g} x one by the track's recipe")
        if self.stored is not None:
            origin = f"measured: {self.stored.n_runs} stored originals of {self.stored.n_submissions} learners"
            yield Figure("mean time of a training", self.stored.seconds, "s", origin)

    @property
    def most(self) -> float:
        """The seconds that one may take in the mean."""
        return self.track.declaration.limits.train_limit * self.limit.ordinary_training

    @property
    def expected(self) -> float:
        """The seconds that one takes: as stored ones, or as one by the recipe."""
        return self.limit.ordinary_training if self.stored is None else self.stored.seconds

    @property
    def assumed(self) -> str:
        """What is assumed of the time of one, beside that stored ones tell it."""
        is_told = self.stored is not None or not self.request.learners
        return "" if is_told else ", trainings what one by the recipe does"

    @property
    def around(self) -> float:
        """The seconds around one."""
        return 0.0 if self.stored is None else self.stored.around or 0.0

    def count(self, runs: int) -> int:
        """Return how many there are, with so many runs of each learner."""
        return self.request.learners * sum(trainings_of(runs).values())

    @property
    def said_of_states(self) -> str:
        """How the states that are kept of originals are known."""
        if not self.request.learners:
            return ""
        if self.stored is not None:
            return f"; of an original {self.stored.bytes / 1e6:.2f} MB, measured"
        return f"; a state of {self.track.declaration.limits.state_mb} MB of every original, assumed"

    def bytes(self, per_run: float) -> float:
        """Return what they leave: records of runs, and of originals the state as well, at most if none is stored."""
        n_originals = self.request.learners * self.request.runs
        most = per_run + self.track.declaration.limits.state_mb * 2.0**20
        original = most if self.stored is None else self.stored.bytes
        return (self.count(self.request.runs) - n_originals) * per_run + n_originals * original


def _a_run(track: Track, limit: Limit, stored: StoredRuns | None) -> Iterator[Figure]:
    where = "the track's own" if limit.calibration is None else f"measured: {percent(limit.fraction)} of one training"
    requests = track.declaration.forget.requests
    yield Figure(f"time limit of a {'run' if requests == 1 else 'request'}", limit.seconds, "s", where)
    if requests > 1:
        yield Figure("requests of a run", requests, "", "given: of the track")
    if stored is None:
        return
    origin = f"measured: {stored.n_runs} stored runs of {stored.n_submissions} submissions"
    yield Figure("mean time of a run", stored.seconds, "s", origin)
    if stored.around is not None:
        yield Figure("around a run", stored.around, "s", f"{origin}; start and measuring, on no clock")


def _all_runs(
    request: Request, track: Track, device: str, limit: Limit, stored: StoredRuns | None, trainings: _Trainings
) -> Iterator[Figure]:
    worker = "GPU" if of(device).is_gpu else "CPU worker"
    submissions, each = request.teams * request.tries, _with_swapped(request.runs)
    extra = f", and {each - request.runs} more for an alarm" if each > request.runs else ""
    yield Figure("submissions", submissions, "", f"given: {request.teams} teams x {request.tries} tries")
    yield Figure("runs", submissions * each, "", f"given: {request.runs} each{extra}")
    if request.learners:
        parts = f"computed: {request.learners} learners x (3 x {request.runs} + {min(N_TWINS, request.runs)})"
        yield Figure("trainings", trainings.count(request.runs), "", parts)
    around = 0.0 if stored is None else stored.around or 0.0
    uncounted = "" if around else "; what is around a run is not known yet and not counted"
    most = (limit.seconds * track.declaration.forget.requests, trainings.most)
    cases = [(", at most", most, f"assumed: every run takes its whole limit{uncounted}")]
    if stored is not None:
        expected = (stored.seconds, trainings.expected)
        cases.append(("", expected, f"assumed: runs take what stored ones took{trainings.assumed}{uncounted}"))
    for which, seconds, origin in cases:
        total = _seconds(request.runs, seconds, submissions, around, trainings)
        yield Figure(f"{worker} hours{which}", total / HOUR, "h", origin)
        yield Figure(
            f"days{which}", total / DAY / request.workers, "d", f"computed: {request.workers} at once, no pause"
        )
    if request.runs > FEWEST_RANKED:
        first = _seconds(FEWEST_RANKED, cases[-1][1], submissions, around, trainings)
        origin = f"computed: {FEWEST_RANKED} runs each; with --boundary most get no more"
        yield Figure(f"{worker} hours, first stage", first / HOUR, "h", origin)
    per_run, origin = _bytes(track, stored)
    total_bytes = submissions * each * per_run + trainings.bytes(per_run)
    yield Figure("disk", total_bytes / 1e9, "GB", f"{origin}, {per_run / 1e6:.2f} MB each{trainings.said_of_states}")


def _seconds(runs: int, seconds: tuple[float, float], submissions: int, around: float, trainings: _Trainings) -> float:
    """Return what so many runs of each submission take, with all trainings; seconds: of one run, of one training."""
    of_run, of_training = seconds
    of_runs = submissions * _with_swapped(runs) * (of_run + around)
    return of_runs + trainings.count(runs) * (of_training + trainings.around)


def _with_swapped(runs: int) -> int:
    return runs + (N_SWAPPED if runs >= FEWEST_RANKED else 0)


def _bytes(track: Track, stored: StoredRuns | None) -> tuple[float, str]:
    """Return the bytes of a stored run, and how they are known."""
    if stored is not None:
        return stored.bytes, "measured: stored runs"
    computed = track.record_bytes(requests=track.declaration.forget.requests)
    return float(computed), "computed: the arrays of a record"
