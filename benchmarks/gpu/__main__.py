"""Say whether a machine with a GPU can be trusted with a competition, within so many minutes.

    python -m benchmarks.gpu --minutes 9 [--data FOLDER] [--out FOLDER]
    python -m benchmarks.gpu --minutes 3 --device cpu --out FOLDER      the same on a CPU, in small, as a rehearsal

Every step has its share of the time and is killed at its limit; none stops the next. Figures are written as soon as
they are known, to gpu.jsonl; what the steps print, to gpu.log. The result of a GPU is
benchmarks/results/gpu-CARD.json, from which the table of docs/gpu.md is made; with --out it is there, as all else.
"""

import contextlib
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu.page import RESULTS, write_page
from benchmarks.gpu.steps import LEFT_OUT, Ended, Step, Task, run_steps
from harness import cuda_driver
from harness.environment import environment, home
from harness.storage import write_bytes, write_json

__all__ = ["STEPS", "main"]

# In about the seconds that each may take; together more than nine minutes, since few will take as long.
STEPS = (
    Step("machine", "benchmarks.gpu.machine:facts", 45),
    Step("doctor", "benchmarks.gpu.programs:doctor", 30),
    Step("layers", "benchmarks.gpu.layers:bisect", 45),
    Step("first kernels", "benchmarks.gpu.first_kernels:times", 60),
    Step("tests", "benchmarks.gpu.programs:marked_tests", 130, takes_gpu=True),
    Step("throughput", "benchmarks.gpu.throughput:alone", 75),
    Step("processes", "benchmarks.gpu.throughput:at_once", 90),
    Step("prepare", "benchmarks.gpu.competition:prepare", 200, least=10),
    Step("identity", "benchmarks.gpu.competition:identity", 45),
    Step("fine-tuning", "benchmarks.gpu.competition:fine_tuning", 50),
    Step("runs per hour", "benchmarks.gpu.competition:runs_per_hour", 55),
    Step("calibration", "benchmarks.gpu.competition:calibration", 55),
)
INTERRUPTED = 130  # as a shell reports an interrupted command


@click.command()
@click.option("--minutes", default=9.0, show_default=True, type=click.FloatRange(min=0.1), help="For all, at most.")
@click.option("--device", default="cuda", show_default=True, type=click.Choice(["cuda", "cpu"]))
@click.option("--data", type=click.Path(path_type=Path, exists=True, resolve_path=True), help="CIFAR-10's images.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False, resolve_path=True), help="For all files.")
def main(minutes: float, device: str, data: Path | None, out: Path | None) -> None:
    """Say what a machine can do, within so many minutes."""
    began, result, is_interrupted = time.monotonic(), _new_result(device, minutes), False
    folder = out or home() / "gpu"
    lines, log = folder / "gpu.jsonl", folder / "gpu.log"
    for file in (lines, log):
        write_bytes(file, b"")
    with tempfile.TemporaryDirectory(prefix="harness-gpu-", ignore_cleanup_errors=True) as place, _interruptible():
        task = Task(device=device, home=place, lines=str(lines), data=None if data is None else str(data))
        try:
            for ended in run_steps(STEPS, task, log, seconds=60 * minutes):
                add(result, ended)
                file = _write(result, out)
                _show(ended)
        except KeyboardInterrupt:
            is_interrupted = True
            for step in STEPS[len(result["steps"]) :]:
                add(result, Ended(step.name, LEFT_OUT, "interrupted", 0.0, 0.0, task.rows(step.name)))
            file = _write(result, out)
    click.echo(f"{60 * minutes:.0f} s allowed, {time.monotonic() - began:.0f} s taken; wrote {file}")
    sys.exit(INTERRUPTED if is_interrupted else 0)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let a request to end interrupt as Ctrl-C does, also where that was switched off: what is known is written."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _new_result(device: str, minutes: float) -> dict[str, Any]:
    return {
        "card": None if device == "cuda" else "CPU, dry run",
        "driver": cuda_driver.version() if device == "cuda" else None,
        "cuda": None,
        "device": device,
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": minutes,
        **environment(),
        "steps": {},
    }


def add(result: dict[str, Any], ended: Ended) -> None:
    """Add how a step ended to the result, and the card's name once it is known."""
    result["steps"][ended.name] = {
        "status": ended.status,
        "reason": ended.reason,
        "seconds": round(ended.seconds, 1),
        "limit_seconds": round(ended.limit, 1),
        "rows": ended.rows,
    }
    for row in ended.rows if ended.name == "machine" else ():
        result["card"] = row.get("card") or result["card"]
        result["cuda"] = row.get("cuda") or result["cuda"]


def _write(result: dict[str, Any], out: Path | None) -> Path:
    """Write the result as far as it is known; that of a GPU of known name, unless --out is given, to the page too."""
    is_stored = out is None and result["device"] == "cuda" and result["card"] is not None
    place = RESULTS if is_stored else out or home() / "gpu"
    name = re.sub(r"[^a-z0-9]+", "-", (result["card"] or "unknown").lower()).strip("-")
    file = place / f"gpu-{name}.json"
    write_json(file, result)
    if is_stored:
        write_page()
    return file


def _show(ended: Ended) -> None:
    for row in ended.rows:
        shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()}
        click.echo("  " + ", ".join(f"{name} {value}" for name, value in shown.items())[:400])
    click.echo(f"{ended.name}: {ended.status}, {ended.seconds:.1f} of {ended.limit:.0f} s  {ended.reason or ''}")


if __name__ == "__main__":
    main()
