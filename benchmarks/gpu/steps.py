"""Steps one after another, each in a process of its own that is killed at its limit, so that none stops the next.

A step is a function that takes a `Task` and says its figures with `Task.say`, which writes each as a line of JSON at
once: what a step had found stays known when it is killed, or when this process is.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["FAILED", "LEFT_OUT", "OK", "OVER", "ROOT", "Ended", "LeftOutError", "Step", "Task", "run_steps"]

ROOT = Path(__file__).parents[2]
OK, FAILED, OVER, LEFT_OUT = "ok", "failed", "over its limit", "left out"
RESERVE = 4.0  # seconds kept for the end: a step is killed, the result is written
KILL_SECONDS = 3.0  # in which a killed process ends, unless the driver holds it

Row = dict[str, Any]


class LeftOutError(Exception):
    """A step cannot be made here; the message says why."""


@dataclass(frozen=True)
class Step:
    """One step, and its part of the time."""

    name: str
    function: str  # as MODULE:NAME
    share: float  # of the time left, beside the shares of the steps after it: what a step leaves, they get
    least: float = 3.0  # seconds below which it is not begun
    takes_gpu: bool = False


@dataclass(frozen=True)
class Task:
    """What a step's function is given."""

    device: str  # cpu or cuda
    home: str  # HARNESS_HOME of all steps
    lines: str  # the file of all figures, a line of JSON each
    data: str | None = None  # images: a folder, or a file of them packed
    step: str = ""
    deadline: float = 0.0  # when it is killed, by time.monotonic(), which is the same in all processes

    @property
    def left(self) -> float:
        """The seconds that are left to the step."""
        return self.deadline - time.monotonic()

    def say(self, **figures: Any) -> None:
        """Write figures down, at once."""
        with Path(self.lines).open("a") as file:
            file.write(json.dumps({"step": self.step, **figures}) + "\n")

    def rows(self, step: str) -> list[Row]:
        """Return the figures of a step; of a line that is cut off, nothing."""
        found = []
        for line in Path(self.lines).read_text(errors="replace").splitlines() if Path(self.lines).exists() else ():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and row.pop("step", None) == step:
                    found.append(row)
        return found


@dataclass(frozen=True)
class Ended:
    """How a step ended."""

    name: str
    status: str  # OK, FAILED, OVER or LEFT_OUT
    reason: str | None
    seconds: float
    limit: float
    rows: list[Row]


def run_steps(steps: Sequence[Step], task: Task, log: Path, *, seconds: float) -> Iterator[Ended]:
    """Yield how each step ended, in their order; all of them together take no longer than so many seconds.

    task: without the step's name and deadline. log: gets what the steps print.
    """
    deadline = time.monotonic() + seconds - RESERVE
    for index, step in enumerate(steps):
        after = [one.share for one in steps[index + 1 :] if _fits(one, task)]
        limit = max(0.0, deadline - time.monotonic()) * step.share / (step.share + sum(after))
        if not _fits(step, task):
            yield Ended(step.name, LEFT_OUT, "it takes a GPU", 0.0, 0.0, [])
        elif limit < step.least:
            yield Ended(step.name, LEFT_OUT, f"{limit:.1f} s were left for it", 0.0, limit, [])
        else:
            yield _run(step, task, log, limit)


def _fits(step: Step, task: Task) -> bool:
    return task.device == "cuda" or not step.takes_gpu


def _run(step: Step, task: Task, log: Path, limit: float) -> Ended:
    """Make a step, and kill what is left of it."""
    started = time.monotonic()
    fields = asdict(task) | {"step": step.name, "deadline": started + limit}
    command = [sys.executable, "-m", "benchmarks.gpu.child", step.function, json.dumps(fields)]
    with log.open("ab") as file:
        file.write(f"==== {step.name}\n".encode())
        begin = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=ROOT,
            env=_environment(task),
            start_new_session=True,
        )
    code = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(limit)
    finally:
        is_dead = _kill(process)
    rows = task.rows(step.name)
    status, reason = _verdict(code, rows, _last_line(log, begin), limit)
    if not is_dead:
        reason = "it could not be killed: the driver holds it"
    return Ended(step.name, status, reason, time.monotonic() - started, limit, rows)


def _environment(task: Task) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "HARNESS_HOME": task.home,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }


def _kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill a step's process with all of its session's group; whether it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)
    return process.returncode is not None


def _verdict(code: int | None, rows: Sequence[Row], last_line: str, limit: float) -> tuple[str, str | None]:
    """Return the status and the reason for it; code: how the process ended, None if it was killed at its limit."""
    left_out = next((row["left_out"] for row in rows if "left_out" in row), None)
    if code is None:
        return OVER, f"killed after {limit:.0f} s"
    if code < 0:
        return FAILED, f"ended by signal {-code}"
    if code > 0:
        return FAILED, last_line or f"ended with {code}"
    return (OK, None) if left_out is None else (LEFT_OUT, left_out)


def _last_line(log: Path, begin: int) -> str:
    """Return the last line of what a step has printed, which of an exception is the one that says what it was."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - 4000))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
