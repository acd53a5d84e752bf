"""Gives each run its sandbox: the plan for it, a user id and a cgroup where the level has them. Trusted side."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import accelerator
from harness.runner.sandbox import gpu, traces
from harness.runner.sandbox.cgroup import Cgroup, Cgroups
from harness.runner.sandbox.memory import MemoryWatch
from harness.runner.sandbox.plan import CACHE, SCRATCH, Plan, packages
from harness.runner.sandbox.privileges import is_root
from harness.runner.sandbox.scratch import scratch_place
from harness.runner.sandbox.users import UserIds

__all__ = ["Quota", "Sandbox", "Sandboxes"]

MB = 1 << 20


@dataclass(frozen=True)
class Quota:
    """What one run may use, all its processes together."""

    memory_mb: int
    processes: int  # threads count as well
    scratch_mb: int
    threads: int  # that compute at once


class Sandbox:
    """The trusted side's end of one run's sandbox."""

    def __init__(self, plan: Plan, scratch: str, cgroup: Cgroup | None, occupants: gpu.Occupants | None) -> None:
        self.plan, self.scratch, self._cgroup, self._occupants = plan, scratch, cgroup, occupants
        self.cache = CACHE if plan.has_namespaces else f"{scratch}/.cache"
        self._watch: MemoryWatch | None = None
        self._is_over = False

    def admit(self, pidfd: int) -> None:
        """Put the run's first process, and so all that follow, under its limits. Raises OSError."""
        pid = _process_id(pidfd)
        if self._cgroup is not None:
            self._cgroup.add(pid)
        else:
            self._watch = MemoryWatch(pid, self.plan.memory_bytes)

    def is_over_memory(self) -> bool:
        """Whether the run has to be killed now for its memory; to be asked again and again while it runs."""
        self._is_over = self._is_over or (self._watch is not None and self._watch.is_exceeded())
        return self._is_over

    def exceeded_memory(self) -> bool:
        """Whether anything of the run was killed for memory, now that it has ended."""
        return self._is_over or (self._cgroup is not None and self._cgroup.oom_kills() > 0)

    def close(self, *, was_killed: bool) -> None:
        """Remove what the run had; its processes are dead. Raises OSError if the next run could see what it left."""
        if self._occupants is not None and was_killed:
            self._occupants.wait_until_gone()
        try:
            if self._cgroup is not None:
                self._cgroup.forget()
                if self.plan.trace and traces.is_kept(self.plan.trace):
                    raise OSError("the kernel does not forget which files a run looked up")
        finally:
            if self._cgroup is not None:
                self._cgroup.remove()
            if not self.plan.has_namespaces:
                _remove(self.scratch)


class Sandboxes:
    """Makes the sandboxes of one launcher."""

    def __init__(
        self,
        level: str,
        quota: Quota,
        *,
        hidden: Iterable[Path],
        device: str,
        occupants: gpu.Occupants | None = None,
    ) -> None:
        """hidden: folders no run sees, should they lie within a folder of packages. device: its kind.

        occupants: of the GPU, waited for after a run that was killed. Raises OSError, MachineError.
        """
        if level == "full" and os.geteuid() == 0 and not is_root():
            raise OSError("this is root in a user namespace without ids for runs; it takes the machine's root")
        self.level, self.quota = level, quota
        kind = accelerator.of(device)
        self._is_gpu = kind.is_gpu
        self._devices = tuple(gpu.device_nodes(kind.node_patterns))
        self._occupants = occupants
        self._packages = packages() | (gpu.read_only() if self._is_gpu else {})
        self._hidden = tuple(_as_seen(hidden, {"/usr": "/usr", **self._packages}))
        self._users = UserIds() if is_root() and level != "none" else None
        self._cgroups = Cgroups() if level == "full" else None
        self._leaves_traces = self._cgroups is not None and traces.can_be_asked()

    def new(self) -> Sandbox:
        """Return a sandbox for one run. Raises OSError."""
        plan = Plan(
            level=self.level,
            packages=self._packages,
            hidden=self._hidden,
            user=self._users.next_id() if self._users is not None else None,
            has_cgroup=self._cgroups is not None,
            memory_bytes=self.quota.memory_mb * MB,
            processes=self.quota.processes,
            scratch_bytes=self.quota.scratch_mb * MB,
            gpu=self._is_gpu,
            devices=self._devices,
            trace=traces.new_name() if self._leaves_traces else "",
        )
        cgroup = None
        if self._cgroups is not None:
            cgroup = self._cgroups.create(
                memory_bytes=plan.memory_bytes, processes=plan.processes, threads=self.quota.threads
            )
        return Sandbox(plan, SCRATCH if plan.has_namespaces else _scratch(plan.user), cgroup, self._occupants)

    def close(self) -> None:
        """Give back user ids and cgroups."""
        if self._cgroups is not None:
            self._cgroups.close()
        if self._users is not None:
            self._users.close()


def _as_seen(hidden: Iterable[Path], shown: dict[str, str]) -> Iterable[str]:
    """Yield the paths under which a run would see hidden folders."""
    for folder in hidden:
        real = Path(os.path.realpath(folder))
        for path, source in shown.items():
            if real.is_relative_to(source):
                yield str(path / real.relative_to(source))


def _scratch(user: int | None) -> str:
    """Make an empty folder for a run without a root of its own."""
    folder = tempfile.mkdtemp(prefix="harness-scratch-", dir=scratch_place())
    if user is not None:
        os.chown(folder, user, user)
    return folder


def _remove(folder: str) -> None:
    """Remove what a run wrote, however deep it lies."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", folder], check=False)


def _process_id(pidfd: int) -> int:
    """Return the process id here of a process in another pid namespace."""
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["Pid"])
