"""Runs in a new interpreter each, for systems without fork; slow to start. Trusted side; it talks to `fresh`."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from harness.runner.message import REPORT_BYTES, Job
from harness.runner.process import ROOT, Ended, LaunchError, Log, command, run_environment
from harness.runner.sandbox.scratch import scratch_place

__all__ = ["SpawnLauncher"]


class SpawnLauncher:
    """Starts an interpreter per run, and always one ahead, so that its imports overlap with the run before."""

    isolation = "none"

    def __init__(self, public: Path, *, device: str, log_bytes: int) -> None:
        self.public, self.device, self.log_bytes = public, device, log_bytes
        self.is_closed = False
        self._lock = threading.Lock()
        self._ahead: subprocess.Popen[bytes] | None = None
        self._running: list[_SpawnedProcess] = []

    def warm_up(self) -> None:
        """Start the interpreter of the first run."""
        with self._lock:
            self._ahead = self._ahead or self._interpreter()

    def start(self, job: Job, n_bytes: int) -> "_SpawnedProcess":
        """Give the job to the process started ahead, and start the next one."""
        with self._lock:
            if self.is_closed:
                raise LaunchError("interrupted")
            process, self._ahead = self._ahead or self._interpreter(), self._interpreter()
            run = _SpawnedProcess(self, process, job, n_bytes)
            self._running = [*(other for other in self._running if not other.wait(0)), run]
        return run

    def rest(self) -> None:
        """End the process started ahead."""
        with self._lock:
            self._end_ahead()

    def close(self) -> None:
        """End the process started ahead and all runs."""
        self.is_closed = True
        for run in self._running:
            run.kill()
        self._end_ahead()

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.communicate()  # its standard input ends, and so does it
            self._ahead = None

    def _interpreter(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command("inside/fresh.py", str(ROOT), str(self.public)),
            env=run_environment(self.device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class _SpawnedProcess:
    def __init__(self, launcher: SpawnLauncher, process: "subprocess.Popen[bytes]", job: Job, n_bytes: int) -> None:
        self._launcher, self._process, self._n_bytes = launcher, process, n_bytes
        self._folder = Path(tempfile.mkdtemp(prefix="harness-run-", dir=scratch_place()))
        self._log = Log(launcher.log_bytes)
        self._ready, self._ended = threading.Event(), threading.Event()
        paths = {"result": self._folder / "result", "report": self._folder / "report"}
        for path in paths.values():
            path.touch()
        scratch = self._folder / "scratch"
        scratch.mkdir()
        job = dataclasses.replace(job, scratch=str(scratch))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, daemon=True).start()
        self._say(json.dumps({name: str(path) for name, path in paths.items()}))
        self._say(job.to_bytes().decode())

    def wait_ready(self, seconds: float) -> None:
        if not self._ready.wait(seconds) or self._ended.is_set():
            self.kill()
            raise LaunchError(f"the run was not ready in {seconds:.0f} s: {self._log.text()[-2000:]}")

    def go(self) -> None:
        self._say("go")

    def wait(self, seconds: float) -> bool:
        return self._ended.wait(seconds)

    def kill(self) -> None:
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def finish(self) -> Ended:
        self._ended.wait()
        self.kill()  # what it left behind
        self._reader.join(1.0)
        if self._launcher.is_closed:
            raise LaunchError("interrupted")
        result = _read_exactly(self._folder / "result", self._n_bytes)
        report = _read_exactly(self._folder / "report", None)
        return Ended(result, report, self._log.text(), self._process.returncode)

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _say(self, line: str) -> None:
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):
            stream.write(line.encode() + b"\n")
            stream.flush()

    def _watch(self) -> None:
        self._process.wait()
        self._ended.set()
        self._ready.set()

    def _read(self) -> None:
        stream: IO[bytes] | None = self._process.stdout
        assert stream is not None
        while content := os.read(stream.fileno(), 1 << 20):
            if not self._ready.is_set() and b"ready" in content.split():
                content = content.partition(b"ready")[2].lstrip()
                self._ready.set()
            self._log.add(content)


def _read_exactly(path: Path, n_bytes: int | None) -> bytes:
    """Return a file a run wrote: a regular one, under one name, of the given size (None: at most a report's)."""
    status = path.lstat()
    plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    if not plain or status.st_size > (REPORT_BYTES if n_bytes is None else n_bytes):
        return b""
    content = path.read_bytes()
    return content if n_bytes is None else content.ljust(n_bytes, b"\0")
