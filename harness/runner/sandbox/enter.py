"""The way into the sandbox, one step after the other. Any step that fails ends the run; none is ever left out.

Called in the first process of a run, alone in its pid namespace where the level has one, with no descriptors but the
run's own. What comes after is inherited by every process of the run.
"""

import errno
import os
import socket
import stat

from harness.runner.sandbox import landlock, mounts, privileges, seccomp, traces
from harness.runner.sandbox.plan import Plan
from harness.runner.sandbox.syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    unshare,
)

__all__ = ["enter"]

NAMESPACES = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP


def enter(plan: Plan, *, scratch: str, time_limit_seconds: float, threads: int) -> None:
    """Put this process into the sandbox, reading every layer back. Raises OSError or RuntimeError."""
    os.umask(0o022)
    if plan.has_namespaces:
        unshare(NAMESPACES)
        mounts.enter_new_root(plan)
    if plan.trace:
        traces.leave(plan.trace)
    privileges.drop(plan, time_limit_seconds=time_limit_seconds, threads=threads)
    _restrict_files(plan, scratch)
    seccomp.install(has_pid_namespace=plan.has_namespaces)  # last: the steps above need calls it refuses
    _check(plan, scratch)


def _restrict_files(plan: Plan, scratch: str) -> None:
    """Put Landlock on. With a root of its own around a run it is the second line, and may be missing."""
    if landlock.abi() == 0 and plan.has_namespaces:
        return
    programs = _existing(*mounts.SYSTEM, *plan.packages)
    landlock.restrict(
        programs=programs,
        readable=["/" if plan.has_namespaces else "/proc"],
        writable=mounts.WRITABLE if plan.has_namespaces else [scratch, mounts.SHARED_MEMORY],
        devices=(*mounts.DEVICES, *plan.devices),
        # CUDA names its threads there, in files it opens with O_TRUNC; refused that, it does not start.
        rewritable=["/proc"] if plan.gpu else [],
    )


def _existing(*paths: str) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def _check(plan: Plan, scratch: str) -> None:
    """Read back what the layers do. Raises RuntimeError naming the one that does not."""
    if privileges.status()["Seccomp"] != "2":
        raise RuntimeError("seccomp: no filter")
    try:
        socket.socket(socket.AF_INET).close()
        raise RuntimeError("seccomp: a network socket was made")
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
    if landlock.abi() > 0:
        _check_landlock(scratch)
    if plan.has_namespaces:
        if writable := list(mounts.unexpected_mounts()):
            raise RuntimeError(f"mounts: {writable} can be written")
        if os.getpid() != 1:
            raise RuntimeError("pid namespace: this is not its first process")


def _check_landlock(scratch: str) -> None:
    """Try what only Landlock answers in this way: the kernel asks it before it looks at capabilities (EPERM)."""
    try:
        os.mknod(f"{scratch}/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except OSError as error:
        if error.errno != errno.EACCES:
            raise RuntimeError(f"Landlock: not in force ({error})") from None
    else:
        raise RuntimeError("Landlock: a device node was made")
