"""Steps that are programs of this repository already: `harness doctor`, and the tests that need a GPU."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.gpu.small_track import DRAWN, images_for
from benchmarks.gpu.steps import LeftOutError, Task

__all__ = ["doctor", "marked_tests"]

OF_THIS_MACHINE = "files"  # a line of the doctor's that nobody else has a use for
# Warnings are errors only with the versions they were seen with.
PYTEST = ("pytest", "-m", "gpu", "-v", "-o", "filterwarnings=default", "-p", "no:cacheprovider", "tests")
SUMMED_UP = re.compile(r"^(?:FAILED|ERROR) (\S+::\S.*?) - (.*)")  # at the end: why
TESTED = re.compile(r"^(\S+::\S.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b ?(.*)")


def doctor(task: Task) -> None:
    """Say the lines of `harness doctor`."""
    for line in _lines("harness", "doctor"):
        if not line.startswith(OF_THIS_MACHINE):
            task.say(line=line)


def marked_tests(task: Task) -> None:
    """Run the tests that need a GPU, and say how each ended as soon as it has."""
    if importlib.util.find_spec("pytest") is None:
        raise LeftOutError("pytest is not installed")
    data = images_for(task)
    if data.kind != DRAWN:
        os.environ["HARNESS_CIFAR10"] = str(data.folder)
    outcomes = []
    for line in _lines(*PYTEST, may_fail=True):
        if (found := TESTED.match(line)) is not None:
            outcomes.append(found[2])
            task.say(test=found[1], outcome=found[2], reason=re.sub(r"\s*\[ *\d+%\]$", "", found[3]).strip())
        elif (found := SUMMED_UP.match(line)) is not None:
            task.say(test=found[1], reason=found[2][:300])
    failed = sum(outcome in ("FAILED", "ERROR") for outcome in outcomes)
    if failed or not outcomes:
        raise RuntimeError(f"{failed} of {len(outcomes)} tests failed" if outcomes else "pytest ran no test")


def _lines(*arguments: str, may_fail: bool = False) -> Iterator[str]:
    """Yield the lines a module of Python prints, as they come, and print them."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            yield line.rstrip()
    if process.returncode and not may_fail:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
