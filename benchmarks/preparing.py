"""Tracks that a study needs: prepared as `harness prepare` does, unless they are there."""

from pathlib import Path

import harness
from harness.cli.main import cli
from harness.errors import UsageError
from harness.tracks.track import Track
from harness.tracks.tuning_track import open_tuning_track

__all__ = ["track_for", "tuning_track_for"]


def track_for(name: str | Path, *, retrained: int, data: Path | None = None) -> Track:
    """Return a track by its name or file, with so many retrained models in each pool if it has to be prepared.

    data: a folder that has the images already. Raises click's errors, as the command does.
    """
    try:
        return harness.open_track(name)
    except UsageError:
        copy = () if data is None else ("--data", str(data))
        _prepare(str(name), "--retrained", str(retrained), *copy)
        return harness.open_track(name)


def tuning_track_for(track: Track, *, retrained: int) -> Track:
    """Return the track on which settings for a track are tuned, as `track_for` does."""
    try:
        return open_tuning_track(track)
    except UsageError:
        _prepare(track.name, "--for-tuning", "--retrained", str(retrained))
        return open_tuning_track(track)


def _prepare(*arguments: str) -> None:
    cli.main(["prepare", *arguments], prog_name="harness", standalone_mode=False)
