"""The trusted side of a forked run, against a zygote played by the test."""

import os
import signal
import socket
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from harness.runner import launch
from harness.runner.fork import ForkLauncher
from harness.runner.forked import ForkedProcess
from harness.runner.message import Job
from harness.runner.process import LaunchError
from harness.runner.sandbox.sandboxes import Quota, Sandboxes
from harness.tracks.track import Track

JOB = Job("", "foo.py", 0, {}, "cpu", 1, 1.0, "")


@pytest.fixture
def sides() -> Any:
    """A forked process as the trusted side sees it, and the channel its zygote and child speak on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sandboxes = Sandboxes("none", Quota(1, 1, 1, 1), hidden=[], device="cpu")
    zygote = SimpleNamespace(
        is_closed=False, runs=set(), request=lambda content, given: socket.send_fds(ours, [content], given)
    )
    process = ForkedProcess(zygote, sandboxes.new(), JOB, n_bytes=16, log_bytes=1000)  # type: ignore[arg-type]
    _, descriptors, _, _ = socket.recv_fds(theirs, 1 << 16, 5)
    channel = socket.socket(fileno=descriptors[-1])
    yield process, channel
    process.close()
    channel.close()
    ours.close()
    theirs.close()
    for descriptor in descriptors[:-1]:
        os.close(descriptor)


def test_a_run_enters_once_its_process_is_known_and_is_killed_by_it(sides: Any) -> None:
    process, channel = sides
    with subprocess.Popen(["sleep", "10"]) as child:
        pidfd = os.pidfd_open(child.pid)
        socket.send_fds(channel, [b"pidfd"], [pidfd])
        channel.send(b"ready")
        process.wait_ready(2.0)
        assert channel.recv(16) == b"enter"
        assert not process.wait(0.0)
        process.kill()
        assert child.wait() == -signal.SIGKILL
        assert not process.wait(0.0)  # without a pid namespace others of the run may live on, until the zygote says no
        channel.send(b'{"status": -9}')
        assert process.wait(2.0)
        os.close(pidfd)


def test_a_run_that_ends_before_it_is_ready_is_no_fault_of_the_submission(sides: Any) -> None:
    process, channel = sides
    channel.send(b'{"status": 1}')
    with pytest.raises(LaunchError, match="before it was ready"):
        process.wait_ready(2.0)


def test_a_run_whose_sandbox_fails_says_which_step(sides: Any) -> None:
    process, channel = sides
    channel.send(b"failed: OSError: mount: Operation not permitted")
    with pytest.raises(LaunchError, match="mount: Operation not permitted"):
        process.wait_ready(2.0)


def test_a_zygote_that_says_nothing_is_given_up(sides: Any) -> None:
    process, _ = sides
    with pytest.raises(LaunchError, match="not ready"):
        process.wait_ready(0.1)


def test_of_many_tracks_only_the_last_keep_a_zygote_but_for_runs_in_flight(
    tiny: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launcher(log_kb: int) -> ForkLauncher:
        found = launch.launcher(
            tiny.public,
            public_hash=tiny.manifest.public_hash,
            device="cpu",
            log_kb=log_kb,
            isolation="none",
            quota=Quota(2048, 60, 32, 1),
        )
        assert isinstance(found, ForkLauncher)
        return found

    monkeypatch.setattr(launch, "MOST_READY", 1)
    first = launcher(11)
    run = first.start(JOB, 16)
    zygote = run._zygote.process
    launcher(12)
    assert zygote.poll() is None
    run.close()
    launcher(12)
    assert zygote.poll() is not None
    again = first.start(JOB, 16)
    again.close()
    assert again._zygote.process is not zygote
    first.close()
