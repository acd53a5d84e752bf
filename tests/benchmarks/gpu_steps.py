"""Steps for the tests of the GPU benchmark, each of which ends in its own way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.steps import LeftOutError, Task

FOR_EVER = 3600


def fine(task: Task) -> None:
    task.say(value=1)


def raises(task: Task) -> None:
    task.say(value=1)
    raise ValueError("the driver is asleep")


def hangs(task: Task) -> None:
    """Hang, with a child that does so too, deaf to all that asks them to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOR_EVER})"])
    task.say(child=child.pid)
    time.sleep(FOR_EVER)


def prints_garbage(task: Task) -> None:
    os.write(1, bytes(range(256)) * 100)
    Path(task.lines).write_bytes(Path(task.lines).read_bytes() + b'\xff\x00\n[1, 2]\n{"step": "cut off\n')
    task.say(value=1)


def is_killed(task: Task) -> None:
    task.say(value=1)
    os.kill(os.getpid(), signal.SIGKILL)


def is_left_out(task: Task) -> None:
    raise LeftOutError("there is no snow")


def interrupts(task: Task) -> None:
    """Interrupt the process that runs the steps."""
    task.say(value=1)
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(FOR_EVER)


def is_a_card(task: Task) -> None:
    task.say(what="card", card="NVIDIA H200")
