"""What this machine offers, found out by doing it: each layer in a process of its own, then each level as a whole.

python -s -P probe.py ROOT DEVICE LEVELS     started by `isolation`; writes JSON: {"layers": ..., "levels": ...,
"accelerator": ...}, the former by name, with null for what is there and the reason for what is not. LEVELS: `all`, or
`strongest`, to stop at that one.

The driver of a GPU is initialised, first without a sandbox, which "accelerator" tells of, then as the last act at each
level: a level where it cannot be is not there.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from harness.runner.sandbox.plan import Plan

SECONDS = 5  # after which an attempt counts as failed
DRIVER_SECONDS = 60  # of that for the driver, whose start takes up to 7 s
QUOTA = {"memory_mb": 256, "processes": 20, "scratch_mb": 16, "threads": 1}
DRIVER_QUOTA = QUOTA | {"memory_mb": 4096, "processes": 100}
READY, FAILED = b"ready", b"failed: "
OPEN_NODES = "load its kernel module with NVreg_DeviceFileMode=0666, or chmod 666 the nodes after each start"


def main() -> None:
    """Probe every layer, then enter every level."""
    root, device, only_strongest = sys.argv[1], sys.argv[2], sys.argv[3] == "strongest"
    sys.path.insert(0, root)
    from harness.accelerator import of
    from harness.runner.sandbox import gpu

    if device == "cuda":
        gpu.make_nodes()
    layers = {name: _reason(attempt) for name, attempt in _layers().items()}
    kind, unusable = of(device), None
    if kind.has_driver:
        unusable = _why_not_initialised(gpu.device_nodes(kind.node_patterns))
    uses_driver = kind.has_driver and unusable is None  # else no level is to blame
    levels: dict[str, str | None] = {}
    for level in ("full", "userns", "syscall"):
        enter = partial(_enter, level, device, uses_driver=uses_driver)
        levels[level] = _reason(enter, SECONDS + DRIVER_SECONDS if uses_driver else SECONDS)
        if levels[level] is None and only_strongest:
            break
    json.dump({"layers": layers, "levels": levels, "accelerator": unusable}, sys.stdout)


def _reason(attempt: Callable[[], None], seconds: int = SECONDS, *, name: str = "it") -> str | None:
    """Return why an attempt fails, made in a child that nothing is left of; None if it does not."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        said = READY
        try:
            signal.alarm(seconds)
            attempt()
        except Exception as error:  # noqa: BLE001 - every reason is as good
            said = FAILED + _told(error)
        theirs.send(said)
        os._exit(0)
    theirs.close()
    said = ours.recv(2000)
    ours.close()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not said:
        return f"{name} took more than {seconds} s" if code == -signal.SIGALRM else f"{name} ended with status {code}"
    return None if said == READY else said.removeprefix(FAILED).decode(errors="replace")


def _told(error: Exception) -> bytes:
    """Return what went wrong, without the number of the error."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return text.encode()[:1900]


def _layers() -> dict[str, Callable[[], None]]:
    from harness.runner.sandbox import syscalls
    from harness.runner.sandbox.privileges import is_root

    in_user_namespace = 0 if is_root() else syscalls.CLONE_NEWUSER
    namespaces = {
        "mount namespace": syscalls.CLONE_NEWNS,
        "pid namespace": syscalls.CLONE_NEWPID,
        "network namespace": syscalls.CLONE_NEWNET,
        "ipc namespace": syscalls.CLONE_NEWIPC,
    }
    users = {"own user id": _take_user_id} if is_root() else {"user namespace": _take_user_namespace}
    return {
        **users,
        **{name: partial(syscalls.unshare, flag | in_user_namespace) for name, flag in namespaces.items()},
        "cgroup": _make_cgroup,
        "processor quota": _has_processor_quota,
        "forgotten names": _can_ask_for_names,
        "Landlock": _has_landlock,
        "seccomp": _filter_calls,
    }


def _take_user_id() -> None:
    from harness.runner.sandbox.users import UserIds

    user = UserIds().next_id()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _take_user_namespace() -> None:
    from harness.runner.sandbox.processes import move_to_own_pid_namespace

    move_to_own_pid_namespace()


def _make_cgroup() -> None:
    from harness.runner.sandbox.cgroup import Cgroups

    cgroups = Cgroups()
    try:
        cgroup = cgroups.create(memory_bytes=QUOTA["memory_mb"] << 20, processes=QUOTA["processes"], threads=1)
        child = os.fork()
        if child == 0:
            signal.pause()
        try:
            cgroup.add(child)
            cgroup.oom_kills()
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            cgroup.remove()
    finally:
        cgroups.close()


def _has_processor_quota() -> None:
    from harness.runner.sandbox.cgroup import OPTIONAL, find_hierarchies

    if not any(OPTIONAL in one.controllers for one in find_hierarchies()):
        raise OSError(f"no cgroup controls {OPTIONAL} here")


def _can_ask_for_names() -> None:
    from harness.runner.sandbox import traces

    if not traces.can_be_asked():
        raise OSError("this kernel does not say which names of files it keeps, so that this cannot be checked")


def _has_landlock() -> None:
    from harness.runner.sandbox import landlock

    if landlock.abi() == 0:
        raise OSError("this kernel has none, or it is not switched on (lsm= on the kernel's command line)")
    if landlock.abi() < landlock.SIGNAL_SCOPE_ABI:
        raise OSError(f"version {landlock.abi()}; the level syscall takes {landlock.SIGNAL_SCOPE_ABI} (Linux 6.12)")


def _filter_calls() -> None:
    from harness.runner.sandbox import privileges, seccomp

    if not seccomp.is_supported():
        raise OSError(f"no table of system calls for {os.uname().machine}")
    privileges.no_new_privileges()
    seccomp.install(has_pid_namespace=True)


def _why_not_initialised(nodes: Iterable[str], plan: "Plan | None" = None) -> str | None:
    """Return why the driver of the GPU cannot be initialised here; None if it can. plan: of the level, inside one."""
    return _reason(partial(_initialise, nodes, plan), DRIVER_SECONDS, name="cuInit")


def _initialise(nodes: Iterable[str], plan: "Plan | None") -> None:
    """Initialise the driver as the process of a submission does. Raises OSError saying why it cannot be."""
    from harness import cuda_driver
    from harness.runner.sandbox import gpu, privileges

    if plan is not None:
        privileges.die_with_parent()
        privileges.be_dumpable()
    code = cuda_driver.initialisation_code()
    if code == 0:
        return
    if code is None and plan is not None:
        raise OSError(f"runs do not see {cuda_driver.LIBRARY}; add its folder to LD_LIBRARY_PATH")
    if code is not None and (closed := gpu.closed_node(nodes)) is not None:
        whose = "is closed to this user" if plan is None or plan.user is None else "runs have users of their own"
        raise OSError(f"{closed} and {whose}; {OPEN_NODES}")
    raise OSError(cuda_driver.meaning(code))


def _enter(level: str, device: str, *, uses_driver: bool) -> None:
    """Enter a level as a run does: a sandbox from the trusted side, a zygote, a first process. Raises OSError."""
    from harness.runner.sandbox.sandboxes import Quota, Sandboxes

    quota = Quota(**DRIVER_QUOTA if uses_driver else QUOTA)
    sandboxes = Sandboxes(level, quota, hidden=(), device=device)
    sandbox = sandboxes.new()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    zygote = os.fork()
    if zygote == 0:
        ours.close()
        _play_zygote(sandbox.plan, sandbox.scratch, theirs, uses_driver=uses_driver)
    theirs.close()
    try:
        said, descriptors, _, _ = socket.recv_fds(ours, 2000, 1)
        if descriptors:
            sandbox.admit(descriptors[0])
            ours.send(b"enter")
            said = ours.recv(2000)
    finally:
        ours.close()
        os.waitpid(zygote, 0)
        sandbox.close(was_killed=False)
        sandboxes.close()
    if said != READY:
        raise OSError(said.removeprefix(FAILED).decode(errors="replace") or "it ended before it was ready")


def _play_zygote(plan: "Plan", scratch: str, channel: socket.socket, *, uses_driver: bool) -> NoReturn:
    from harness.runner.sandbox import privileges
    from harness.runner.sandbox.enter import enter
    from harness.runner.sandbox.processes import fork_first, move_to_own_pid_namespace

    try:
        privileges.die_with_parent()
        if plan.has_namespaces:
            move_to_own_pid_namespace(closing=(channel.fileno(),))
        first = fork_first() if plan.has_namespaces else os.fork()
        if first != 0:
            socket.send_fds(channel, [b"pidfd"], [os.pidfd_open(first)])
            channel.close()
            os.waitpid(first, 0)
        elif channel.recv(16) == b"enter":
            enter(plan, scratch=scratch, time_limit_seconds=SECONDS, threads=1)
            for folder in plan.packages:
                os.listdir(folder)  # at the weaker levels nothing but permissions let it in
            if uses_driver and (reason := _why_not_initialised(plan.devices, plan)) is not None:
                raise OSError(reason)
            channel.send(READY)
    except Exception as error:  # noqa: BLE001 - every reason is as good
        channel.send(FAILED + _told(error))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
