"""System calls the standard library has no function for. Each returns the call's value and raises OSError naming it."""

import ctypes
import os
from typing import Any

__all__ = [
    "AT_FDCWD",
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "capset_none",
    "invoke",
    "mount",
    "mount_setattr",
    "pivot_root",
    "prctl",
    "setns",
    "syscall",
    "umount2",
    "unshare",
]

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SYS_MOUNT_SETATTR = 442  # as all calls from 424 on, the same number on every architecture
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def invoke(name: str, *arguments: Any) -> int:
    """Call a function of the C library that returns -1 and sets errno when it fails."""
    result = int(getattr(_libc, name)(*arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: Any) -> int:
    """Make a system call by its number; integers go as 64 bits."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return invoke("syscall", ctypes.c_long(number), *wide)


def unshare(flags: int) -> None:
    """Leave the namespaces of CLONE_NEW* flags for new ones."""
    invoke("unshare", ctypes.c_int(flags))


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace a descriptor refers to."""
    invoke("setns", ctypes.c_int(descriptor), ctypes.c_int(kind))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount, bind, or change what is mounted on target, as mount(2)."""
    names = [None if name is None else os.fsencode(name) for name in (source, target, kind)]
    try:
        invoke("mount", *names, ctypes.c_ulong(flags), options.encode())
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({source} on {target})") from None


def umount2(target: str, flags: int) -> None:
    """Unmount."""
    invoke("umount2", os.fsencode(target), ctypes.c_int(flags))


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root; what was the root is seen at `old`."""
    invoke("pivot_root", os.fsencode(new), os.fsencode(old))


def mount_setattr(target: str, attributes: int) -> None:
    """Set MOUNT_ATTR_* on a mount and on all below it."""

    class MountAttr(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]

    what = MountAttr(attr_set=attributes)
    size = ctypes.sizeof(what)
    syscall(SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(target), AT_RECURSIVE, ctypes.byref(what), size)


def prctl(option: int, *arguments: int) -> int:
    """Set or get an attribute of this process."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    return invoke("prctl", ctypes.c_int(option), *map(ctypes.c_ulong, padded))


def capset_none() -> None:
    """Give up all effective, permitted and inheritable capabilities."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    invoke("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
