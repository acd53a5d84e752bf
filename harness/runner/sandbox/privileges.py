"""What a run may do as a process: its user, capabilities, resource limits, and its end with its parent."""

import ctypes
import errno
import os
import resource
import signal
from pathlib import Path

from harness.runner.sandbox.plan import Plan
from harness.runner.sandbox.syscalls import capset_none, prctl

__all__ = ["be_dumpable", "die_with_parent", "drop", "is_root", "no_new_privileges", "status"]

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

MB = 1 << 20
FIRST_USER, N_USERS = 300_000, 100_000  # ids set aside for runs
PER_USER_NAMESPACE = (5, 14)  # from this kernel on RLIMIT_NPROC counts within a user namespace


def is_root() -> bool:
    """Whether this process may give runs users of their own: root, and not only in a namespace that has none."""
    ranges = (tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines())
    has_users = any(first <= FIRST_USER and first + count >= FIRST_USER + N_USERS for first, _, count in ranges)
    return os.geteuid() == 0 and has_users


def drop(plan: Plan, *, time_limit_seconds: float, threads: int) -> None:
    """Become nobody in particular, for good; read all of it back. Raises OSError or RuntimeError."""
    os.umask(0o077)
    if _has_capabilities(plan):
        _empty_bounding_set()  # before the user changes: afterwards it would fail
    if plan.user is not None:
        os.setgroups([])
        os.setresgid(plan.user, plan.user, plan.user)
        os.setresuid(plan.user, plan.user, plan.user)
    for limit, value in limits(plan, time_limit_seconds=time_limit_seconds, threads=threads).items():
        resource.setrlimit(limit, (value, value))
        if resource.getrlimit(limit) != (value, value):
            raise RuntimeError(f"resource limit {limit} is not {value}")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    capset_none()
    no_new_privileges()
    die_with_parent()  # after the user: a change of user clears it
    prctl(PR_SET_DUMPABLE, 0)
    _check(plan)


def _has_capabilities(plan: Plan) -> bool:
    """Whether there is anything to drop: as root, and in a user namespace of its own."""
    return plan.user is not None or plan.has_namespaces


def limits(plan: Plan, *, time_limit_seconds: float, threads: int) -> dict[int, int]:
    """Return the resource limits of every process of a run."""
    # Processor time is the harness's clock's to limit; this ends what should outlive it in spite of everything.
    cpu_seconds = int(4 * time_limit_seconds * threads) + 10
    file_bytes = max(1024 * MB, plan.memory_bytes) if plan.gpu else 1024 * MB  # what CUDA pins may be a file in memory
    values = {
        resource.RLIMIT_NOFILE: 1024,
        # Not 0: a machine may hand what crashes to a program of its own, as root, whatever the limit is, but for 1.
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_MEMLOCK: 64 * MB,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_STACK: 64 * MB,
    }
    if _counts_own_processes_only(plan):
        values[resource.RLIMIT_NPROC] = plan.processes
    if not plan.has_cgroup and not plan.gpu:
        # Never RLIMIT_AS, nor this one on a GPU: CUDA reserves address space far beyond what it uses.
        values[resource.RLIMIT_DATA] = plan.memory_bytes + _data_bytes()
    return {limit: min(value, _hard(limit)) for limit, value in values.items()}


def _hard(limit: int) -> int:
    """Return what a limit may be set to without a capability."""
    hard = resource.getrlimit(limit)[1]
    return 1 << 62 if hard == resource.RLIM_INFINITY else hard


def _counts_own_processes_only(plan: Plan) -> bool:
    """Whether RLIMIT_NPROC, which counts by user, would count this harness's runs and nobody else."""
    if plan.user is not None:
        return True
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return plan.has_namespaces and release >= PER_USER_NAMESPACE


def _data_bytes() -> int:
    """Return what the process has mapped already, inherited from the zygote."""
    return int(status()["VmData"].split()[0]) * 1024


def _empty_bounding_set() -> None:
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the kernel knows no more of them
                raise
            return


def no_new_privileges() -> None:
    """Let no program run from here on gain privileges: set-user-id bits mean nothing."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def be_dumpable() -> None:
    """Let /proc/self belong to the run's own user again."""
    prctl(PR_SET_DUMPABLE, 1)


def status() -> dict[str, str]:
    """Return /proc/self/status by name."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _check(plan: Plan) -> None:
    """Read back what was dropped. Raises RuntimeError."""
    found = status()
    expected = {"NoNewPrivs": "1"}
    no_capabilities = ["CapInh", "CapPrm", "CapEff", "CapAmb"]
    if _has_capabilities(plan):
        no_capabilities.append("CapBnd")
    expected |= dict.fromkeys(no_capabilities, "0" * 16)
    if plan.user is not None:
        expected |= {"Uid": "\t".join([str(plan.user)] * 4), "Gid": "\t".join([str(plan.user)] * 4), "Groups": ""}
    wrong = [f"{name} is {found[name]!r}" for name, value in expected.items() if found[name] != value]
    if prctl(PR_GET_DUMPABLE) != 0:
        wrong.append("the process is dumpable")
    death_signal = ctypes.c_int()
    prctl(PR_GET_PDEATHSIG, ctypes.addressof(death_signal))
    if death_signal.value != signal.SIGKILL:
        wrong.append("the process outlives its parent")
    if wrong:
        raise RuntimeError(", ".join(wrong))
