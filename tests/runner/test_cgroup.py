"""Cgroups of runs below a cgroup that has limits of its own, as in a container; and below one that was divided."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.runner.sandbox.cgroup import OTHERS, PREFIX, Cgroups, Hierarchy, find_hierarchies


@pytest.fixture
def half_a_processor() -> Iterator[Path]:
    """A cgroup of version 1 with half a processor's time; skips where none can be made."""
    try:
        own = next(one.folder for one in find_hierarchies() if one.version == 1 and one.controllers == ("cpu",))
        folder = own / f"test-{os.getpid()}"
        folder.mkdir()
    except (OSError, StopIteration):
        pytest.skip("no cgroup of version 1 for processor time")
    (folder / "cpu.cfs_period_us").write_text("100000")
    (folder / "cpu.cfs_quota_us").write_text("50000")
    yield folder
    folder.rmdir()


def test_a_run_may_have_less_than_its_threads_take(half_a_processor: Path) -> None:
    cgroups = Cgroups([Hierarchy(1, half_a_processor, ("cpu",))])
    try:
        run = cgroups.create(memory_bytes=1 << 20, processes=1, threads=1)
        assert [each.read_text() for each in half_a_processor.glob("*/run-0/cpu.cfs_quota_us")] == ["-1\n"]
    finally:
        run.remove()
        cgroups.close()


# ---- version 2, on plain files that do what the kernel does ---------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a /proc, and with cgroups of version 2 of which `app` holds two processes, 7 being this one."""
    point, own = tmp_path / "cgroup", tmp_path / "proc" / "self"
    own.mkdir(parents=True)
    (own / "mountinfo").write_text(f"30 25 0:26 / {point} rw shared:4 - cgroup2 cgroup2 rw\n")
    mkdir, rmdir, write_text = Path.mkdir, Path.rmdir, Path.write_text

    def make(folder: Path, *arguments: Any, **options: Any) -> None:
        mkdir(folder, *arguments, **options)
        if folder.is_relative_to(point) and not (folder / "cgroup.procs").exists():
            for name, content in {"controllers": "memory pids", "procs": "", "subtree_control": ""}.items():
                write_text(folder / f"cgroup.{name}", content)

    def remove(folder: Path) -> None:
        if (folder / "cgroup.procs").read_text() or list(folder.glob("*/")):
            raise OSError(errno.EBUSY, "it is in use")
        for file in folder.iterdir():
            file.unlink()
        rmdir(folder)

    def write(file: Path, text: str) -> None:
        if file.name == "cgroup.procs":
            for each in point.rglob("cgroup.procs"):
                write_text(each, "\n".join(pid for pid in each.read_text().split() if pid != text))
            text = f"{file.read_text()}\n{text}".strip()
            if "7" in text.split():
                write_text(own / "cgroup", f"0::/{file.parent.relative_to(point)}\n")
        elif file.name == "cgroup.subtree_control" and (file.parent / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, "it has processes of its own")
        write_text(file, text)

    for name, function in {"mkdir": make, "rmdir": remove, "write_text": write}.items():
        monkeypatch.setattr(Path, name, function)
    (point / "app").mkdir(parents=True)
    for pid in ("7", "8"):
        (point / "app" / "cgroup.procs").write_text(pid)
    return tmp_path


def test_in_version_2_every_harness_divides_the_same_cgroup_and_sweeps_what_is_left_there(system: Path) -> None:
    app = system / "cgroup" / "app"
    for _ in range(3):
        killed = app / f"{PREFIX}dead" / "run-0"
        killed.parent.mkdir()
        killed.mkdir()
        hierarchies = find_hierarchies(system)
        assert hierarchies == [Hierarchy(2, app, ("memory", "pids"))]
        cgroups = Cgroups(hierarchies)
        assert not killed.parent.exists()
        cgroups.close()
        assert [folder.name for folder in app.rglob("*/")] == [OTHERS]
        assert (app / OTHERS / "cgroup.procs").read_text().split() == ["7", "8"]
