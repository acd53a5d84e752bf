"""What is left of a run, however it or the harness ends: nothing."""

import contextlib
import ctypes
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runner import isolation
from harness.runner.isolation import LEVELS
from harness.runner.outcome import Outcome
from tests.attacks.attempts import SIGNATURE, Attacks, source_of, submission_of

MESS = f"mess-{os.getpid()}"


def leave_a_daemon(name: str) -> None:
    """Start a process that nobody waits for and no signal to its group reaches, and that says its name in /proc."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: not to die with its parent
            ctypes.CDLL(None).prctl(15, name.encode())  # PR_SET_NAME
            os.write(writing, b".")
            time.sleep(60)
        os._exit(0)
    os.read(reading, 1)


def processes_named(name: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == name:
                found.append(int(process.name))
    return found


def assert_ended(name: str) -> None:
    """See that no process of a name is left, once the kernel had the time to take away those that were killed."""
    deadline = time.monotonic() + 10
    while left := processes_named(name):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


@pytest.mark.parametrize("level", LEVELS)
def test_a_daemon_ends_with_its_run(attacks: Attacks, level: str) -> None:
    name = f"left-{os.getpid()}-{level[0]}"
    assert attacks.evaluate(submission_of(leave_a_daemon, {"name": name}), level=level).outcome == Outcome.OK
    assert_ended(name)


def test_without_the_harness_the_daemon_lives_on() -> None:
    name = f"left-{os.getpid()}"
    subprocess.run([sys.executable, "-c", f"{source_of(leave_a_daemon)}\nleave_a_daemon({name!r})"], check=True)
    left = processes_named(name)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert len(left) == 1


def left_behind() -> dict[str, list[str]]:
    """Return what runs of this process could leave on the machine: mounts, files, cgroups."""
    descriptors = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    cgroups = [Path(path) for path in descriptors if "unlearning-harness-" in path]  # held open as long as we live
    return {
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "files": [folder for folder in ("/tmp", "/dev/shm", "/var/tmp") if (Path(folder) / MESS).exists()],
        "cgroups": [str(run) for cgroup in cgroups for run in cgroup.glob("run-*")],
    }


def make_a_mess(name: str) -> None:
    for folder in (".", "/tmp", "/cache", "/dev/shm", "/var/tmp"):
        with contextlib.suppress(OSError), open(f"{folder}/{name}", "w") as file:
            file.write("mess")
    if os.fork() == 0:
        time.sleep(60)


@pytest.mark.parametrize("level", ["full", "userns"])
def test_no_file_mount_or_cgroup_is_left(attacks: Attacks, level: str) -> None:
    before = left_behind()
    for ending in ("", "\n    import os; os.abort()", "\n    import time; time.sleep(60)"):
        source = submission_of(make_a_mess, {"name": MESS}) + ending
        attacks.evaluate(source, level=level, runs=2, limit_seconds=0.3)
    after = left_behind()
    assert after == before
    assert (after["files"], after["cgroups"]) == ([], [])


def leave_a_sibling(name: str) -> None:
    """Start a process that is a child of the first process, not of this one."""
    clone_parent = 0x8000
    child = ctypes.CDLL(None).syscall(56, clone_parent | signal.SIGCHLD, None, None, None, None)
    if child == 0:
        ctypes.CDLL(None).prctl(15, name.encode())
        time.sleep(60)
        os._exit(0)
    time.sleep(0.2)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the call is made by its number on x86-64")
@pytest.mark.parametrize("level", LEVELS)
def test_a_sibling_ends_with_its_run(attacks: Attacks, level: str) -> None:
    name = f"sibling-{os.getpid()}"[:15]
    assert attacks.evaluate(submission_of(leave_a_sibling, {"name": name}), level=level).outcome == Outcome.OK
    assert_ended(name)


def fork_until_the_end(name: str) -> None:
    """Fork in every process, again and again."""
    ctypes.CDLL(None).prctl(15, name.encode())
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def test_a_fork_bomb_ends_with_its_run_and_the_next_is_fine(attacks: Attacks) -> None:
    name = f"bomb-{os.getpid()}"[:15]
    evaluation = attacks.evaluate(submission_of(fork_until_the_end, {"name": name}), level="full", limit_seconds=0.5)
    assert evaluation.outcome in (Outcome.TIME_LIMIT, Outcome.CRASHED)
    assert_ended(name)
    assert attacks.evaluate(f"{SIGNATURE} net.eval()", level="full").outcome == Outcome.OK


DEEPER = f"""
import os
{SIGNATURE}
    print("SCRATCH", os.getcwd())
    for _ in range(3000):
        os.mkdir("deeper")
        os.chdir("deeper")
"""


@pytest.mark.parametrize("level", ["none", "syscall"])
def test_folders_nested_without_end_are_removed(attacks: Attacks, level: str) -> None:
    evaluation = attacks.evaluate(DEEPER, level=level)
    assert evaluation.outcome == Outcome.OK
    scratch = next(line for line in evaluation.runs[0].info.log.splitlines() if line.startswith("SCRATCH "))
    assert not Path(scratch.removeprefix("SCRATCH ")).exists()


# ---- the harness is killed ----------------------------------------------------------------------------------------


def children_of(pid: int) -> Iterator[int]:
    """Yield all processes below one."""
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            yield child
            yield from children_of(child)


@pytest.mark.parametrize("level", ["full", "userns"])
def test_a_killed_harness_leaves_no_process_within_a_second(attacks: Attacks, tmp_path: Path, level: str) -> None:
    reason = isolation.offered().levels.get(level)
    if reason is not None:
        pytest.skip(f"this machine does not offer {level}: {reason}")
    name = f"left-{os.getpid()}-{level[0]}"
    file = tmp_path / "foo.py"
    file.write_text(submission_of(leave_a_daemon, {"name": name}) + "\n    import time; time.sleep(60)")
    script = f"""
import dataclasses, sys
from pathlib import Path
from harness.evaluation.evaluate import evaluate
from harness.submission import read_submission
from harness.tracks.track import load_track
from tests.attacks.attempts import conditions
evaluate(read_submission(Path({str(file)!r}), source_kb=9), load_track(Path({str(attacks.track.folder)!r})),
         conditions({level!r}, 60.0), runs=1, home=Path({str(tmp_path)!r}))
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stderr=subprocess.DEVNULL) as harness:
        try:
            deadline = time.monotonic() + 200
            while not processes_named(name) and harness.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            processes = [*children_of(harness.pid), *processes_named(name)]
            handles = {os.pidfd_open(pid): pid for pid in dict.fromkeys(processes)}
            assert len(handles) >= 4  # zygote, first process, the submission, its daemon
        finally:
            harness.kill()
    killed = time.monotonic()
    left = dict(handles)
    while left and time.monotonic() < killed + 1.0:
        for handle in select.select(list(left), [], [], 0.05)[0]:
            del left[handle]
    survivors = [handles[handle] for handle in left]
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    assert survivors == []
