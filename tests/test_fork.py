"""The trusted side of a forked run, against a zygote played by the test."""

import os
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.runner.fork import ForkLauncher, _ForkedProcess
from harness.runner.message import Job
from harness.runner.process import LaunchError

JOB = Job("", "foo.py", 0, {}, "cpu", 1, 1.0, "")


@pytest.fixture
def sides() -> Any:
    """A forked process as the trusted side sees it, and the channel its zygote and child speak on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    launcher = ForkLauncher(Path("/nowhere"), device="cpu", log_bytes=1000)
    process = _ForkedProcess(launcher, SimpleNamespace(requests=ours), JOB, 16)  # type: ignore[arg-type]
    _, descriptors, _, _ = socket.recv_fds(theirs, 64, 5)
    channel = socket.socket(fileno=descriptors[-1])
    yield process, channel
    process.close()
    channel.close()
    ours.close()
    theirs.close()
    for descriptor in descriptors[:-1]:
        os.close(descriptor)


@pytest.mark.parametrize("ready_first", [True, False])
def test_ready_and_the_pidfd_may_come_in_either_order(sides: Any, ready_first: bool) -> None:
    process, channel = sides
    with subprocess.Popen(["sleep", "10"]) as child:
        pidfd = os.pidfd_open(child.pid)
        if ready_first:
            channel.send(b"ready")
        socket.send_fds(channel, [b"pidfd"], [pidfd])
        if not ready_first:
            channel.send(b"ready")
        process.wait_ready(2.0)
        assert not process.wait(0.0)
        process.kill()
        assert process.wait(2.0)
        os.close(pidfd)


def test_a_run_that_ends_before_it_is_ready_is_no_fault_of_the_submission(sides: Any) -> None:
    process, channel = sides
    channel.send(b'{"status": 1}')
    with pytest.raises(LaunchError, match="before it was ready"):
        process.wait_ready(2.0)


def test_a_zygote_that_says_nothing_is_given_up(sides: Any) -> None:
    process, _ = sides
    with pytest.raises(LaunchError, match="not ready"):
        process.wait_ready(0.1)
