"""Landlock: which files a run may open and how, by rules of the kernel that hold whatever the permissions say.

A second line behind the new root where there is one, the first where there is none. It covers neither `stat` nor
connecting to a socket by its path.
"""

import ctypes
import os
import stat
from collections.abc import Iterable

from harness.runner.sandbox.syscalls import syscall

__all__ = ["SIGNAL_SCOPE_ABI", "abi", "restrict"]

SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446
VERSION, RULE_PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK, REFER, TRUNCATE, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
BASE_RIGHTS = (1 << 13) - 1  # of ABI 1
NETWORK_RIGHTS = 0b11  # bind and connect by TCP, from ABI 4 on
SCOPES = 0b11  # abstract unix sockets and signals of others, from ABI 6 on
SIGNAL_SCOPE_ABI = 6

READ = READ_FILE | READ_DIR
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # what a rule on anything but a folder may hold


def abi() -> int:
    """Return the version of Landlock this kernel has, 0 if none."""
    try:
        return syscall(SYS_CREATE_RULESET, 0, 0, VERSION)
    except OSError:
        return 0


def restrict(
    *,
    programs: Iterable[str],
    readable: Iterable[str],
    writable: Iterable[str],
    devices: Iterable[str],
    rewritable: Iterable[str],
) -> None:
    """Leave this process reading and executing below `programs`, and all but devices and programs below `writable`.

    readable: to be read only. devices: to be read, written and controlled. rewritable: folders whose files may be read,
    written and emptied but not made.
    Needs no-new-privileges. Raises OSError.
    """
    version = abi()
    handled = _file_rights(version)
    attributes = [handled, NETWORK_RIGHTS if version >= 4 else 0, SCOPES if version >= 6 else 0]
    size = 8 if version < 4 else 16 if version < 6 else 24
    content = (ctypes.c_uint64 * 3)(*attributes)
    ruleset = syscall(SYS_CREATE_RULESET, ctypes.byref(content), size, 0)
    all_but_devices_and_programs = handled & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV | EXECUTE)
    for paths, rights in (
        (programs, READ | EXECUTE),
        (readable, READ),
        (writable, all_but_devices_and_programs),
        (devices, DEVICE),
        (rewritable, READ | WRITE_FILE | TRUNCATE),
    ):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    syscall(SYS_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _file_rights(version: int) -> int:
    """Return every right to files the version knows: what is handled and not allowed by a rule is refused."""
    rights = BASE_RIGHTS
    for right, since in ((REFER, 2), (TRUNCATE, 3), (IOCTL_DEV, 5)):
        rights |= right if version >= since else 0
    return rights


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= FILE_RIGHTS
    rule = (ctypes.c_char * 12).from_buffer_copy(rights.to_bytes(8, "little") + descriptor.to_bytes(4, "little"))
    syscall(SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    os.close(descriptor)
