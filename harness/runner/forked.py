"""One forked run, seen from the trusted side: its limits, its clock's signals, its log, and what it leaves.

The order, with `first` on the other side: the zygote hands over a pidfd, the run is put under its limits, "enter",
"ready", "go"; when the pidfd says that it has ended the zygote says how, and only then are result and report read. The
clock stops when the last process of the run is dead, see `wait`.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import signal
import socket
import time

from harness.runner.message import REPORT_BYTES, Job
from harness.runner.process import Ended, LaunchError, Log
from harness.runner.sandbox.sandboxes import Sandbox
from harness.runner.warm import WarmZygote, received

__all__ = ["ForkedProcess"]

END_SECONDS = 10.0  # for the kernel to end all of a killed run
WATCH_SECONDS = 0.1  # between two looks at the memory, where no cgroup limits it
SEALS = 0x0001 | 0x0002 | 0x0004  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
SEAL_WRITE = 0x0008
F_ADD_SEALS = 1033


class ForkedProcess:
    """One run, forked from a zygote into its sandbox."""

    def __init__(self, zygote: WarmZygote, sandbox: Sandbox, job: Job, *, n_bytes: int, log_bytes: int) -> None:
        self._zygote, self._sandbox = zygote, sandbox
        self._log = Log(log_bytes)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log_end, log_theirs = os.pipe()
        os.set_blocking(self._log_end, False)
        self._result, self._report = _memory(n_bytes), _memory(REPORT_BYTES)
        content = dataclasses.replace(job, scratch=sandbox.scratch, cache=sandbox.cache).to_bytes()
        job_memory = _memory(len(content), content, seals=SEALS | SEAL_WRITE)
        self._pidfd, self._was_killed = -1, False
        zygote.runs.add(self)
        try:
            given = [job_memory, self._result, self._report, log_theirs, theirs.fileno()]
            zygote.request(sandbox.plan.to_bytes(), given)
        except LaunchError:
            self.close()
            raise
        finally:
            theirs.close()
            os.close(job_memory)
            os.close(log_theirs)

    def wait_ready(self, seconds: float) -> None:
        self._channel.settimeout(seconds)
        is_ready = False
        while not is_ready:
            try:
                content, descriptors, _, _ = socket.recv_fds(self._channel, 4096, 1)
            except OSError as error:
                raise LaunchError(f"the run was not ready ({error})") from None
            if descriptors:
                self._pidfd = descriptors[0]
                self._admit()
            elif content.startswith(b"failed: "):
                raise LaunchError(f"the run could not be set up: {content[8:].decode(errors='replace')}")
            elif not content or content.startswith(b'{"status'):
                raise LaunchError("the run ended before it was ready")
            is_ready = content == b"ready"

    def _admit(self) -> None:
        """Let the run's first process begin, now that its limits hold."""
        try:
            self._sandbox.admit(self._pidfd)
            self._channel.send(b"enter")
        except OSError as error:
            raise LaunchError(f"the run could not be put under its limits: {error}") from None

    def go(self) -> None:
        with contextlib.suppress(OSError):  # it has ended already, as `finish` will find
            self._channel.send(b"go")

    def wait(self, seconds: float) -> bool:
        """In a pid namespace all of a run ends with its first process; elsewhere the zygote ends it, and says so."""
        ends = self._pidfd if self._sandbox.plan.has_namespaces else self._channel.fileno()
        now = time.monotonic()
        deadline, next_look = now + seconds, now + WATCH_SECONDS
        poll = select.poll()
        poll.register(ends, select.POLLIN)
        poll.register(self._log_end, select.POLLIN)
        while True:
            ready = dict(poll.poll(max(0.0, min(deadline, next_look) - now) * 1000))
            now = time.monotonic()
            if ends in ready:
                return True
            if now >= deadline:
                return False
            if self._log_end in ready and not self._drain(1 << 20):
                poll.unregister(self._log_end)  # the run closed its output
            if now >= next_look:
                next_look = now + WATCH_SECONDS
                if self._sandbox.is_over_memory():
                    self.kill()

    def kill(self) -> None:
        self._was_killed = True
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # the kernel, or the zygote, then ends the rest

    def finish(self) -> Ended:
        status = json.loads(received(self._channel) or "{}").get("status")
        if status is None or self._zygote.is_closed:
            raise LaunchError("the zygote was lost during the run")
        while self._drain(1 << 20):
            continue
        result = os.pread(self._result, os.fstat(self._result).st_size, 0)
        report = os.pread(self._report, REPORT_BYTES, 0)
        return Ended(result, report, self._log.text(), status, self._sandbox.exceeded_memory())

    def close(self) -> None:
        self._zygote.runs.discard(self)
        if self._pidfd >= 0:
            self._end()
            select.select([self._pidfd], [], [], END_SECONDS)
        for descriptor in (self._log_end, self._result, self._report, self._pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self._channel.close()
        try:
            self._sandbox.close(was_killed=self._was_killed)
        except OSError as error:
            raise LaunchError(f"something of the run is left: {error}") from None

    def _drain(self, n_bytes: int) -> int:
        """Read what the run printed, without waiting; how many bytes there were."""
        try:
            content = os.read(self._log_end, n_bytes)
        except BlockingIOError:
            return 0
        self._log.add(content)
        return len(content)


def _memory(n_bytes: int, content: bytes = b"", seals: int = SEALS) -> int:
    """Return a file in memory of fixed size: no path, no header, and nobody can make it longer or shorter."""
    descriptor = os.memfd_create("run", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, n_bytes)
    if content:
        os.pwrite(descriptor, content, 0)
    fcntl.fcntl(descriptor, F_ADD_SEALS, seals)
    return descriptor
