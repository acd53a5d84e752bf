"""What strangers wrote, parsed in a process of its own: a parser that hangs, swells or crashes harms nobody else.

Such a process is kept for the next file, as long as nothing went wrong in it. `guarded_child` is what it runs.
"""

import atexit
import base64
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from harness.errors import MachineError, UsageError

__all__ = ["guarded", "seconds_taken"]

SECONDS = 5  # of processor time for one file
MEGABYTES = 1024  # of address space
PATIENCE = 60.0  # seconds of the clock, however busy the machine is
CHILD = Path(__file__).with_name("guarded_child.py")
DIED = f"the file takes more than {SECONDS} s or {MEGABYTES} MB to be parsed, or makes Python's parser crash"

Answer = dict[str, Any]


def guarded(task: str, content: bytes, **options: object) -> Any:
    """Return what a task of `guarded_child` finds in a file's content.

    Raises ValueError with what is wrong with the content, in one line; UsageError for what the options ask in vain;
    MachineError if no process can be started.
    """
    encoded = base64.b64encode(content).decode()
    request = json.dumps({"task": task, "content": encoded, "options": options}).encode() + b"\n"
    answer = _answer(request)
    if "usage_error" in answer:
        raise UsageError(answer["usage_error"])
    if "problem" in answer:
        raise ValueError(answer["problem"])
    return answer["found"]


def seconds_taken() -> float:
    """Return the processor time that everything parsed so far has taken, in seconds."""
    return _Child.seconds_taken


class _Child:
    """A process that parses."""

    seconds_taken = 0.0  # of processor time, by all of them

    def __init__(self) -> None:
        """Start it. Raises MachineError."""
        command = [sys.executable, "-I", "-S", str(CHILD), str(CHILD.parents[1]), str(SECONDS), str(MEGABYTES)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not meant for it
            )
        except OSError as error:
            raise MachineError(f"no process can be started to parse files in: {error.strerror}") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        if self._answers.readline().strip() != b"ready":
            self.end()
            raise MachineError(f"a process to parse files in does not start: {' '.join(command)}")

    def answer(self, request: bytes) -> Answer | None:
        """Return its answer; None if it died."""
        clock = threading.Timer(PATIENCE, self._process.kill)
        clock.start()
        try:
            self._requests.write(request)
            self._requests.flush()
            line = self._answers.readline()
        except OSError:
            return None
        finally:
            clock.cancel()
        return json.loads(line) if line.endswith(b"\n") else None

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


_idle: list[_Child] = []


def _answer(request: bytes) -> Answer:
    """Return the answer of a process; its death is the file's fault only if it has seen no other file."""
    answer = _ask(_idle_child(), request) or _ask(_Child(), request)
    return {"problem": DIED} if answer is None else answer


def _idle_child() -> _Child | None:
    try:
        return _idle.pop()
    except IndexError:
        return None


def _ask(child: _Child | None, request: bytes) -> Answer | None:
    if child is None:
        return None
    answer = None
    try:
        answer = child.answer(request)
    finally:
        _Child.seconds_taken += SECONDS if answer is None else answer["seconds"]
        if answer is None or "is_spent" in answer:
            child.end()
        else:
            _idle.append(child)
    return answer


def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


atexit.register(_end_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they answer the parent
