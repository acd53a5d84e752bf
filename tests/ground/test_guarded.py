"""Files that parsers hang, swell or die of: each is a problem of that file, soon, and the next one is read as ever."""

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.guarded import DIED, MEGABYTES, SECONDS, guarded
from harness.guarded_child import NESTED
from harness.submission import Submission, submission_of
from tests.ground.bombs import FINALS, SOURCES, UNLEARN, random_final, random_source

SOON = 2 * (SECONDS + 1) + 10  # seconds: two tries of a file, on a machine that is busy


def read(content: bytes, **constants: str) -> Submission:
    return submission_of(Path("foo.py"), content, source_kb=256, constants=constants)


def children() -> set[int]:
    """Return the processes that parse for this one."""
    tasks = Path("/proc/self/task").glob("*/children")
    own = {int(pid) for file in tasks for pid in file.read_text().split()}
    return {pid for pid in own if b"guarded_child" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def assert_told_in_one_line(problem: str) -> None:
    assert problem
    assert problem.isprintable()
    assert len(problem) <= 400


@pytest.mark.parametrize("content", SOURCES.values(), ids=SOURCES)
def test_a_source_that_cannot_be_read_is_a_problem_in_one_line_and_soon(content: bytes) -> None:
    started = time.monotonic()
    submission = read(content)
    assert time.monotonic() - started < SOON
    assert submission.problems
    for problem in submission.problems:
        assert_told_in_one_line(problem)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10 <= MEGABYTES + 1024  # others may be larger
    assert read(UNLEARN.encode()).problems == ()


@pytest.mark.parametrize("content", FINALS.values(), ids=FINALS)
def test_a_final_that_is_short_enough_is_read_or_refused_soon(content: bytes) -> None:
    started = time.monotonic()
    try:
        found = guarded("strings", content[:4096], key="choices")
        assert found is None or all(isinstance(name, str) for name in found)
    except ValueError as error:
        assert_told_in_one_line(str(error))
    assert time.monotonic() - started < SOON


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_handed_in_is_read_or_is_a_problem(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(60):
        source = read(random_source(generator))
        assert source.problems == () or not source.source or "unlearn" in " ".join(source.problems)
        try:
            assert isinstance(guarded("strings", random_final(generator), key="choices"), list | None)
        except ValueError as error:
            assert_told_in_one_line(str(error))


@pytest.mark.parametrize(
    "line",
    ['x = "a" * 10**10', "x = (0,) * 10**9", "x = (((2**9999)**9999)**9999)**9999", "x = 1 << 10**9", "x = 1e999"],
)
def test_what_only_computes_much_is_fine_to_be_read(line: str) -> None:
    started = time.monotonic()
    assert read(f"{line}\n{UNLEARN}".encode()).problems == ()
    assert time.monotonic() - started < SOON


@pytest.mark.parametrize(
    ("task", "content", "options"),
    [
        ("source", b"x = [" + b"1," * 4_000_000 + b"]", {"constants": {}}),
        ("strings", b".".join([b"a"] * 30_000) + b" = 1", {"key": "choices"}),
    ],
    ids=["memory", "time"],
)
def test_what_takes_too_much_memory_or_time_is_given_up(task: str, content: bytes, options: dict[str, object]) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=f"{NESTED}|{DIED}"):
        guarded(task, content, **options)
    assert time.monotonic() - started < SOON
    assert read(UNLEARN.encode()).problems == ()


def test_a_process_that_is_lost_while_it_reads_is_no_fault_of_the_file() -> None:
    read(UNLEARN.encode())
    (reader,) = children()
    killer = threading.Timer(0.2, os.kill, (reader, signal.SIGKILL))
    killer.start()
    assert guarded("source", b"1;" * 40_000, constants={})["code_hash"]  # some second's work, of five it may take
    killer.join()
    assert reader not in children()


def test_an_integer_that_python_does_not_write_out_is_named() -> None:
    (problem,) = read(SOURCES["4000 hexadecimal digits"]).problems
    assert problem == "the file holds an integer of more than 4300 digits"


def test_a_constant_that_is_not_there_is_a_usage_error_from_there_too() -> None:
    with pytest.raises(UsageError, match="sets no such constant"):
        read(UNLEARN.encode(), EPOCHS="3")


def test_files_are_read_by_the_same_process_until_it_is_lost() -> None:
    read(UNLEARN.encode())
    before = children()
    assert read(b"def unlearn(net): pass").problems
    assert read(b"x = (").problems
    assert children() == before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert read(UNLEARN.encode()).problems == ()
    assert read(SOURCES["minus"]).problems
    assert read(UNLEARN.encode()).problems == ()


def test_many_threads_read_at_once() -> None:
    sources = [f"NUMBER = {number}\n{UNLEARN}".encode() for number in range(24)]
    alone = [read(source).code_hash for source in sources]
    found: dict[int, str] = {}

    def work(number: int) -> None:
        found[number] = read(sources[number]).code_hash

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(sources))] == alone
    assert len(set(alone)) == len(sources)


def test_a_forked_process_has_readers_of_its_own() -> None:
    read(UNLEARN.encode())
    script = """
import os, pathlib
from harness.submission import submission_of
def read(number):
    return submission_of(pathlib.Path("foo.py"), f"N = {number}".encode(), source_kb=1).code_hash
read(0)
child = os.fork()
hashes = [read(number) for number in range(50)]
if child == 0:
    os._exit(len(set(hashes)) != 50)
status = os.waitpid(child, 0)[1]
print(len(set(hashes)), status)
"""
    # From Python 3.12 on a fork warns where there is another thread, such as the clock of the last read as it ends.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["50", "0"], done
    assert done.stderr == ""
