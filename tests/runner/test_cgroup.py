"""Cgroups of runs below a cgroup that has limits of its own, as in a container."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runner.sandbox.cgroup import Cgroups, Hierarchy, find_hierarchies


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
