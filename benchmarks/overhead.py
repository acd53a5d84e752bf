"""Measure what the harness adds to each run: wall time minus the time inside `unlearn`, per run.

    python -m benchmarks.overhead --runs 64

Evaluates a submission of constant work on a track, with a warm zygote, and prints milliseconds per run: those a
participant's clock sees (process start, reading the file, handing in weights) and those it does not (fork, measuring,
storing). Writes benchmarks/results/overhead-TRACK.json.
"""

import tempfile
import time
from pathlib import Path

import click

import harness
from harness.accelerator import of
from harness.cli.options import track_option
from harness.environment import environment
from harness.evaluation.evaluate import evaluate
from harness.runner.isolation import choose
from harness.runs.run import Conditions, Limit
from harness.storage import write_json
from harness.submission import read_submission

SOURCE = """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for images, labels in retain_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
"""


@click.command()
@track_option
@click.option("--runs", default=64, show_default=True, type=click.IntRange(min=1))
@click.option("--jobs", default=None, type=click.IntRange(min=1))
def main(track_name: str, runs: int, jobs: int | None) -> None:
    """Measure the overhead per run."""
    track = harness.open_track(track_name)
    threads = track.declaration.limits.threads
    jobs = jobs or of("cpu").default_jobs(threads)
    conditions = Conditions(Limit(60.0, 0.1), choose(), threads=threads, jobs=jobs)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "work.py"
        file.write_text(SOURCE)
        idle = Path(folder) / "idle.py"
        idle.write_text("def unlearn(net, retain_loader, forget_loader, val_loader): pass")
        # The first evaluation of all starts the zygote and computes ceiling and floor, once.
        evaluate(read_submission(idle, source_kb=256), track, conditions, runs=runs, home=Path(folder))
        ends: list[float] = []
        started = time.perf_counter()
        evaluation = evaluate(
            read_submission(file, source_kb=256),
            track,
            conditions,
            runs=runs,
            home=Path(folder),
            on_run=lambda run: ends.append(time.perf_counter()),
        )
        wall = ends[-1] - started  # scoring comes after the runs, once
    inside = sum(run.info.seconds_inside for run in evaluation.runs)
    clocked = sum(run.seconds for run in evaluation.runs)
    result = {
        "track": track.name,
        "runs": runs,
        "jobs": jobs,
        "isolation": conditions.isolation.level,
        "inside_ms": 1000 * inside / runs,
        "overhead_ms": 1000 * (wall * jobs - inside) / runs,
        "overhead_on_the_clock_ms": 1000 * (clocked - inside) / runs,
        **environment(),
    }
    for name, value in result.items():
        click.echo(f"{name:26s} {value:.1f}" if isinstance(value, float) else f"{name:26s} {value}")
    write_json(Path(__file__).parent / "results" / f"overhead-{track.name}.json", result)


if __name__ == "__main__":
    main()
