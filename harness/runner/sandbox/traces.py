"""What a run leaves in the kernel's memory of files: names that it looked up, pages that it read.

All runs see the system's files, so what one run has looked up is answered faster to the next, which can be told apart.
The kernel charges that memory to the cgroup of the run. When the run is dead the cgroup is made to give it all back,
and a name that was looked up in the run, before any line of the submission, says whether it did.
"""

import ctypes
import errno
import os
import secrets

from harness.runner.sandbox.syscalls import AT_FDCWD, syscall

__all__ = ["can_be_asked", "is_kept", "leave", "new_name"]

FOLDER = "/usr"  # of the machine's own; runs see it at the same path
SYS_OPENAT2 = 437
RESOLVE_CACHED = 0x20  # answer from memory alone, or EAGAIN


class OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def can_be_asked() -> bool:
    """Whether this kernel says which names it has in memory: not before Linux 5.12, and not of every file system."""
    name = new_name()
    leave(name)
    try:
        return is_kept(name)
    except OSError:
        return False


def new_name() -> str:
    """Return the path of a file that is not there, and that nobody has looked up."""
    return f"{FOLDER}/.{secrets.token_hex(16)}"


def leave(path: str) -> None:
    """Look a path up, as a run does."""
    os.path.exists(path)


def is_kept(path: str) -> bool:
    """Whether the kernel still knows that a file is not there. Raises OSError where it cannot be asked."""
    how = OpenHow(os.O_PATH, 0, RESOLVE_CACHED)
    try:
        os.close(syscall(SYS_OPENAT2, AT_FDCWD, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EAGAIN):
            raise
        return error.errno == errno.ENOENT
    return True
