"""Runs forked from a warm zygote, in milliseconds. Trusted side; it talks to `zygote`."""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness.errors import MachineError
from harness.runner.message import REPORT_BYTES, Job
from harness.runner.process import ROOT, Ended, LaunchError, Log, command, environment

__all__ = ["ForkLauncher"]

WARM_SECONDS = 120.0
SEALS = 0x0001 | 0x0002 | 0x0004  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
F_ADD_SEALS = 1033


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
                command("zygote.py", str(theirs.fileno()), str(ROOT), str(public)),
                pass_fds=[theirs.fileno()],
                env=environment(device),
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
        self._log = Log(launcher.log_bytes)
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
