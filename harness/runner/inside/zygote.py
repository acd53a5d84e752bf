"""The warm process that every run is forked from: it has imported the packages and read the public data, once.

python -s -P zygote.py SOCKET ROOT PUBLIC LEVEL DEVICE     started by `warm`, with a cleared environment

A fork takes milliseconds where a new process takes seconds. The zygote runs no submission, touches no GPU and keeps one
thread: after a multithreaded operation, or with CUDA initialised, its forks would hang. It ends with its socket, and
all runs with it. At the levels that have pid namespaces it is the first process of its own.

Each request is a plan with five descriptors: job, result, report, log, channel. On the channel the zygote hands over a
pidfd of the run's first process, which hears "enter", says "ready" and hears "go" (`first`); at the end the zygote says
how it ended.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PLAN_BYTES = 1 << 16
PR_SET_CHILD_SUBREAPER = 36
DRIVER_SECONDS = 60  # its start takes up to 7 s
KILLED_BY_SIGNAL = 128  # plus the signal: the exit status of a run's first process for a submission that was killed


@dataclass
class Child:
    """A run that was forked and has not ended: its first process."""

    pid: int
    pidfd: int
    channel: socket.socket


def main() -> None:
    """Import, say "warm", then fork one child per request until the trusted side closes the socket."""
    requests, root, public = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    level, device = sys.argv[4:6]
    sys.path.insert(0, root)  # for the harness's own modules; gone before any submission runs
    from harness import accelerator
    from harness.runner.sandbox import gpu, privileges, processes
    from harness.runner.sandbox.plan import NAMESPACE_LEVELS, Plan
    from harness.runner.sandbox.syscalls import prctl

    privileges.die_with_parent()
    isolated = level in NAMESPACE_LEVELS
    if isolated:
        processes.move_to_own_pid_namespace(closing=(requests.fileno(),))  # before torch, which starts threads
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    from harness.runner.inside import worker
    from harness.runner.inside.first import N_DESCRIPTORS, be_first

    world = worker.warm_up(public)
    sys.path.remove(root)
    gpu.check_untouched()
    if accelerator.of(device).has_driver:
        gpu.check_forks(DRIVER_SECONDS)
    gc.collect()
    gc.freeze()
    requests.send(b"warm")

    children: dict[int, Child] = {}
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in children:
                poll.unregister(descriptor)
                _bury(children.pop(descriptor), children.values(), in_pid_namespace=isolated)
                continue
            content, descriptors, _, _ = socket.recv_fds(requests, PLAN_BYTES, N_DESCRIPTORS)
            if not content:
                while children:
                    _bury(children.popitem()[1], children.values(), in_pid_namespace=isolated)
                return
            plan = Plan.from_bytes(content)
            pid = processes.fork_first() if plan.has_namespaces else os.fork()
            if pid == 0:
                be_first(descriptors, plan, worker, world)
            child = _introduced(pid, descriptors)
            children[child.pidfd] = child
            poll.register(child.pidfd, select.POLLIN)


def _introduced(pid: int, descriptors: list[int]) -> Child:
    """Tell the trusted side which process its run is; keep nothing of the run but the channel."""
    *others, channel_descriptor = descriptors
    for other in others:
        os.close(other)
    channel = socket.socket(fileno=channel_descriptor)
    child = Child(pid, os.pidfd_open(pid), channel)
    with contextlib.suppress(OSError):  # nobody listens any more; the run ends with its channel
        socket.send_fds(channel, [b"pidfd"], [child.pidfd])
    return child


def _bury(child: Child, others: Iterable[Child], *, in_pid_namespace: bool) -> None:
    """End what a run left behind, then say how it ended. In a pid namespace the kernel has done the former."""
    os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    if not in_pid_namespace:
        _end_orphans(others)
    code = os.waitstatus_to_exitcode(status)
    if code > KILLED_BY_SIGNAL:
        code = KILLED_BY_SIGNAL - code
    with contextlib.suppress(OSError):  # nobody listens any more
        child.channel.send(json.dumps({"status": code}).encode())
    child.channel.close()
    os.close(child.pidfd)


def _end_orphans(others: Iterable[Child]) -> None:
    """Kill and reap every child that is not the first process of a living run, until there is none.

    A first process takes in the orphans of its own run while it lives, so these are what dead ones left.
    """
    runs = {child.pid for child in others}
    children = Path("/proc/thread-self/children")
    while orphans := {int(pid) for pid in children.read_text().split()} - runs:
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
        for pid in orphans:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
