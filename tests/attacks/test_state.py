"""From one run to the next, and from one submission to another, nothing goes."""

import contextlib
import fcntl
import itertools
import os
import random
import sys
import types
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from tests.attacks.attempts import SIGNATURE, THROUGH, Attacks, Found, each_level, skip_unless_offered
from tests.attacks.inside import c_call

Make = Callable[..., Found]

MARK = f"attempt-{os.getpid()}"
KEY = 0x41000000 + os.getpid()


def look_for_marks_and_leave_some(author: str, mark: str, key: int) -> list[str]:
    """Return where an earlier run has left something, and leave something there."""
    found = []
    for folder in ("/tmp", "/cache", "/dev/shm", "/var/tmp"):
        path = f"{folder}/{mark}"
        if os.path.exists(path):
            found.append(path)
        with contextlib.suppress(OSError), open(path, "w") as file:
            file.write(author)
    with contextlib.suppress(OSError):
        c_call("shmget", key, 4096, 0o600)
        found.append("System V")
    with contextlib.suppress(OSError):
        c_call("shmget", key, 4096, 0o1600)
    return found


@pytest.fixture
def _no_marks_stay() -> Iterator[None]:
    yield
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{MARK}")
    with contextlib.suppress(OSError):
        c_call("shmctl", c_call("shmget", KEY, 4096, 0o600), 0, None)


@pytest.mark.usefixtures("_no_marks_stay")
@pytest.mark.parametrize("level", ["full", "userns", "none"])
def test_no_file_and_no_shared_memory_outlives_a_run(attacks: Attacks, level: str) -> None:
    values = {"mark": MARK, "key": KEY}
    first, second = attacks.repeat(look_for_marks_and_leave_some, level=level, runs=2, author="one", **values)
    other = attacks.make(look_for_marks_and_leave_some, level=level, author="other", **values)
    assert first.value == []
    assert second.value == other.value
    if level == "none":
        assert {f"/tmp/{MARK}", f"/dev/shm/{MARK}", "System V"} <= set(second.value)
    else:
        assert second.value == []


def look_into_the_process_and_change_it(author: str) -> list[str]:
    """Return what an earlier call in the same process has left, and leave it."""
    found = [name for name in ("attempt_mark",) if hasattr(torch, name)]
    found += [name for name in ("ATTEMPT_MARK",) if name in os.environ]
    found += [name for name in ("attempt_module",) if name in sys.modules]
    torch.attempt_mark = author  # type: ignore[attr-defined]
    os.environ["ATTEMPT_MARK"] = author
    sys.modules["attempt_module"] = types.ModuleType(author)
    return found


@each_level
def test_changed_modules_and_environment_end_with_the_run(attacks: Attacks, level: str) -> None:
    runs = attacks.repeat(look_into_the_process_and_change_it, level=level, runs=2, author="one")
    other = attacks.make(look_into_the_process_and_change_it, level=level, author="other")
    assert [found.value for found in (*runs, other)] == [[], [], []]


def test_within_one_process_they_would_stay() -> None:
    try:
        assert look_into_the_process_and_change_it("one") == []
        assert len(look_into_the_process_and_change_it("other")) == 3
    finally:
        del torch.attempt_mark  # type: ignore[attr-defined]
        del os.environ["ATTEMPT_MARK"], sys.modules["attempt_module"]


DIGEST_THEN_SPOIL = f"""
import hashlib, torch
def digest(tensors):
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()
{SIGNATURE}
    sets = [loader.dataset for loader in (retain_loader, forget_loader, val_loader)]
    inside = [value for one in sets for value in vars(one).values() if isinstance(value, torch.Tensor)]
    assert inside
    print(digest(net.state_dict().values()), digest(inside))
    for tensor in (*net.state_dict().values(), *inside):
        tensor.zero_()
"""


@each_level
def test_data_and_nets_that_a_run_spoils_are_whole_in_the_next(attacks: Attacks, level: str) -> None:
    evaluations = [
        attacks.evaluate(DIGEST_THEN_SPOIL, level=level, runs=2),
        attacks.evaluate(DIGEST_THEN_SPOIL + "    other = 1", level=level, runs=2),
    ]
    digests = [[run.info.log.split() for run in evaluation.runs] for evaluation in evaluations]
    assert all(len(digest) == 2 for runs in digests for digest in runs)
    assert digests[0] == digests[1]  # the nets of runs 0 and 1 are two originals
    assert digests[0][0][1] == digests[0][1][1]


WRITE_OVER_A_LIBRARY = f"""
import ctypes, os
{SIGNATURE}
    line = next(line for line in open("/proc/self/maps") if "libc.so" in line or "libc-" in line)
    start = int(line.split("-")[0], 16)
    print("MAGIC", ctypes.string_at(start, 4) == b"\\x7fELF")
    try:
        with open("/proc/self/mem", "r+b", 0) as memory:
            memory.seek(start)
            memory.write(b"gone")
        print("WROTE", ctypes.string_at(start, 4) == b"gone")
    except OSError:
        print("WROTE", False)
"""


@each_level
def test_a_library_that_a_run_writes_over_in_its_memory_is_whole_in_the_next(attacks: Attacks, level: str) -> None:
    evaluation = attacks.evaluate(WRITE_OVER_A_LIBRARY, level=level, runs=2)
    said = [run.info.log.split() for run in evaluation.runs]
    assert said == [["MAGIC", "True", "WROTE", str(level == "none")]] * 2


def draw() -> list[float]:
    return [torch.rand(1).item(), np.random.rand(), random.random()]


@each_level
def test_random_streams_differ_by_run_and_repeat_with_it(attacks: Attacks, level: str) -> None:
    first, again = (attacks.repeat(draw, level=level, runs=2) for _ in range(2))
    assert first == again
    assert all(one != other for one, other in zip(first[0].value, first[1].value, strict=True))


def tell_its_user() -> int:
    return os.getuid()


@pytest.mark.parametrize("level", ["full", "userns"])
def test_a_run_cannot_tell_its_number_from_its_user(attacks: Attacks, level: str) -> None:
    users = [found.value for found in attacks.repeat(tell_its_user, level=level, runs=4)]
    steps = {later - earlier for earlier, later in itertools.pairwise(users)}
    assert len(set(users)) == 1 or len(steps) > 1


# ---- what the kernel keeps of files that all runs see --------------------------------------------------------------


def remember_in_the_page_cache(number: int) -> int:
    """Return the number that was kept by which of some files of the system are in memory, and keep another one."""
    names = sorted(os.listdir("/usr/share/zoneinfo/Pacific"))[:8]
    kept = 0
    for place, name in enumerate(names):
        with open("/usr/share/zoneinfo/Pacific/" + name, "rb", 0) as file:
            with contextlib.suppress(BlockingIOError):
                os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
                kept |= 1 << place
            file.read()
            if not number >> place & 1:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return kept


@pytest.mark.parametrize("level", ["full", "userns"])
def test_a_run_cannot_ask_which_files_earlier_ones_have_read(make: Make, level: str) -> None:
    skip_unless_offered(level)
    numbers = [0b10110100, 0b01001011]
    found = [make(remember_in_the_page_cache, level="none", number=number) for number in numbers]
    if [one.value for one in found][1:] != numbers[:1]:
        pytest.skip("the file system here does not tell")
    found = [make(remember_in_the_page_cache, level=level, number=number) for number in numbers]
    assert found[1].value != numbers[0]


def lock(path: str) -> None:
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.xfail(strict=True, reason="flock works on files that are shared read-only: runs side by side see it")
@pytest.mark.parametrize("level", ["full", "userns"])
def test_locks_on_shared_files_are_not_seen(make: Make, level: str) -> None:
    with open("/usr/bin/env") as file:
        assert make(lock, level="none", path=file.name).end == THROUGH
        fcntl.flock(file, fcntl.LOCK_EX)
        assert make(lock, level="none", path=file.name).end == "EAGAIN"
        assert make(lock, level=level, path=file.name).end != "EAGAIN"
