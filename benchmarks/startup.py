"""Measure what commands take that compute nothing: help, usage errors, completion, and what is stored already.

    python -m benchmarks.startup [--beside FOLDER]

Seconds of the processors, by turns, the median of several calls each. FOLDER is a checkout of another version, such as
`git worktree add FOLDER c6df89e`. What is stored is a submission evaluated here and a leaderboard of three rows. Writes
benchmarks/results/startup.json.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.growth import processor_seconds
from benchmarks.pages import RESULTS, ROOT
from harness.environment import environment
from harness.storage import write_json

FILE = "submissions/first.py"
COMMANDS = {
    "`harness --help`": ("--help",),
    "`harness --version`": ("--version",),
    "a usage error": ("evaluate", FILE, "--no-such-option"),
    "completion of a track's name": (),
    "`harness evaluate`, all stored": ("evaluate", FILE, "--runs", "16"),
    "`harness leaderboard show`": ("leaderboard", "show"),
    "`harness doctor`": ("doctor",),
}
COMPLETION = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": "harness evaluate --track di", "COMP_CWORD": "3"}
SUBMISSIONS = {"first": "finetune", "second": "identity", "third": "reset_head_finetune"}


@click.command()
@click.option("--beside", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Another checkout.")
@click.option("--calls", default=7, show_default=True, type=click.IntRange(min=1), help="Of each command.")
def main(beside: Path | None, calls: int) -> None:
    """Measure each command, here and there by turns."""
    versions = {"here": ROOT} if beside is None else {"here": ROOT, "beside": beside.resolve()}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, version in versions.items():
            fill(Path(folder) / name, version)
        for what, arguments in COMMANDS.items():
            seconds: dict[str, list[float]] = {name: [] for name in versions}
            for _ in range(calls):
                for name, version in versions.items():
                    seconds[name].append(call(Path(folder) / name, version, *arguments))
            rows.append({"what": what, **{name: statistics.median(found) for name, found in seconds.items()}})
            click.echo(rows[-1])
    result: dict[str, Any] = {"calls": calls, "commands": rows, **environment()}
    if beside is not None:
        result["commit"] = git(beside)
    write_json(RESULTS / "startup.json", result)


def fill(place: Path, version: Path) -> None:
    """Evaluate three submissions and make a leaderboard of them."""
    (place / "submissions").mkdir(parents=True)
    for name, baseline in SUBMISSIONS.items():
        source = (ROOT / "baselines" / f"{baseline}.py").read_text()
        (place / "submissions" / f"{name}.py").write_text(f"{source}\nOWN = 1\n")
    call(place, version, "leaderboard", "run", "submissions", "--runs", "16")
    for arguments in COMMANDS.values():  # what is kept is kept
        call(place, version, *arguments)


def call(place: Path, version: Path, *arguments: str) -> float:
    """Call the command line of a version, and return the seconds that it took of the processors."""
    environ = {**os.environ, "HARNESS_HOME": str(place / "home"), "PYTHONPATH": str(version)}
    command = [sys.executable, "-m", "harness", *arguments]
    started = processor_seconds()
    subprocess.run(command, env=environ if arguments else environ | COMPLETION, cwd=place, capture_output=True)
    return processor_seconds() - started


def git(folder: Path) -> str:
    """Return the commit of a checkout."""
    return subprocess.check_output(["git", "-C", str(folder), "rev-parse", "--short", "HEAD"], text=True).strip()


if __name__ == "__main__":
    main()
