"""Memory, processes, threads, files: a run that takes too much hurts itself and nobody else."""

import contextlib
import mmap
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from harness.runner import isolation
from harness.runner.isolation import LEVELS
from harness.runner.outcome import Outcome
from harness.runner.sandbox import cgroup
from tests.attacks.attempts import THROUGH, Attacks, Attempt, Found, at_each_level, submission_of
from tests.attacks.inside import in_child

Make = Callable[..., Found]

MEMORY_MB, PROCESSES, SCRATCH_MB, FILES = 512, 60, 32, 65536  # the limits of these tests; FILES is everybody's


@pytest.fixture(autouse=True)
def _limits_are_as_said(attacks: Attacks) -> None:
    limits = attacks.track.declaration.limits
    assert (limits.memory_mb, limits.processes, limits.scratch_mb) == (MEMORY_MB, PROCESSES, SCRATCH_MB)


# ---- processes and threads ----------------------------------------------------------------------------------------


def start_many_processes(count: int) -> int:
    processes: list[subprocess.Popen[bytes]] = []
    with contextlib.suppress(BlockingIOError):
        while len(processes) < count:
            processes.append(subprocess.Popen(["sleep", "60"]))
    for process in processes:
        process.kill()
        process.wait()
    return len(processes)


def start_many_threads(count: int) -> int:
    done = threading.Event()
    threads: list[threading.Thread] = []
    with contextlib.suppress(RuntimeError):
        while len(threads) < count:
            thread = threading.Thread(target=done.wait)
            thread.start()
            threads.append(thread)
    done.set()
    return len(threads)


@pytest.mark.parametrize("level", ["full", "userns", "none"])
@pytest.mark.parametrize("attempt", [start_many_processes, start_many_threads])
def test_processes_and_threads_are_limited(make: Make, attempt: Attempt, level: str) -> None:
    made = make(attempt, level=level, count=PROCESSES + 20).value
    if level == "none":
        assert made == PROCESSES + 20
    else:
        assert 5 <= made < PROCESSES


# ---- processors -----------------------------------------------------------------------------------------------------


def compute_in_many_processes(count: int, seconds: float) -> float:
    """Return how many processors they took on average."""
    started = time.monotonic()
    for _ in range(count):
        if os.fork() == 0:
            while time.monotonic() < started + seconds:
                pass
            os._exit(0)
    for _ in range(count):
        os.wait()
    used = os.times()
    return (used.children_user + used.children_system) / (time.monotonic() - started)


@pytest.mark.parametrize("level", ["full", "none"])
def test_a_run_takes_no_more_processors_than_its_quota(make: Make, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of one, instead of what its threads take: a machine that is busy could not tell them from more."""
    if level == "full" and (reason := isolation.offered().layers["processor quota"]) is not None:
        pytest.skip(f"this machine has no processor quota: {reason}")
    monkeypatch.setattr(cgroup, "CORES_BESIDE", 0.1 - 1)
    taken = make(compute_in_many_processes, level=level, count=16, seconds=2.0).value
    assert taken < 0.2 if level == "full" else taken > 0.2


# ---- memory: half as much again as allowed, given back at once -----------------------------------------------------


def take(megabytes: int) -> bytearray:
    taken = bytearray()
    for _ in range(megabytes // 16):
        taken += b"x" * (16 << 20)
    return taken


def hoard(megabytes: int) -> None:
    taken = take(megabytes)
    time.sleep(0.5 if taken else 0)  # where it is only watched, that is not at every moment


def hoard_shared_memory(megabytes: int) -> None:
    with mmap.mmap(-1, megabytes << 20) as shared:
        for _ in range(megabytes):
            shared.write(b"x" * (1 << 20))
        time.sleep(0.5)


def hoard_files_in_memory(megabytes: int) -> None:
    descriptor = os.memfd_create("attempt")
    for _ in range(megabytes):
        os.write(descriptor, b"x" * (1 << 20))
    time.sleep(0.5)


def hoard_in_children(megabytes: int) -> None:
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(MemoryError):
                taken = take(megabytes // 3)
                time.sleep(0.5 if taken else 0)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


HOARDS = [hoard, hoard_shared_memory, hoard_in_children]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("attempt", HOARDS)
def test_memory_over_the_limit_fails_the_run_whichever_process_takes_it(
    attacks: Attacks, attempt: Attempt, level: str
) -> None:
    megabytes = MEMORY_MB * 3 // 2
    evaluation = attacks.evaluate(submission_of(attempt, {"megabytes": megabytes}), level=level)
    assert evaluation.outcome == Outcome.MEMORY_LIMIT, evaluation.runs[0].info


def hoard_page_tables(megabytes: int) -> None:
    """Read one page of each 2 MB: the page itself is shared, the table that it takes is not."""
    step = 2 << 20
    read_only, private, no_reserve = 1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 0x4000
    with mmap.mmap(-1, (megabytes << 8) * step, flags=private | no_reserve, prot=read_only) as sparse:
        sparse.madvise(mmap.MADV_NOHUGEPAGE)
        for place in range(0, len(sparse), step):
            sparse[place]
        time.sleep(0.5)


def hoard_in_sockets(megabytes: int) -> None:
    """Leave messages unread, in as many processes as that takes."""
    for _ in range(6):
        if os.fork() == 0:
            kept, left = [socket.socketpair() for _ in range(450)], (megabytes << 20) // 6
            for end in (end for pair in kept for end in pair):
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                with contextlib.suppress(BlockingIOError):
                    while left > 0:
                        left -= end.send(b"x" * 65536)
            time.sleep(2.0)
            os._exit(0)
    time.sleep(2.5)


@pytest.mark.parametrize("attempt", [hoard_files_in_memory, hoard_page_tables, hoard_in_sockets])
def test_memory_that_belongs_to_no_process_counts_as_well(attacks: Attacks, attempt: Attempt) -> None:
    source = submission_of(attempt, {"megabytes": MEMORY_MB * 3 // 2})
    assert attacks.evaluate(source, level="full", limit_seconds=20.0).outcome == Outcome.MEMORY_LIMIT


@pytest.mark.parametrize("attempt", [*HOARDS, hoard_files_in_memory, hoard_page_tables, hoard_in_sockets])
def test_without_a_limit_there_is_so_much_memory(attempt: Attempt) -> None:
    assert in_child(lambda: attempt(MEMORY_MB * 3 // 2)) == 0


def test_memory_under_the_limit_is_fine(make: Make) -> None:
    assert make(hoard, level="full", megabytes=MEMORY_MB // 2).end == THROUGH


# ---- files --------------------------------------------------------------------------------------------------------


def write_much(folder: str, megabytes: int) -> None:
    folder = folder or os.getcwd()
    try:
        with open(folder + "/attempt", "wb", 0) as file:
            for _ in range(megabytes):
                if file.write(b"x" * (1 << 20)) < 1 << 20:
                    raise OSError(28, "no space")
    finally:
        os.unlink(folder + "/attempt")


def write_much_in_its_folder() -> None:
    write_much("", SCRATCH_MB + 8)


def write_much_to_shared_memory() -> None:
    write_much("/dev/shm", SCRATCH_MB + 8)


def write_much_to_the_cache_of_compilers() -> None:
    write_much("/cache", SCRATCH_MB + 8)


def make_many_files() -> None:
    folder = "/dev/shm/attempt"
    os.mkdir(folder)
    try:
        for number in range(FILES + 8):
            os.mknod(f"{folder}/{number}", stat.S_IFREG | 0o600)
    finally:
        shutil.rmtree(folder)


def write_far_into_a_file() -> None:
    with open("attempt", "wb", 0) as file:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.pwrite(file.fileno(), b"x", 1 << 36)


@at_each_level(
    {
        write_much_in_its_folder: {"full": "ENOSPC", "none": THROUGH},
        write_much_to_shared_memory: {"full": "ENOSPC", "none": THROUGH},
        write_much_to_the_cache_of_compilers: {"full": "ENOSPC"},
        make_many_files: {"full": "ENOSPC", "none": THROUGH},
        write_far_into_a_file: {"full": "EFBIG", "syscall": "EFBIG", "none": THROUGH},
    }
)
def test_files_are_limited(make: Make, attempt: Attempt, level: str, end: str) -> None:
    assert make(attempt, level=level).end in end.split("|")
