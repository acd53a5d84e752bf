"""Measure what isolation costs per run, and that runs leave nothing behind.

    python -m benchmarks.isolation

Runs of a submission that does nothing, at `full` and at `none` in turn, in one process: the median of the paired
differences, of the whole run and of the part on a participant's clock. Then many runs of honest and hostile
submissions, several at once, and a look at what is left: processes, cgroups, mounts, files. Writes
benchmarks/results/isolation.json.
"""

import contextlib
import fcntl
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

import harness
from harness.cli.options import track_option
from harness.environment import environment
from harness.parallel import run_each
from harness.runner.execution import Finished, execute, seeds_of
from harness.runner.isolation import choose
from harness.runner.launch import close_all, launcher
from harness.runner.message import Job
from harness.runner.process import Launcher
from harness.runner.sandbox.cgroup import OTHERS, PREFIX, find_hierarchies
from harness.runner.sandbox.sandboxes import Quota
from harness.runs.measure import Recorder
from harness.storage import write_json
from harness.tracks.track import Track

IDLE = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"
SIGNATURE = "def unlearn(net, retain_loader, forget_loader, val_loader):\n    "
MIXED = (
    IDLE,
    f"import time\n{SIGNATURE}time.sleep(60)",
    f"import os\n{SIGNATURE}os._exit(0)",
    f"{SIGNATURE}blocks = [bytearray(1 << 28) for _ in range(64)]",
    f"import os, time\n{SIGNATURE}[os.fork() or time.sleep(60) for _ in range(300)]",
    f"import os\n{SIGNATURE}(os.fork() or os.setsid() or os.fork()) or __import__('time').sleep(60)",
    f"{SIGNATURE}open('/dev/shm/kept', 'wb').write(bytes(1 << 26)); open('/tmp/kept', 'wb').write(bytes(1 << 26))",
    f"{SIGNATURE}open('/etc/kept', 'w')",
    f"import socket\n{SIGNATURE}socket.create_connection(('127.0.0.1', 80))",
    f"{SIGNATURE}print('x' * (1 << 24))",
)


@click.command()
@track_option
@click.option("--pairs", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--mixed", "n_mixed", default=200, show_default=True, type=click.IntRange(min=0))
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1))
def main(track_name: str, pairs: int, n_mixed: int, jobs: int) -> None:
    """Measure the cost of isolation, and what is left after it."""
    track = harness.open_track(track_name)
    n_values = Recorder(track).n_values
    before = _left()
    result = {
        "track": track.name,
        "level": choose("full").level,
        **_cost(track, n_values, pairs),
        **_mixture(track, n_values, n_mixed, jobs),
        "left": None,
        **environment(),
    }
    close_all()
    result["left"] = {what: sorted(after - before[what]) for what, after in _left().items()}
    for name, value in result.items():
        click.echo(f"{name:26s} {value:.1f}" if isinstance(value, float) else f"{name:26s} {value}")
    write_json(Path(__file__).parent / "results" / "isolation.json", result)


def _cost(track: Track, n_values: int, pairs: int) -> dict[str, Any]:
    """Return medians in ms over pairs of a run at each level."""
    launchers = {level: launcher_at(track, level) for level in ("none", "full")}
    whole: dict[str, list[float]] = {level: [] for level in launchers}
    clocked: dict[str, list[float]] = {level: [] for level in launchers}
    for index in range(-3, pairs):  # the first few warm up
        for level, processes in launchers.items():
            started = time.perf_counter()
            finished = _run(processes, track, IDLE, n_values, index)
            if index >= 0:
                whole[level].append(1000 * (time.perf_counter() - started))
                clocked[level].append(1000 * finished.seconds)
    result: dict[str, Any] = {}
    for name, values in (("run", whole), ("clock", clocked)):
        extra = np.subtract(values["full"], values["none"])
        result |= {f"{name}_ms_{level}": float(np.median(values[level])) for level in launchers}
        result[f"extra_{name}_ms"] = float(np.median(extra))
        result[f"extra_{name}_ms_90"] = [float(value) for value in np.quantile(extra, (0.05, 0.95))]
    return {"pairs": pairs, **result}


def _mixture(track: Track, n_values: int, runs: int, jobs: int) -> dict[str, Any]:
    """Make runs of honest and hostile submissions; return how they ended."""
    processes = launcher_at(track, "full")
    sources = list(itertools.islice(itertools.cycle(MIXED), runs))
    outcomes = run_each(
        lambda index: _run(processes, track, sources[index], n_values, index).outcome, range(runs), jobs=jobs
    )
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome] = counts.get(outcome, 0) + 1
    return {"mixed_runs": runs, "mixed_jobs": jobs, "outcomes": counts}


def launcher_at(track: Track, level: str) -> Launcher:
    """Return what starts runs at a level, one thread each."""
    return launcher(
        track.public,
        public_hash=track.manifest.public_hash,
        device="cpu",
        log_kb=track.declaration.limits.log_kb,
        isolation=level,
        quota=Quota(memory_mb=1024, processes=100, scratch_mb=256, threads=1),
    )


def _run(processes: Launcher, track: Track, source: str, n_values: int, index: int) -> Finished:
    job = Job(source, "mixed.py", 0, seeds_of(track.secret, source, index), "cpu", threads=1, time_limit_seconds=1.0)
    return execute(processes, job, n_values=n_values)


def _left() -> dict[str, set[str]]:
    """Return what there is of processes below this one, cgroups, mounts and temporary files of the harness."""
    mine = f"{os.getpid()}"
    processes = {
        status.parent.name
        for status in Path("/proc").glob("[0-9]*/status")
        if status.exists() and f"PPid:\t{mine}\n" in status.read_text()
    }
    return {
        "processes": processes,
        "cgroups": {str(folder) for folder in _dead_cgroups()},
        "mounts": set(Path("/proc/self/mountinfo").read_text().splitlines()),
        "files": {str(path) for place in ("/tmp", "/dev/shm") for path in Path(place).glob("*kept*")}
        | {str(path) for path in Path(tempfile.gettempdir()).glob("harness-*")},
    }


def _dead_cgroups() -> Iterator[Path]:
    """Yield the cgroups of harnesses whose lock is free: those of other harnesses that are running do not count."""
    for hierarchy in find_hierarchies():
        for folder in set(hierarchy.folder.glob(f"{PREFIX}*")) - {hierarchy.folder / OTHERS}:  # which stays
            descriptor = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield folder
            os.close(descriptor)


if __name__ == "__main__":
    main()
