"""Starts processes that run one submission once, and takes back what they leave. Trusted side.

Two ways behind one interface: `ForkLauncher` forks each run from a warm zygote (milliseconds), `SpawnLauncher` starts a
new interpreter for each (seconds, but on any system). Neither reads anything of a run before its processes are dead.
"""

import atexit
import contextlib
import dataclasses
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import harness
from harness.errors import MachineError
from harness.runner.message import REPORT_BYTES, Job

__all__ = [
    "Ended",
    "ForkLauncher",
    "LaunchError",
    "Launcher",
    "Process",
    "SpawnLauncher",
    "launcher",
    "run_in_foreground",
]

ROOT = Path(harness.__file__).parents[1]
WARM_SECONDS = 120.0
SEALS = 0x0001 | 0x0002 | 0x0004  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
F_ADD_SEALS = 1033


class LaunchError(Exception):
    """A process could not be started or lost contact before it was told to go: never a submission's fault."""


@dataclass(frozen=True)
class Ended:
    """What a dead process left: nothing here is trusted."""

    result: bytes  # of the size asked for; zeros if nothing was written
    report: bytes
    log: str
    status: int  # exit status, negative for the signal that ended it


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

    def start(self, job: Job, n_bytes: int) -> Process:
        """Start a run that hands in n_bytes of weights. Raises LaunchError."""

    def close(self) -> None:
        """End all processes of this launcher, runs in flight as well."""


def launcher(public: Path, *, public_hash: str, device: str, log_kb: int, fork: bool | None = None) -> Launcher:
    """Return the launcher for the public part of a track; fork None: where the system can.

    public_hash: names the contents of `public`. A launcher lives as long as this process and serves all submissions.
    """
    forks = sys.platform == "linux" if fork is None else fork
    key = (public.resolve(), public_hash, device, log_kb, forks)
    if key not in _launchers or _launchers[key].is_closed:
        kind = ForkLauncher if forks else SpawnLauncher
        _launchers[key] = kind(public, device=device, log_bytes=log_kb * 1024)
    return _launchers[key]


_launchers: dict[tuple[object, ...], "ForkLauncher | SpawnLauncher"] = {}


@atexit.register
def _close_all() -> None:
    for each in _launchers.values():
        each.close()


def run_in_foreground(public: Path, job: Job) -> bool:
    """Run a submission once on this terminal, without a limit; whether it returned a fit net. Nothing is kept."""
    job_file = Path(job.scratch) / "job.json"
    job_file.write_bytes(job.to_bytes())
    arguments = _command("foreground.py", str(ROOT), str(public), str(job_file))
    return subprocess.run(arguments, env=os.environ | _environment(job.device), check=False).returncode == 0


def _environment(device: str) -> dict[str, str]:
    """Return all a run's process inherits. Hashes are fixed: a repeated run iterates its sets in the same order."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    hidden_gpu = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    inherited = {
        name: os.environ[name]
        for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "CUDA_VISIBLE_DEVICES")
        if name in os.environ
    }
    fixed = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    return inherited | fixed | one_thread | hidden_gpu


def _command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-s", "-P", str(Path(__file__).with_name(script)), *arguments]


class _Log:
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


# ---- from a warm zygote -------------------------------------------------------------------------------------------


class ForkLauncher:
    """Forks runs from a zygote; starts another one if it is lost."""

    def __init__(self, public: Path, *, device: str, log_bytes: int) -> None:
        self.public, self.device, self.log_bytes = public, device, log_bytes
        self.is_closed = False
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None

    def start(self, job: Job, n_bytes: int) -> "_ForkedProcess":
        """Fork a run."""
        with self._lock:
            if self.is_closed:
                raise LaunchError("interrupted")
            if self._zygote is not None and self._zygote.process.poll() is not None:
                self._zygote.close()
                self._zygote = None
            if self._zygote is None:
                self._zygote = _Zygote(self.public, self.device)
            return _ForkedProcess(self, self._zygote, job, n_bytes)

    def close(self) -> None:
        """End the zygote, which ends its runs."""
        self.is_closed = True
        if self._zygote is not None:
            self._zygote.close()


class _Zygote:
    """The trusted side's end of a zygote."""

    def __init__(self, public: Path, device: str) -> None:
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the zygote lives
        with theirs:
            self.process = subprocess.Popen(
                _command("zygote.py", str(theirs.fileno()), str(ROOT), str(public)),
                pass_fds=[theirs.fileno()],
                env=_environment(device),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd="/",
                start_new_session=True,  # a Ctrl-C is the trusted side's to handle
            )
        self.requests.settimeout(WARM_SECONDS)
        if _received(self.requests) != b"warm":
            said = self.last_words()
            self.close()
            raise MachineError(f"the process that runs submissions did not start:\n{said}")

    def last_words(self) -> str:
        """Return the end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:]

    def close(self) -> None:
        """End it, and with it its runs."""
        self.requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
        self._errors.close()


class _ForkedProcess:
    def __init__(self, launcher: ForkLauncher, zygote: _Zygote, job: Job, n_bytes: int) -> None:
        self._launcher = launcher
        self._log = _Log(launcher.log_bytes)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log_end, log_theirs = os.pipe()
        os.set_blocking(self._log_end, False)
        self._result, self._report = _memory(n_bytes), _memory(REPORT_BYTES)
        content = job.to_bytes()
        job_memory = _memory(len(content), content)
        self._pidfd = -1
        try:
            given = [job_memory, self._result, self._report, log_theirs, theirs.fileno()]
            socket.send_fds(zygote.requests, [b"run"], given)
        except OSError as error:
            self.close()
            raise LaunchError(f"the zygote is gone ({error}): {zygote.last_words()}") from None
        finally:
            theirs.close()
            os.close(job_memory)
            os.close(log_theirs)

    def wait_ready(self, seconds: float) -> None:
        self._channel.settimeout(seconds)
        is_ready = False
        while not (is_ready and self._pidfd >= 0):  # the child's "ready" and the zygote's pidfd come in either order
            try:
                content, descriptors, _, _ = socket.recv_fds(self._channel, 64, 1)
            except OSError as error:
                raise LaunchError(f"the run was not ready ({error})") from None
            if not content or content.startswith(b'{"status'):
                raise LaunchError("the run ended before it was ready")
            is_ready = is_ready or content == b"ready"
            self._pidfd = descriptors[0] if descriptors else self._pidfd

    def go(self) -> None:
        self._channel.send(b"go")

    def wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.register(self._log_end, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = dict(poll.poll(max(0.0, left) * 1000))
            if self._pidfd in ready:
                return True
            if left <= 0:
                return False
            if self._log_end in ready and not self._drain(1 << 20):
                poll.unregister(self._log_end)  # the run closed its output

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # the zygote then ends the rest of its session

    def finish(self) -> Ended:
        status = json.loads(_received(self._channel) or "{}").get("status")
        if status is None or self._launcher.is_closed:
            raise LaunchError("the zygote was lost during the run")
        while self._drain(1 << 20):
            continue
        result = os.pread(self._result, os.fstat(self._result).st_size, 0)
        report = os.pread(self._report, REPORT_BYTES, 0)
        return Ended(result, report, self._log.text(), status)

    def close(self) -> None:
        for descriptor in (self._log_end, self._result, self._report, self._pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self._channel.close()

    def _drain(self, n_bytes: int) -> int:
        """Read what the run printed, without waiting; how many bytes there were."""
        try:
            content = os.read(self._log_end, n_bytes)
        except BlockingIOError:
            return 0
        self._log.add(content)
        return len(content)


def _received(channel: socket.socket) -> bytes:
    """Return the next message; empty if there is none and never will be."""
    try:
        return channel.recv(4096)
    except OSError:
        return b""


def _memory(n_bytes: int, content: bytes = b"") -> int:
    """Return a file in memory of fixed size: no path, no header, and nobody can make it longer or shorter."""
    descriptor = os.memfd_create("run", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, n_bytes)
    if content:
        os.pwrite(descriptor, content, 0)
    fcntl.fcntl(descriptor, F_ADD_SEALS, SEALS)
    return descriptor


# ---- a new interpreter each time ----------------------------------------------------------------------------------


class SpawnLauncher:
    """Starts an interpreter per run, and always one ahead, so that its imports overlap with the run before."""

    def __init__(self, public: Path, *, device: str, log_bytes: int) -> None:
        self.public, self.device, self.log_bytes = public, device, log_bytes
        self.is_closed = False
        self._lock = threading.Lock()
        self._ahead: subprocess.Popen[bytes] | None = None
        self._running: list[_SpawnedProcess] = []

    def start(self, job: Job, n_bytes: int) -> "_SpawnedProcess":
        """Give the job to the process started ahead, and start the next one."""
        with self._lock:
            if self.is_closed:
                raise LaunchError("interrupted")
            process, self._ahead = self._ahead or self._interpreter(), self._interpreter()
            run = _SpawnedProcess(self, process, job, n_bytes)
            self._running = [*(other for other in self._running if not other.wait(0)), run]
        return run

    def close(self) -> None:
        """End the process started ahead and all runs."""
        self.is_closed = True
        for run in self._running:
            run.kill()
        if self._ahead is not None:
            self._ahead.communicate()  # its standard input ends, and so does it

    def _interpreter(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            _command("fresh.py", str(ROOT), str(self.public)),
            env=_environment(self.device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class _SpawnedProcess:
    def __init__(self, launcher: SpawnLauncher, process: "subprocess.Popen[bytes]", job: Job, n_bytes: int) -> None:
        self._launcher, self._process, self._n_bytes = launcher, process, n_bytes
        self._folder = Path(tempfile.mkdtemp(prefix="harness-run-"))
        self._log = _Log(launcher.log_bytes)
        self._ready, self._ended = threading.Event(), threading.Event()
        paths = {"result": self._folder / "result", "report": self._folder / "report"}
        for path in paths.values():
            path.touch()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, daemon=True).start()
        self._say(json.dumps({"job": dataclasses.asdict(job), **{name: str(path) for name, path in paths.items()}}))

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
