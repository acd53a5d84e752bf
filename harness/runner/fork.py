"""Has runs forked from a warm zygote, in milliseconds each; starts another zygote if it is lost. Trusted side."""

import threading
from pathlib import Path

from harness.runner.forked import ForkedProcess
from harness.runner.message import Job
from harness.runner.process import LaunchError
from harness.runner.sandbox.sandboxes import Sandboxes
from harness.runner.warm import WarmZygote

__all__ = ["ForkLauncher"]


class ForkLauncher:
    """Forks runs from a zygote, each into a sandbox of its own."""

    def __init__(self, public: Path, *, device: str, log_bytes: int, sandboxes: Sandboxes) -> None:
        self.public, self.device, self.log_bytes, self.sandboxes = public, device, log_bytes, sandboxes
        self.is_closed = False
        self._lock = threading.Lock()
        self._zygote: WarmZygote | None = None

    def warm_up(self) -> None:
        """Start a zygote, unless there is one."""
        with self._lock:
            self._living_zygote()

    def start(self, job: Job, n_bytes: int) -> ForkedProcess:
        """Fork a run."""
        with self._lock:
            if self.is_closed:
                raise LaunchError("interrupted")
            zygote = self._living_zygote()
            zygote.wait_until_warm()
            try:
                sandbox = self.sandboxes.new()
            except OSError as error:
                raise LaunchError(f"no sandbox for the run: {error}") from None
            return ForkedProcess(zygote, sandbox, job, n_bytes=n_bytes, log_bytes=self.log_bytes)

    def _living_zygote(self) -> WarmZygote:
        """Return the zygote; another one if it was lost."""
        if self._zygote is not None and self._zygote.process.poll() is not None:
            self._zygote.close()
            self._zygote = None
        if self._zygote is None:
            self._zygote = WarmZygote(self.public, self.device, self.sandboxes.level)
        return self._zygote

    @property
    def isolation(self) -> str:
        """The level its runs are made at."""
        return self.sandboxes.level

    def rest(self) -> None:
        """End a zygote that has no run in flight."""
        with self._lock:
            if self._zygote is not None and not self._zygote.runs:
                self._zygote.close()
                self._zygote = None

    def close(self) -> None:
        """End the zygote, which ends its runs."""
        self.is_closed = True
        if self._zygote is not None:
            self._zygote.close()
        self.sandboxes.close()
