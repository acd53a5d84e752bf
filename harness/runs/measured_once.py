"""What is measured once per machine and kept: by one process at a time, else each would measure the others' load."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.environment import require_writable
from harness.locks import locked
from harness.seal import whole

__all__ = ["measured_once"]

Found = TypeVar("Found")


def measured_once(
    path: Path,
    read: Callable[[Path], Found],
    measure: Callable[[], Found],
    on_wait: Callable[[], None] = lambda: None,
) -> Found:
    """Return what a file holds that is whole; else what `measure` returns, which writes the file.

    No two processes of a machine measure at once for files in one folder. on_wait: is called before it waits for one.
    """
    was_there = path.exists()
    if (stored := whole(path, read)) is not None:
        return stored
    require_writable(path.parent)
    with locked(path.with_name(f".{platform.node()}.lock"), on_wait=on_wait):
        stored = None if was_there else whole(path, read)  # that one is damaged is said once
        return measure() if stored is None else stored
