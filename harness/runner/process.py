"""What a run's process is to the trusted side, whichever way it was started: interface, environment, log."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import harness
from harness.accelerator import FAKE_VARIABLE
from harness.runner.message import Job

__all__ = ["ROOT", "Ended", "LaunchError", "Launcher", "Log", "Process", "command", "run_environment"]

ROOT = Path(harness.__file__).parents[1]
GPU_CHOICE = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # both, or a run has another GPU than the harness


class LaunchError(Exception):
    """A process could not be started or lost contact before it was told to go: never a submission's fault."""


@dataclass(frozen=True)
class Ended:
    """What a dead process left: nothing here is trusted."""

    result: bytes  # of the size asked for; zeros if nothing was written
    report: bytes
    log: str
    status: int  # exit status, negative for the signal that ended it
    exceeded_memory: bool = False  # the kernel killed some of it for memory, though the rest may look fine


class Process(Protocol):
    """One run, from its start to its end."""

    def wait_ready(self, seconds: float) -> None:
        """Wait until the run has everything and waits for "go". Raises LaunchError."""

    def go(self) -> None:
        """Let the submission start."""

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end; whether it has."""

    def kill(self) -> None:
        """End the process and all it started, at once."""

    def finish(self) -> Ended:
        """Return what an ended process left. Raises LaunchError."""

    def close(self) -> None:
        """Let go of everything; to be called last, in any case."""


class Launcher(Protocol):
    """Starts runs of one track on one device; a closed one starts no more."""

    is_closed: bool

    @property
    def isolation(self) -> str:
        """The level its runs are made at."""

    def warm_up(self) -> None:
        """Begin to get ready for runs, and return at once."""

    def start(self, job: Job, n_bytes: int) -> Process:
        """Start a run that hands in n_bytes of weights, in an empty folder of its own. Raises LaunchError."""

    def rest(self) -> None:
        """End what is kept ready for the next run, which then starts anew; not while runs are in flight."""

    def close(self) -> None:
        """End all processes of this launcher, runs in flight as well."""


def run_environment(device: str) -> dict[str, str]:
    """Return all a run's process inherits. Hashes are fixed: a repeated run iterates its sets in the same order."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")
    one_thread = dict.fromkeys(names, "1")
    hidden_gpu = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    of_windows = ["PATH"] if os.name == "nt" else []
    pretended = [FAKE_VARIABLE] if device == "fake" else []
    passed_on = ["LD_LIBRARY_PATH", "SYSTEMROOT", *GPU_CHOICE, *of_windows, *pretended]
    inherited = {name: os.environ[name] for name in passed_on if name in os.environ}
    path = {} if os.name == "nt" else {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    fixed = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    return inherited | path | fixed | one_thread | hidden_gpu


def command(script: str, *arguments: str) -> list[str]:
    """Return the command that starts a script of this folder, with nothing of the user's on its path."""
    return [sys.executable, "-s", "-P", str(Path(__file__).parent / script), *arguments]


class Log:
    """The first bytes of what a run prints; the rest is read and dropped, so that printing never blocks it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.kept, self.dropped = limit, bytearray(), 0

    def add(self, content: bytes) -> None:
        room = self.limit - len(self.kept)
        self.kept += content[:room]
        self.dropped += max(0, len(content) - room)

    def text(self) -> str:
        text = self.kept.decode("utf-8", errors="replace")
        return f"{text}\n[{self.dropped} more bytes were printed]" if self.dropped else text
