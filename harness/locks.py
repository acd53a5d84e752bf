"""Locks between processes that share a folder, also of several machines where its file system has them."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import MachineError

__all__ = ["LockedError", "locked"]

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class LockedError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: Path, *, waits: bool = True, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock that a file stands for; its folder is made.

    waits: until it is free; else LockedError is raised if it is not. on_wait: is called before it waits. Raises
    MachineError if there are no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        _acquire(lock, waits, on_wait)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
            raise
        message = f"{path.parent} has no locks ({error}), as some network drives have none"
        raise MachineError(f"{message}: set HARNESS_HOME to a folder on another one") from None
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, waits: bool, on_wait: Callable[[], None]) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not waits:
            raise LockedError from None
        on_wait()
        lock.acquire()
