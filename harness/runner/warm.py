"""Starts a zygote and keeps the line to it. Trusted side; it talks to `zygote`."""

import contextlib
import queue
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from harness.errors import MachineError
from harness.runner.process import ROOT, LaunchError, command, run_environment

__all__ = ["WarmZygote", "received"]

WARM_SECONDS = 120.0


class WarmZygote:
    """A zygote, seen from the trusted side: it imports beside this process, and says when it is warm."""

    def __init__(self, public: Path, device: str, level: str) -> None:
        self.is_closed = False
        self.runs: set[object] = set()  # in flight
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the zygote lives
        with theirs:
            self.process = _start_from_lasting_thread(
                command("inside/zygote.py", str(theirs.fileno()), str(ROOT), str(public), level, device),
                pass_fds=[theirs.fileno()],
                env=run_environment(device),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd="/",
                start_new_session=True,  # a Ctrl-C is the trusted side's to handle
            )
        self._is_warm = False

    def wait_until_warm(self) -> None:
        """Wait until it has imported all that it is to. Raises MachineError if it could not."""
        if self._is_warm:
            return
        self.requests.settimeout(WARM_SECONDS)
        if received(self.requests) != b"warm":
            said = self.last_words()
            self.close()
            raise MachineError(f"the process that runs submissions did not start:\n{said}")
        self._is_warm = True

    def request(self, content: bytes, descriptors: list[int]) -> None:
        """Ask for a run. Raises LaunchError if the zygote is gone."""
        try:
            socket.send_fds(self.requests, [content], descriptors)
        except OSError as error:
            raise LaunchError(f"the zygote is gone ({error}): {self.last_words()}") from None

    def last_words(self) -> str:
        """Return the end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:]

    def close(self) -> None:
        """End it, and with it its runs."""
        self.is_closed = True
        self.requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()
        self._errors.close()


def _start_from_lasting_thread(arguments: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process from a thread that lives as long as it: the process is killed when that thread ends.

    Runs are asked for by threads that come and go.
    """
    started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def start_and_stay() -> None:
        try:
            process = subprocess.Popen(arguments, **options)
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        process.wait()

    threading.Thread(target=start_and_stay, name="zygote's parent", daemon=True).start()
    process = started.get()
    if isinstance(process, OSError):
        raise process
    return process


def received(channel: socket.socket) -> bytes:
    """Return the next message; empty if there is none and never will be."""
    try:
        return channel.recv(4096)
    except OSError:
        return b""
