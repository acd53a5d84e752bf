"""The warm process that every run is forked from: it has imported the packages and read the public data, once.

    python -s -P zygote.py SOCKET ROOT PUBLIC     started by `launch`, with a cleared environment

A fork takes milliseconds where a new process takes seconds. The zygote runs no submission, touches no GPU and keeps one
thread: after a multithreaded operation, or with CUDA initialised, its forks would hang. It ends with its socket.

Each request is one message with five descriptors: job, result, report, log, channel. On the channel the child says
"ready" and hears "go"; the zygote hands over a pidfd of the child, and at the end says how it ended.
"""

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

N_DESCRIPTORS = 5
PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A run that was forked and has not ended."""

    pid: int
    pidfd: int
    channel: socket.socket


def main() -> None:
    """Import, say "warm", then fork one child per request until the trusted side closes the socket."""
    requests, root, public = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    sys.path.insert(0, root)  # for the harness's own modules; gone before any submission runs
    from harness.runner import worker
    from harness.runner.message import Job

    world = worker.warm_up(public)
    sys.path.remove(root)
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
                _bury(children.pop(descriptor))
                continue
            content, descriptors, _, _ = socket.recv_fds(requests, 64, N_DESCRIPTORS)
            if not content:
                for child in children.values():
                    _bury(child)
                return
            channel = socket.socket(fileno=descriptors[-1])
            pid = os.fork()
            if pid == 0:
                _be_run(descriptors, worker, Job.from_bytes, world)
            for other in descriptors[:-1]:
                os.close(other)
            child = Child(pid, os.pidfd_open(pid), channel)
            children[child.pidfd] = child
            poll.register(child.pidfd, select.POLLIN)
            with contextlib.suppress(OSError):  # nobody listens any more; the run ends with its channel
                socket.send_fds(channel, [b"pidfd"], [child.pidfd])


def _be_run(descriptors: list[int], worker: ModuleType, read_job: Callable[[bytes], Any], world: object) -> NoReturn:
    """Become a run: own session, own descriptors, dies with the zygote."""
    status = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        job_descriptor, result, report, log, channel = _keep_only(descriptors)
        job = read_job(_read_all(job_descriptor))
        os.close(job_descriptor)
        _redirect(log)
        worker.enter(job)

        def wait_for_go() -> None:
            with socket.socket(fileno=channel) as control:
                control.send(b"ready")
                if control.recv(16) != b"go":
                    os._exit(1)

        worker.run(world, job, result, report, wait_for_go)
        sys.stdout.flush()
        sys.stderr.flush()
        status = 0
    finally:
        os._exit(status)  # no exit handlers, and no waiting for threads a submission left


def _keep_only(descriptors: list[int]) -> range:
    """Move the run's descriptors to 3, 4, ... and close all others but the standard ones."""
    high = [os.dup(descriptor) for descriptor in descriptors]
    first = 3 + max(high)
    moved = [os.dup2(descriptor, first + place) for place, descriptor in enumerate(high)]
    kept = range(3, 3 + len(moved))
    for descriptor, place in zip(moved, kept, strict=True):
        os.dup2(descriptor, place, inheritable=False)
    os.closerange(kept.stop, os.sysconf("SC_OPEN_MAX"))
    return kept


def _read_all(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _redirect(log: int) -> None:
    """Send standard output and error to the log, line by line, and leave nothing to read on standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.close(nothing)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _bury(child: Child) -> None:
    """End what a run left behind, then say how it ended."""
    try:
        os.killpg(child.pid, signal.SIGKILL)  # before it is reaped, so that the number cannot be somebody else's
    except (ProcessLookupError, PermissionError):
        os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    with contextlib.suppress(OSError):  # nobody listens any more
        child.channel.send(json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode())
    child.channel.close()
    os.close(child.pidfd)


if __name__ == "__main__":
    main()
