"""The filter in front of every system call of a run: allowed unless listed, refused by name or by argument.

Put on last, since the steps before it need calls it refuses. It cannot be taken off, and all children inherit it.
"""

import ctypes
import errno
import hashlib
import platform
import struct

from harness.runner.sandbox.seccomp_tables import ARCHITECTURES, DENIED, LOOKED_AT
from harness.runner.sandbox.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    prctl,
)

__all__ = ["install", "is_supported", "program", "program_hash"]

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # put input into a terminal
NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
X32_BIT = 0x40000000
RWF_NOWAIT = 0x8
F_NOTIFY = 1026

# Classic BPF over struct seccomp_data: number (at 0), architecture (at 4), arguments of 8 bytes (from 16 on).
LOAD, IF_EQUAL, IF_AT_LEAST, IF_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
ALLOW, KILL, FAIL_WITH = 0x7FFF0000, 0x80000000, 0x00050000  # SECCOMP_RET_ALLOW, _KILL_PROCESS, _ERRNO

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false (both: instructions to skip), value


def is_supported() -> bool:
    """Whether there is a table for this machine's architecture."""
    return platform.machine() in ARCHITECTURES


def program(machine: str, *, has_pid_namespace: bool) -> bytes:
    """Return the filter for an architecture as the kernel takes it.

    Without a pid namespace, resource limits of other processes are out of bounds as well.
    """
    architecture = ARCHITECTURES[machine]
    numbers = {name: both[architecture.column] for name, both in (DENIED | LOOKED_AT).items()}

    code: list[Instruction] = [(LOAD, 0, 0, ARCHITECTURE), (IF_EQUAL, 1, 0, architecture.audit), (RETURN, 0, 0, KILL)]
    code += [(LOAD, 0, 0, NUMBER)]
    if architecture.has_x32:
        code += [(IF_AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, KILL)]
    # A jump reaches 255 instructions at most, so each test has a return of its own.
    refused = [(name, errno.EPERM) for name in DENIED]
    refused += [("clone3", errno.ENOSYS), ("openat2", errno.ENOSYS)]  # their flags lie behind a pointer
    refused += [("fadvise64", 0)]  # an advice that is not followed: files all runs share stay in memory, or do not
    for name, error in refused:
        if (number := numbers[name]) is not None:
            code += [(IF_EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL_WITH | error)]

    code += _by_argument(numbers["clone"], 0, [(IF_BITS, 0, 1, NAMESPACES), (RETURN, 0, 0, FAIL_WITH | errno.EPERM)])
    for name in ("socket", "socketpair"):
        only_unix = [(IF_EQUAL, 1, 0, AF_UNIX), (RETURN, 0, 0, FAIL_WITH | errno.EAFNOSUPPORT)]
        code += _by_argument(numbers[name], 0, only_unix)
    for request in (TIOCSTI, TIOCLINUX):
        is_refused = [(IF_EQUAL, 0, 1, request), (RETURN, 0, 0, FAIL_WITH | errno.EPERM)]
        code += _by_argument(numbers["ioctl"], 1, is_refused)
    watching = [(IF_EQUAL, 0, 1, F_NOTIFY), (RETURN, 0, 0, FAIL_WITH | errno.EPERM)]  # what inotify came after
    code += _by_argument(numbers["fcntl"], 1, watching)
    # Not to be told what is in memory already, since earlier runs put it there.
    unasked = [(IF_BITS, 0, 1, RWF_NOWAIT), (RETURN, 0, 0, FAIL_WITH | errno.EOPNOTSUPP)]
    code += _by_argument(numbers["preadv2"], 5, unasked)
    if not has_pid_namespace:
        only_own = [(IF_EQUAL, 1, 0, 0), (RETURN, 0, 0, FAIL_WITH | errno.EPERM)]
        code += _by_argument(numbers["prlimit64"], 0, only_own)
    code += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _by_argument(number: int | None, argument: int, tests: list[Instruction]) -> list[Instruction]:
    """Return tests of the low half of one argument, done for one call only; the number is loaded again after them.

    The kernel takes flags, families and requests as 32 bits, and so does this.
    """
    assert number is not None
    body = [(LOAD, 0, 0, ARGUMENTS + 8 * argument), *tests, (LOAD, 0, 0, NUMBER)]
    return [(IF_EQUAL, 0, len(body), number), *body]


def program_hash(*, has_pid_namespace: bool = True) -> str:
    """Return the sha256 of this machine's filter, for records."""
    return hashlib.sha256(program(platform.machine(), has_pid_namespace=has_pid_namespace)).hexdigest()


def install(*, has_pid_namespace: bool) -> None:
    """Put the filter on this process. Needs no-new-privileges, and no capability."""
    content = program(platform.machine(), has_pid_namespace=has_pid_namespace)
    instructions = ctypes.create_string_buffer(content, len(content))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]

    whole = Program(len(content) // 8, ctypes.addressof(instructions))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(whole))
