"""Measure how cost grows: runs of one submission, models in a score, rows of a leaderboard; and where the limit lies.

    python -m benchmarks.growth

Each is measured at one, ten and a hundred times its usual size, in seconds of the processors, so that other work on the
machine does not count. Runs do constant work, from a cold start; a leaderboard's rows are copies of one that was
evaluated here, with other names and scores. Then a competition on GPUs is simulated over parts that `benchmarks.batch`
and `score_of` measured. Writes benchmarks/results/growth.json.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import harness
from benchmarks.overhead import SOURCE
from benchmarks.pages import RESULTS, ROOT, stored
from benchmarks.scoring import ONE_THREAD, in_child, scored_runs
from harness.environment import environment
from harness.evaluation.evaluate import evaluate
from harness.leaderboard.board.entries import Entry, board_folder, write_entry
from harness.runner.isolation import choose
from harness.runner.launch import close_all
from harness.runs.run import Conditions, Limit
from harness.runs.store import Results
from harness.seal import sealed
from harness.storage import read_json, write_json
from harness.submission import submission_of
from harness.tracks.track import Track

RUNS, MODELS, ROWS = (6, 60, 600), (64, 640, 6400), (10, 100, 1000)
EXAMPLES = 64
SUBMISSIONS, RUNS_OF_EACH, GPUS = (10, 100, 1000), 512, 8
SCORERS = 2  # processes that score while runs are made, as many as the machine measured has cores


@click.command()
def main() -> None:
    """Measure and write the results."""
    os.environ.update(ONE_THREAD)
    scores = [score_of(count) for count in MODELS]  # first: a process begins with the peak of the one that starts it
    track = harness.open_track()
    result: dict[str, Any] = {"track": track.name, "isolation": choose().level, **environment(), "score": scores}
    result["runs"] = [runs_of_one(track, count) for count in RUNS]
    with tempfile.TemporaryDirectory() as folder:
        result["board"] = [board_of(track, Path(folder), count) for count in ROWS]
    result["parts"] = parts()
    result["competition"] = [simulated(count, **result["parts"]) for count in SUBMISSIONS]
    for name in ("runs", "score", "board", "competition"):
        for row in result[name]:
            click.echo(f"{name:12s}" + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    write_json(RESULTS / "growth.json", result)


def processor_seconds() -> float:
    """Return the seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# ---- what is measured ---------------------------------------------------------------------------------------------


def runs_of_one(track: Track, count: int) -> dict[str, float]:
    """Make runs of one submission from a cold start, and score what the track has retrained models for."""
    conditions = Conditions(Limit(60.0, 0.1), choose(), threads=track.declaration.limits.threads, jobs=2)
    per_submission = min(count, track.manifest.retrained)
    n_submissions = -(-count // per_submission)
    with tempfile.TemporaryDirectory() as folder:
        started, wall = processor_seconds(), time.perf_counter()
        for number in range(n_submissions):
            submission = submission_of(Path("work.py"), f"NUMBER = {number}\n{SOURCE}".encode(), source_kb=256)
            evaluate(submission, track, conditions, runs=per_submission, home=Path(folder))
        wall = time.perf_counter() - wall
        close_all()  # what ended is counted
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        made = n_submissions * per_submission
        return {"count": made, "seconds": processor_seconds() - started, "wall": wall, "disk_mb": size / 1e6}


def score_of(count: int) -> dict[str, float]:
    """Score so many runs: intervals, audit and alarms."""
    found = in_child(scored_runs, count, EXAMPLES)
    return {"count": count, "seconds": found["seconds"], "peak_mb": found["peak_mb"]}


def board_of(track: Track, folder: Path, count: int) -> dict[str, float]:
    """Show a leaderboard of so many rows, all of which have scores of their own."""
    home = folder / f"home-{count}"
    submissions = folder / "submissions"
    if not submissions.exists():
        submissions.mkdir()
        shutil.copy(ROOT / "baselines" / "finetune.py", submissions / "first.py")
        (submissions / "first.py").open("a").write("\nOWN = 1\n")
        command(folder / "evaluated", "run", str(submissions), "--runs", "16")
    shutil.copytree(folder / "evaluated", home)
    copy_rows(board_folder(home, track), Results.cache(home, track), count)
    command(home, "show", "--format", "json")  # what is kept is kept
    started = processor_seconds()
    shown = command(home, "show", "--format", "json")
    seconds = processor_seconds() - started
    assert sum(row["rank"] is not None for row in json.loads(shown)) == count
    return {"count": count, "seconds": seconds}


def copy_rows(board: Path, results: Path, count: int) -> None:
    """Make one entry of a leaderboard, and what is stored of it, into so many."""
    (file,) = (board / "entries").glob("*.json")
    entry = Entry.model_validate(read_json(file))
    score = read_json(results / entry.results / f"{entry.score}.json")
    generator = np.random.default_rng(0)
    for number in range(1, count):
        code_hash = f"{number:064x}"
        name, own_results = f"copy{number}.py", f"{code_hash[-16:]}-cpu-v1"
        shift = float(generator.normal(0, 0.05))
        own = {**score, "submission": name, "code_hash": code_hash}
        own["calibrated_score"] = score["calibrated_score"] + shift
        write_json(results / own_results / f"{entry.score}.json", sealed(own))
        named = {"submission": name, "file": name, "code_hash": code_hash, "results": own_results}
        write_entry(board, entry.model_copy(update=named))


def command(home: Path, *arguments: str) -> str:
    """Call `harness leaderboard` with a home, and return what it prints."""
    call = [sys.executable, "-m", "harness", "leaderboard", *arguments]
    done = subprocess.run(
        call, env={"HARNESS_HOME": str(home), "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# ---- a competition, simulated --------------------------------------------------------------------------------------


def parts() -> dict[str, float]:
    """Return what a large competition is made of, in seconds: measured, with every run at its limit."""
    batch = stored("batch")
    plan = {figure["name"]: figure["value"] for figure in batch["plan"]}
    return {
        "run": plan["time limit of a run"] + plan["around a run"],
        "queue": batch["dask_2"]["queue_ms"] / 1000,
        "score": score_of(RUNS_OF_EACH)["seconds"],
    }


def simulated(submissions: int, *, run: float, queue: float, score: float) -> dict[str, float]:
    """Return the hours of a competition's runs and of its scores, and how busy GPUs and queue are.

    Runs are shared by all GPUs, and each passes one queue. Beside them SCORERS processes score what has all its runs;
    the last score comes after the last run.
    """
    runs = submissions * RUNS_OF_EACH
    seconds = runs * max(run / GPUS, queue)
    scoring = submissions * score / SCORERS
    whole = max(seconds, scoring) + score
    return {
        "submissions": submissions,
        "hours_of_runs": seconds / 3600,
        "hours_of_scoring": scoring / 3600,
        "hours": whole / 3600,
        "gpus_busy": runs * run / GPUS / whole,
        "queue_busy": runs * queue / whole,
        "gpus_until_queue": run / queue,  # more of them would wait for it
    }


if __name__ == "__main__":
    main()
