"""What runs are made under on this machine: limits of the track, the time limit as it is here, isolation, jobs."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.accelerator import of
from harness.environment import environment, packages_hash
from harness.errors import UsageError
from harness.runner.isolation import Isolation
from harness.runs.calibration import calibrate
from harness.runs.floor import floor_seconds
from harness.runs.run import Conditions, Limit, percent
from harness.tracks.track import Track

__all__ = ["Announce", "conditions_here", "require_share"]

Announce = Callable[[str], None]  # hears, in a sentence, of a measurement that begins
WAITING = "waiting for another command here, which is measuring: two at once would slow each other down ..."
MOST_TRAININGS = 100.0  # that a run may be given: what takes longer is no unlearning


def conditions_here(
    track: Track,
    home: Path,
    *,
    device: str,
    isolation: Isolation,
    jobs: int | None = None,
    time_limit: float | None = None,
    may_run: bool = True,
    announce: Announce = lambda sentence: None,
) -> Conditions:
    """Return what runs are made under; the time limit is measured if this machine has not been calibrated yet.

    time_limit: another share of a training than the track's. may_run: False if nothing is to be run, and so nothing
    measured. Raises UsageError.
    """
    threads = track.declaration.limits.threads
    jobs = jobs or of(device).default_jobs(threads)
    if not may_run:
        return Conditions(None, isolation, device, threads=threads, jobs=jobs)
    track.require_private()  # before a measurement that would be in vain
    require_share(time_limit)
    limit = _limit(track, home, device, jobs, time_limit, announce)
    conditions = Conditions(limit, isolation, device, of(device).identity, threads, jobs)
    conditions = replace(conditions, dependencies=_dependencies(track, limit, conditions))
    if limit.calibration is None:
        return conditions
    floor = floor_seconds(track, home, conditions, lambda: announce(WAITING))
    return replace(conditions, limit=replace(limit, floor_seconds=floor))


def require_share(time_limit: float | None) -> None:
    """Raise UsageError unless a time limit, if one is given, is a share of a training that runs can be given."""
    if time_limit is not None and not 0 < time_limit <= MOST_TRAININGS:
        raise UsageError(f"--time-limit takes a share of a training above 0, up to {MOST_TRAININGS:g}, such as 0.1")


def _dependencies(track: Track, limit: Limit, conditions: Conditions) -> str:
    """Return a hash of what may have to change for a file that failed to run: packages, limits, device, isolation."""
    found = {
        **environment(),
        "packages": packages_hash(),
        "gpu": conditions.gpu,
        "isolation": conditions.isolation.level,
        "seconds": limit.seconds,
        "limits": track.declaration.limits.model_dump(),
    }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _limit(track: Track, home: Path, device: str, jobs: int, fraction: float | None, announce: Announce) -> Limit:
    limits = track.declaration.limits
    share = limits.time_limit_fraction if fraction is None else fraction
    if limits.seconds is not None:
        seconds = limits.seconds * share / limits.time_limit_fraction
        return Limit(seconds, share, is_overridden=fraction is not None)
    trainings = f"{jobs} trainings at once" if jobs > 1 else "trainings"
    announcement = f"timing {trainings}, once per machine: a run may use {percent(share)} of one ..."
    calibration = calibrate(
        track,
        home,
        device=device,
        threads=limits.threads,
        jobs=jobs,
        on_start=lambda: announce(announcement),
        on_estimate=lambda seconds: announce(f"... that takes {_duration(seconds)}, and is kept for the next time"),
        on_wait=lambda: announce(WAITING),
    )
    return Limit(
        seconds=share * calibration.training_seconds,
        fraction=share,
        is_overridden=fraction is not None,
        training_seconds=calibration.training_seconds,
        calibration=calibration.id,
    )


def _duration(seconds: float) -> str:
    return f"about {max(1, round(seconds))} s" if seconds < 100 else f"about {seconds / 60:.0f} minutes"
