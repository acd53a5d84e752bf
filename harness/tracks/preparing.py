"""The lock of a track's folder, which one process at a time holds while it makes or replaces the track.

Whoever gets it finds the track in its place, also where a replacement was interrupted.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError
from harness.locks import LockedError, locked
from harness.storage import restore_folder

__all__ = ["preparing"]


@contextlib.contextmanager
def preparing(place: Path, *, waits: bool = False) -> Iterator[None]:
    """Hold the lock of the folder that a track has or will have.

    waits: until no other process holds it; else UsageError is raised if one does.
    """
    try:
        with locked(place.with_name(f".{place.name}.lock"), waits=waits):
            restore_folder(place)
            yield
    except LockedError:
        raise UsageError("another process is preparing this track; wait for it, then run the command again") from None
