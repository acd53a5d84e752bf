"""Other processes: a run neither sees nor touches any but its own."""

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.runner.outcome import Outcome
from tests.attacks.attempts import THROUGH, Attacks, Attempt, Found, at_each_level, submission_of
from tests.attacks.inside import c_call

Make = Callable[..., Found]
Process = subprocess.Popen[bytes]

SECRET = "of another process"


@pytest.fixture
def other() -> Iterator[Process]:
    """A process that belongs to the harness's user, as the harness does."""
    with subprocess.Popen(["sleep", "600"], env={"SECRET": SECRET}) as process:
        yield process
        process.kill()


def memory_of(process: Process) -> int:
    """Return an address in the memory of a process."""
    first = Path(f"/proc/{process.pid}/maps").read_text().splitlines()[0]
    return int(first.split("-")[0], 16)


def read_its_environment(pid: int, address: int) -> str:
    return open(f"/proc/{pid}/environ").read()


def read_its_arguments(pid: int, address: int) -> str:
    return open(f"/proc/{pid}/cmdline").read()


def read_its_maps(pid: int, address: int) -> int:
    return len(open(f"/proc/{pid}/maps").read())


def read_its_memory(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        return memory.read(4).hex()


def read_its_memory_by_a_call(pid: int, address: int) -> str:
    buffer = ctypes.create_string_buffer(4)
    ours = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 4)
    theirs = (ctypes.c_size_t * 2)(address, 4)
    c_call("process_vm_readv", pid, ours, 1, theirs, 1, 0)
    return buffer.raw.hex()


def trace_it(pid: int, address: int) -> int:
    seize = 0x4206
    return c_call("ptrace", seize, pid, 0, 0)


def end_it(pid: int, address: int) -> None:
    os.kill(pid, signal.SIGTERM)


def end_it_by_a_handle(pid: int, address: int) -> None:
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGTERM)


def change_its_limits(pid: int, address: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def slow_it_down(pid: int, address: int) -> None:
    os.setpriority(os.PRIO_PROCESS, pid, 19)


def bind_it_to_a_core(pid: int, address: int) -> None:
    os.sched_setaffinity(pid, {min(os.sched_getaffinity(pid))})


@at_each_level(
    {
        read_its_environment: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_its_arguments: {"full": "ENOENT", "syscall": THROUGH, "none": THROUGH},
        read_its_maps: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_its_memory: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_its_memory_by_a_call: {"full": "EPERM", "syscall": "EPERM", "none": THROUGH},
        trace_it: {"full": "EPERM", "syscall": "EPERM", "none": THROUGH},
        end_it: {"full": "ESRCH", "syscall": "EPERM", "none": THROUGH},
        end_it_by_a_handle: {"full": "ESRCH|EINVAL", "syscall": "EPERM", "none": THROUGH},
        change_its_limits: {"full": "ESRCH", "syscall": "EPERM", "none": THROUGH},
        slow_it_down: {"full": "ESRCH", "none": THROUGH},
        bind_it_to_a_core: {"full": "ESRCH", "none": THROUGH},
    }
)
def test_no_process_of_the_machine_can_be_read_or_touched(
    make: Make, other: Process, attempt: Attempt, level: str, end: str
) -> None:
    found = make(attempt, level=level, pid=other.pid, address=memory_of(other))
    assert found.end in end.split("|")
    if attempt in (end_it, end_it_by_a_handle):
        assert (other.poll() is None) == (end != THROUGH)
    if attempt is read_its_environment and end == THROUGH:
        assert SECRET in found.value


# ---- its own first process, which holds it together ---------------------------------------------------------------


def end_the_first_process() -> None:
    c_call("prctl", 1, 0)  # PR_SET_PDEATHSIG: not to die with it
    os.kill(os.getppid(), signal.SIGKILL)
    signal.sigtimedwait([], 0.3)


@pytest.mark.parametrize("level", ["full", "userns"])
def test_a_run_cannot_end_its_first_process_and_live_on(make: Make, level: str) -> None:
    assert make(end_the_first_process, level=level).end == THROUGH  # the kernel lets it ask, and does nothing


def test_where_it_can_the_run_has_failed(attacks: Attacks) -> None:
    evaluation = attacks.evaluate(submission_of(end_the_first_process, {}), level="none")
    assert evaluation.outcome == Outcome.CRASHED
    assert "SIGKILL" in evaluation.runs[0].info.message


def read_the_memory_of_the_first_process() -> str:
    with open(f"/proc/{os.getppid()}/mem", "rb") as memory:
        return str(memory.name)


@at_each_level({read_the_memory_of_the_first_process: {"full": "EACCES", "syscall": "EACCES", "none": THROUGH}})
def test_the_first_process_cannot_be_read(make: Make, attempt: Attempt, level: str, end: str) -> None:
    assert make(attempt, level=level).end in end.split("|")


def list_processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


@pytest.mark.parametrize("level", ["full", "userns"])
def test_a_run_sees_two_processes_its_first_and_itself(make: Make, level: str) -> None:
    assert make(list_processes, level=level).value == [1, 2]
