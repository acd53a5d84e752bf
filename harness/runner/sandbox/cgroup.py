"""A cgroup per run: limits on its memory, processes and processor time as a whole, of either version. Trusted side.

Each harness process makes a folder of its own in its own cgroup, and holds a lock on it as long as it lives; the runs'
cgroups are below. Folders whose lock is free belong to a dead harness and are removed by the next one.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.processors import SYSTEM, cgroup_mounts

__all__ = ["OPTIONAL", "PREFIX", "Cgroup", "Cgroups", "Hierarchy", "find_hierarchies"]

PREFIX = "unlearning-harness-"
OTHERS = f"{PREFIX}others"  # for processes that are of no run, in version 2
CONTROLLERS = ("memory", "pids")
OPTIONAL = "cpu"  # without it a run can take processors that are idle, or another run's
CORES_BESIDE = 0.25  # for what runs beside a run's threads, such as those that wait for a loader's workers
PERIOD_MICROSECONDS = 100_000
REMOVE_SECONDS = 2.0


@dataclass(frozen=True)
class Hierarchy:
    """Where this process's own cgroup is, and which controllers are used there."""

    version: int
    folder: Path
    controllers: tuple[str, ...]


def find_hierarchies(system: Path = SYSTEM) -> list[Hierarchy]:
    """Return the hierarchies that offer memory and pids to this process, and processor time if one does.

    system: where /proc is, in tests another folder. Raises OSError if one of the former is missing.
    """
    mounts = cgroup_mounts(system)
    found = []
    unified = None
    for line in (system / "proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if not names:
            unified = path
        usable = set(names.split(",")) & {*CONTROLLERS, OPTIONAL} & mounts.keys()
        found += [Hierarchy(1, mounts[name].own(path), (name,)) for name in sorted(usable)]
    found = [one for one in found if one.controllers != (OPTIONAL,) or os.access(one.folder, os.W_OK)]
    missing = {*CONTROLLERS, OPTIONAL} - {name for one in found for name in one.controllers}
    if missing and unified is not None and "cgroup2" in mounts:
        folder = mounts["cgroup2"].own(unified)
        while folder.name == OTHERS:  # where a harness before put this process
            folder = folder.parent
        offered = sorted(missing & set((folder / "cgroup.controllers").read_text().split()))
        found += [Hierarchy(2, folder, tuple(offered))] if offered else []
        missing -= set(offered)
    if lacking := sorted(missing - {OPTIONAL}):
        raise OSError(f"no cgroup controls {' and '.join(lacking)} here")
    return found


class Cgroups:
    """The cgroups of this harness process."""

    def __init__(self, hierarchies: list[Hierarchy] | None = None) -> None:
        """Sweep what dead harnesses left, and make this one's folders. Raises OSError where that is not allowed."""
        self._hierarchies = find_hierarchies() if hierarchies is None else hierarchies
        self._locks: list[int] = []
        self._folders: list[Path] = []
        self._numbers = itertools.count()
        try:
            for hierarchy in self._hierarchies:
                _sweep(hierarchy.folder)
                if hierarchy.version == 2:
                    _hand_down(hierarchy.folder, hierarchy.controllers)
                folder, lock = _own_folder(hierarchy.folder)
                self._folders.append(folder)
                self._locks.append(lock)
                if hierarchy.version == 2:
                    _enable(folder, hierarchy.controllers)
        except OSError:
            self.close()
            raise

    def create(self, *, memory_bytes: int, processes: int, threads: int) -> "Cgroup":
        """Return a new cgroup without processes, for as much processor time as so many threads take. Raises OSError."""
        quota = round((threads + CORES_BESIDE) * PERIOD_MICROSECONDS)
        name = f"run-{next(self._numbers)}"
        folders = {}
        for hierarchy, own in zip(self._hierarchies, self._folders, strict=True):
            folder = own / name
            folder.mkdir()
            for controller in hierarchy.controllers:
                folders[controller] = folder
                limits = _limits(hierarchy.version, controller, memory_bytes, processes, quota)
                for file, value in limits.items():
                    _write(folder / file, value)
        return Cgroup(folders)

    def close(self) -> None:
        """Remove this process's folders."""
        for folder in self._folders:
            _remove(folder)
        for lock in self._locks:
            os.close(lock)
        self._folders, self._locks = [], []


class Cgroup:
    """The cgroup of one run."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    def add(self, pid: int) -> None:
        """Put a process in, by its id here; children follow it. Raises OSError."""
        for folder in set(self._folders.values()):
            _write(folder / "cgroup.procs", str(pid))
            if str(pid) not in (folder / "cgroup.procs").read_text().split():
                raise OSError(f"process {pid} is not in {folder}")

    def oom_kills(self) -> int:
        """Return how many processes were killed for memory: the first of a run may live on and look fine."""
        folder = self._folders["memory"]
        events = folder / "memory.events" if (folder / "memory.events").exists() else folder / "memory.oom_control"
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts["oom_kill"])

    def forget(self) -> None:
        """Make the kernel drop what it keeps in memory for the run: names of files, and pages of them.

        Its processes are dead. What is left would be charged to the cgroup above, and stay.
        """
        folder = self._folders["memory"]
        with contextlib.suppress(FileNotFoundError):
            (folder / "memory.force_empty").write_text("0")  # version 1
            return
        (folder / "memory.high").write_text("0")  # version 2: above this the kernel takes memory back at once

    def remove(self) -> None:
        """Remove it, once its processes are dead."""
        for folder in set(self._folders.values()):
            _remove(folder)


def _limits(version: int, controller: str, memory_bytes: int, processes: int, quota: int) -> dict[str, str]:
    """Return what to write into the files of a cgroup; names that start with `?` may be missing.

    quota: of processor time in a period, in microseconds.
    """
    if controller == "pids":
        return {"pids.max": str(processes)}
    if controller == OPTIONAL and version == 1:
        return {"cpu.cfs_period_us": str(PERIOD_MICROSECONDS), "cpu.cfs_quota_us": str(quota)}
    if controller == OPTIONAL:
        return {"cpu.max": f"{quota} {PERIOD_MICROSECONDS}"}
    if version == 1:
        return {"memory.limit_in_bytes": str(memory_bytes), "?memory.swappiness": "0"}
    return {"memory.max": str(memory_bytes), "?memory.swap.max": "0", "memory.oom.group": "1"}


def _write(file: Path, value: str) -> None:
    if file.name.startswith("?"):
        file = file.with_name(file.name[1:])
        if not file.exists():
            return
    try:
        file.write_text(value)
    except OSError as error:  # version 1 refuses more than the cgroup above has, whose quota holds here anyway
        if file.name != "cpu.cfs_quota_us" or error.errno != errno.EINVAL:
            raise


def _hand_down(folder: Path, controllers: tuple[str, ...]) -> None:
    """Let the children of a cgroup of version 2 have its controllers.

    The kernel allows that only in a cgroup without processes of its own, so they all go one level down first. Limits of
    the cgroup itself hold for them as before.
    """
    for _ in range(10):
        try:
            _enable(folder, controllers)
        except OSError:
            leaf = folder / OTHERS
            leaf.mkdir(exist_ok=True)
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (leaf / "cgroup.procs").write_text(pid)
        else:
            return
    _enable(folder, controllers)


def _enable(folder: Path, controllers: tuple[str, ...]) -> None:
    enabled = (folder / "cgroup.subtree_control").read_text().split()
    if not set(controllers) <= set(enabled):
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def _own_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it; another harness may sweep it away in between, then make another."""
    while True:
        folder = parent / f"{PREFIX}{secrets.token_hex(4)}"
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            return folder, _lock(folder)


def _lock(folder: Path) -> int:
    """Return a descriptor that holds a folder's lock. Raises BlockingIOError, or FileNotFoundError if it is gone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(parent: Path) -> None:
    """Remove the folders of dead harnesses."""
    for folder in parent.glob(f"{PREFIX}*"):
        if folder.name == OTHERS:
            continue
        with contextlib.suppress(OSError):
            lock = _lock(folder)
            _remove(folder)
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a cgroup and those below it; the kernel may need a moment after the last process has died."""
    deadline = time.monotonic() + REMOVE_SECONDS
    for each in (*_below(folder), folder):
        while True:
            try:
                each.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    break  # the next harness sweeps it
                time.sleep(0.002)
            else:
                break


def _below(folder: Path) -> Iterator[Path]:
    for child in folder.glob("*/"):
        yield from _below(child)
        yield child
