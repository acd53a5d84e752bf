"""How many processors may be used, from the files of made-up machines."""

import os
from pathlib import Path

import pytest

from harness import processors
from harness.accelerator import of
from harness.processors import described_processors, usable_processors

VERSION_1 = "30 25 0:26 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
VERSION_2 = "31 25 0:27 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1 = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}
# What /proc/self/mountinfo and /proc/self/cgroup say, the files of cgroups by folder, and how many of 8 are usable.
MACHINES: dict[str, tuple[str, str, dict[str, str], float]] = {
    "no quota": (VERSION_2.format(root="/"), "0::/a", {"a/cpu.max": "max 100000\n"}, 8),
    "version 2": (VERSION_2.format(root="/"), "0::/a", {"a/cpu.max": "150000 100000\n"}, 1.5),
    "above its own": (VERSION_2.format(root="/"), "0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 1"}, 2),
    "more than there are": (VERSION_2.format(root="/"), "0::/a", {"a/cpu.max": "3200000 100000"}, 8),
    "less than one": (VERSION_2.format(root="/"), "0::/", {"cpu.max": "50000 100000"}, 0.5),
    "a container's own": (VERSION_2.format(root="/"), "0::/../../host", {"cpu.max": "400000 100000"}, 4),
    "part of the tree": (VERSION_2.format(root="/job"), "0::/job/step", {"step/cpu.max": "300000 100000"}, 3),
    "version 1": (
        VERSION_1.format(root="/"),
        "3:cpu,cpuacct:/a\n0::/",
        {f"cpu,cpuacct/a/{name}": value for name, value in (V1 | {"cpu.cfs_quota_us": "250000\n"}).items()},
        2.5,
    ),
    "version 1 without": (
        VERSION_1.format(root="/"),
        "3:cpu,cpuacct:/",
        {f"cpu,cpuacct/{name}": value for name, value in V1.items()},
        8,
    ),
    "damaged": (VERSION_2.format(root="/"), "0::/a", {"a/cpu.max": "much\n"}, 8),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_quota_counts_wherever_it_stands(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mountinfo, cgroup, files, usable = MACHINES[machine]
    for name, content in {"proc/self/mountinfo": mountinfo, "proc/self/cgroup": cgroup}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    for name, content in files.items():
        (tmp_path / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/fs/cgroup" / name).write_text(content)
    monkeypatch.setattr(processors, "_allowed", lambda: 8)
    assert usable_processors(tmp_path) == usable


def test_without_cgroups_those_count_that_may_be_used(tmp_path: Path) -> None:
    allowed = len(os.sched_getaffinity(0))
    assert usable_processors(tmp_path) == allowed


@pytest.mark.parametrize(("usable", "jobs"), [(0.5, 1), (1.5, 1), (3.9, 3)])
def test_as_many_runs_at_once_as_the_quota_allows(usable: float, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_quotas", lambda system: [usable])
    monkeypatch.setattr(processors, "_allowed", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert (of("cpu").default_jobs(1), of("cpu").default_trainings()) == (jobs, jobs)
    assert described_processors() == f"{usable:g} of 4 cores"
