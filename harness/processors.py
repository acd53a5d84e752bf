"""How many processors this process may use: those it may run on, and the share of their time that its cgroups leave it.

In a container, or in a job of a cluster, both may be far fewer than the machine has. `usable_processors` is what to
divide among workers, and part of what a measured time depends on.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CgroupMount", "cgroup_mounts", "described_processors", "usable_processors"]

SYSTEM = Path("/")


def usable_processors(system: Path = SYSTEM) -> float:
    """Return how many processors' time this process has: a fraction where a quota gives it one.

    system: where /proc and /sys are, in tests another folder.
    """
    return min([_allowed(), *_quotas(system)])


def described_processors() -> str:
    """Return how many processors are usable, of how many if that is not all of them, in words."""
    usable, present = usable_processors(), os.cpu_count() or 1
    return f"{usable:g} cores" if usable == present else f"{usable:g} of {present} cores"


def _allowed() -> int:
    """Return the number of processors this process may run on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13 on; PYTHON_CPU_COUNT can set it
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(system: Path) -> Iterator[float]:
    """Yield the processors whose time each cgroup above this process leaves it; each counts, the smallest decides."""
    try:
        mounts = cgroup_mounts(system)
        own = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in own:
        _, controllers, path = line.split(":", 2)
        mount = mounts.get("cpu" if controllers else "cgroup2")
        if mount is not None and (not controllers or "cpu" in controllers.split(",")):
            for folder in mount.folders(path, system):
                if (quota := _quota(folder)) is not None:
                    yield quota


def _quota(folder: Path) -> float | None:
    """Return how many processors' time a cgroup has, of version 2 or 1; None if that is not limited."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


@dataclass(frozen=True)
class CgroupMount:
    """Where a hierarchy of cgroups is mounted; in a container that may be a part of it."""

    root: str  # the cgroup that is mounted
    point: Path

    def own(self, path: str) -> Path:
        """Return the folder of a cgroup. Raises OSError if it is not in the part that is mounted."""
        if not Path(path).is_relative_to(self.root):
            raise OSError(f"this process's cgroup {path} is not below {self.root}, which is mounted at {self.point}")
        return self.point / Path(path).relative_to(self.root)

    def folders(self, path: str, system: Path) -> Iterator[Path]:
        """Yield the folder of a cgroup and of those above it, as far as they are mounted, below another root."""
        try:
            own = self.own(path)
        except OSError:
            own = self.point  # a container that sees its own cgroup there, under a name of the host's
        for folder in (own, *own.parents):
            if folder.is_relative_to(self.point):
                yield system / folder.relative_to("/")


def cgroup_mounts(system: Path = SYSTEM) -> dict[str, CgroupMount]:
    """Return where cgroup hierarchies are mounted: by controller for version 1, as `cgroup2` for version 2."""
    mounts = {}
    for line in (system / "proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        _, _, _, root, point, *_ = before.split(" ")
        if kind == "cgroup2":
            mounts["cgroup2"] = CgroupMount(root, Path(point))
        elif kind == "cgroup":
            mounts |= dict.fromkeys(options.split(","), CgroupMount(root, Path(point)))
    return mounts
