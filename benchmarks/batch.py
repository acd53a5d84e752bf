"""Measure what a batch costs beside its runs: workers here, workers of a Dask cluster, and the scoring.

    python -m benchmarks.batch --submissions 4 --runs 32

The same submissions of constant work, with fresh results each time: one and two threads here, then one and two workers
of a real Dask scheduler on loopback. What a run costs beyond the time inside `unlearn` is in worker seconds: wall time
times workers, less the time inside, over the runs. Then one submission is scored. From these figures follows what 1,000
submissions with 512 runs take on 8 GPUs; the arithmetic is printed. Writes benchmarks/results/batch.json.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import harness
from benchmarks.overhead import SOURCE
from harness.cli.options import track_option
from harness.environment import environment, home
from harness.evaluation.evaluate import load_evaluation
from harness.leaderboard.assurance.costs import Request, costs, stored_runs
from harness.leaderboard.batch.backend import RunOptions
from harness.leaderboard.batch.cluster import Cluster
from harness.runner.isolation import choose
from harness.runs.conditions import conditions_here
from harness.runs.local import LocalExecutor
from harness.runs.queue import Executor, make_runs
from harness.runs.run_set import RunSet
from harness.runs.store import Results
from harness.storage import write_json
from harness.submission import Submission, submission_of
from harness.tracks.track import Track

MIN_RUNS = 32  # half of them are enough for all that is found of a score
GOAL = {"submissions": 1000, "runs": 512, "gpus": 8}


@click.command()
@track_option
@click.option("--submissions", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--runs", default=32, show_default=True, type=click.IntRange(min=MIN_RUNS), help="Of each submission.")
def main(track_name: str, submissions: int, runs: int) -> None:
    """Measure batches, and say what a large one takes."""
    track = harness.open_track(track_name)
    conditions = conditions_here(
        track, home(), device="cpu", isolation=choose(), jobs=2, announce=lambda sentence: click.echo(sentence)
    )
    result: dict[str, Any] = {
        "track": track.name,
        "submissions": submissions,
        "runs": runs,
        "isolation": conditions.isolation.level,
        **environment(),
    }
    sizes = (submissions, runs)
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            here = LocalExecutor(track, replace(conditions, jobs=workers))
            result[f"here_{workers}"] = _measure(here, workers, track, Path(folder) / f"here-{workers}", sizes)
        for workers in (1, 2):
            with _cluster(track, workers) as executor:
                result[f"dask_{workers}"] = _measure(executor, workers, track, Path(folder) / f"dask-{workers}", sizes)
        result["scoring"] = _scoring(track, Path(folder) / "here-2", runs)
        stored = stored_runs(Path(folder) / "here-2", track, "cpu")
        assert conditions.limit is not None
        request = Request(teams=GOAL["submissions"], tries=1, runs=GOAL["runs"], workers=GOAL["gpus"])
        result["plan"] = [each.to_json() for each in costs(request, track, "cpu", conditions.limit, stored)]
    result["extrapolation"] = _extrapolated(result)
    for name in ("here_1", "here_2", "dask_1", "dask_2", "scoring"):
        click.echo(f"{name:8s} " + ", ".join(f"{key} {value:.3g}" for key, value in result[name].items()))
    click.echo("\n".join(result["extrapolation"]))
    write_json(Path(__file__).parent / "results" / "batch.json", result)


def _measure(executor: Executor, workers: int, track: Track, folder: Path, sizes: tuple[int, int]) -> dict[str, float]:
    """Make the runs of a batch, after one that warms every worker up."""
    warm_up = [_run_set(_submission(-1 - number), track, folder, 1) for number in range(workers)]
    for _ in make_runs(warm_up, executor):
        pass
    submissions, runs = sizes
    run_sets = [_run_set(_submission(number), track, folder, runs) for number in range(submissions)]
    started = time.perf_counter()
    infos = [run.info for _, run in make_runs(run_sets, executor)]
    wall = time.perf_counter() - started
    count = len(infos)
    inside = sum(info.seconds_inside for info in infos)
    whole = sum(info.whole_seconds or 0.0 for info in infos)
    return {
        "runs_per_second": count / wall,
        "inside_ms": 1000 * inside / count,
        "whole_ms": 1000 * whole / count,  # of the worker: start, run, measuring
        "overhead_ms": 1000 * (wall * workers - inside) / count,
        "queue_ms": 1000 * (wall * workers - whole) / count,  # storing, sending, waiting for the next
    }


def _submission(number: int) -> Submission:
    return submission_of(Path(f"work{number}.py"), f"NUMBER = {number}\n{SOURCE}".encode(), source_kb=256)


def _run_set(submission: Submission, track: Track, folder: Path, runs: int) -> RunSet:
    return RunSet(submission, Results.of(folder, track, submission, "cpu"), runs)


@contextmanager
def _cluster(track: Track, workers: int) -> Iterator[Cluster]:
    """Start a scheduler and workers, each in a process of its own, and give them a track."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        loopback = ("--host", "127.0.0.1", "--no-dashboard")
        address = _dask(stack, folder, "Scheduler at:", "scheduler", *loopback, "--port", "0").split()[-1]
        for _ in range(workers):
            _dask(stack, folder, "Registered to:", "worker", address, *loopback, "--nthreads", "1", "--no-nanny")
        cluster = Cluster(address, track, RunOptions("cpu", "auto", None), is_insecure=False, say=print)
        yield stack.enter_context(cluster)


def _dask(stack: ExitStack, folder: str, until: str, *arguments: str) -> str:
    """Start a process of Dask, and return the line in which it says that it is there."""
    command = [sys.executable, "-m", "dask", *arguments]
    environ = os.environ | {"HARNESS_HOME": str(home())}
    process = subprocess.Popen(command, env=environ, cwd=folder, stderr=subprocess.PIPE, text=True)
    stack.callback(process.communicate)
    stack.callback(process.kill)
    assert process.stderr is not None
    return next(line for line in process.stderr if until in line)


def _scoring(track: Track, folder: Path, runs: int) -> dict[str, float]:
    """Return the CPU seconds that the score of one submission takes: a part of its own, and one for each run."""
    submission = _submission(0)
    seconds = {}
    for count in (runs // 2, runs):
        load_evaluation(submission, track, "cpu", runs=count, home=folder)  # ceiling and floor are computed once
        started = time.process_time()
        load_evaluation(submission, track, "cpu", runs=count, home=folder, rescore=True)
        seconds[count] = time.process_time() - started
    per_run = (seconds[runs] - seconds[runs // 2]) / (runs - runs // 2)
    return {"runs": runs, "seconds": seconds[runs], "constant": seconds[runs] - runs * per_run, "per_run": per_run}


def _extrapolated(result: dict[str, Any]) -> list[str]:
    """Return the arithmetic of the large batch, line by line."""
    submissions, runs, gpus = GOAL["submissions"], GOAL["runs"], GOAL["gpus"]
    figures = {figure["name"]: figure["value"] for figure in result["plan"]}
    total, dask = figures["runs"], result["dask_2"]
    hours, days = figures["CPU worker hours, at most"], figures["days, at most"]
    limit, around = figures["time limit of a run"], figures["around a run"]
    queue = dask["queue_ms"] / 1000
    constant, per_run = result["scoring"]["constant"], result["scoring"]["per_run"]
    scores = submissions * (constant + runs * per_run)
    return [
        f"runs: {submissions} submissions x ({runs} + 2) = {total:,.0f}",
        f"at most: {total:,.0f} x ({limit:.2f} s limit + {around:.3f} s around it) = {hours:,.0f} worker hours",
        f"on {gpus} GPUs as fast as a core here: {hours:,.0f} h / {gpus} / 24 = {days:.1f} days",
        f"the queue: {total:,.0f} x {queue:.4f} s = {total * queue / 3600:,.1f} worker hours, "
        f"{100 * queue / (limit + around):.1f} % of that (measured with 2 Dask workers)",
        f"scoring: {submissions} x ({constant:.2f} s + {runs} x {per_run:.4f} s, assumed to be linear) "
        f"= {scores / 3600:.1f} h on one core",
    ]


if __name__ == "__main__":
    main()
