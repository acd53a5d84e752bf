"""The way of a competition, on the small track: prepare it, evaluate baselines, count runs per hour, calibrate."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.small_track import DECLARED_EPOCHS, declared, images_for, opened
from benchmarks.gpu.steps import ROOT, LeftOutError, Row, Task
from harness.evaluation.evaluate import evaluate
from harness.runner.isolation import choose
from harness.runs.calibration import calibrate
from harness.runs.conditions import conditions_here
from harness.storage import read_json
from harness.submission import read_submission
from harness.tracks.declaration import ReferenceSection, read_declaration
from harness.tracks.track import POOLS, Track

__all__ = ["calibration", "fine_tuning", "identity", "prepare", "runs_per_hour"]

IDENTITY, FINETUNE = (ROOT / "baselines" / f"{name}.py" for name in ("identity", "finetune"))
IDENTITY_RUNS, FINETUNE_RUNS = 8, 4
FINETUNE_EPOCHS = {"EPOCHS": "2"}
LEVELS = ("auto", "none")  # where no run starts at the strongest one, the figures are made without
LAST_LOOK_SECONDS = 3.0  # before its limit a preparation that is not done says how far it is


def prepare(task: Task) -> None:
    """Prepare the small track, and say how many models an hour that makes."""
    file = declared(task.device, Path(task.home))
    arguments, images = ["prepare", str(file), "--device", task.device], "digits"
    if task.device == "cuda":
        data = images_for(task)
        arguments, images = [*arguments, "--data", str(data.folder)], data.kind
    declaration = read_declaration(file)
    epochs, n_models = declaration.training.epochs, _n_models(declaration.reference)
    task.say(track=declaration.name, images=images, models=n_models, epochs=epochs)
    started = time.monotonic()
    try:
        _harness(*arguments, seconds=task.left - LAST_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        task.say(epochs_trained=_epochs_trained(task, declaration.name), of_epochs=epochs * n_models)
        raise
    seconds, track = time.monotonic() - started, opened(task, task.device)
    if track is None:
        raise RuntimeError("the track was not prepared; the log says why")
    accuracy = float(track.originals().accuracy_on("test").mean())
    task.say(prepare_seconds=seconds, models_per_hour=3600 * n_models / seconds, test_accuracy=accuracy)


def identity(task: Task) -> None:
    """Evaluate doing nothing: its seconds are the floor of the clock."""
    _evaluate(task, IDENTITY, IDENTITY_RUNS, {})


def fine_tuning(task: Task) -> None:
    """Evaluate fine-tuning."""
    _evaluate(task, FINETUNE, FINETUNE_RUNS, FINETUNE_EPOCHS)


def runs_per_hour(task: Task) -> None:
    """Say how many runs of fine-tuning an hour has, one and two at once."""
    track, level = _track(task), _level(task)
    for jobs in (1, 2):
        task.say(at_once=jobs, level=level, **_counted(task, track, level, jobs))


def _counted(task: Task, track: Track, level: str, jobs: int) -> Row:
    """Return runs per hour, from the first start to the last end, and how the runs ended."""
    isolation, home = choose(level, device=task.device), Path(task.home) / f"{jobs} at once"
    conditions = conditions_here(track, home, device=task.device, isolation=isolation, jobs=jobs)
    # One that does nothing first: it starts what runs are forked from, once.
    evaluate(read_submission(IDENTITY, source_kb=256), track, conditions, runs=1, home=home)
    submission = read_submission(FINETUNE, source_kb=256, constants={"EPOCHS": "1"})
    ends: list[float] = []
    started = time.monotonic()
    found = evaluate(
        submission,
        track,
        conditions,
        runs=jobs * FINETUNE_RUNS,
        home=home,
        on_run=lambda _: ends.append(time.monotonic()),
    )
    rate = 3600 * len(ends) / (ends[-1] - started) if ends else None
    return {"runs": len(ends), "outcome": found.outcome, "runs_per_hour": rate}


def calibration(task: Task) -> None:
    """Time a training as the time limit is made from, and say what the limit of the declared track would be."""
    track, started = _track(task), time.monotonic()
    limits, epochs = track.declaration.limits, track.declaration.training.epochs
    found = calibrate(track, Path(task.home), device=task.device, threads=limits.threads, jobs=1)
    whole = found.training_seconds * DECLARED_EPOCHS / epochs
    task.say(
        calibration_seconds=time.monotonic() - started,
        samples=found.samples,
        training_seconds=found.training_seconds,
        declared_training_seconds=whole,
        declared_limit_seconds=limits.time_limit_fraction * whole,
    )


def _evaluate(task: Task, file: Path, runs: int, constants: dict[str, str]) -> None:
    """Evaluate a baseline at the strongest level, and where that fails without isolation; say both."""
    track = _track(task)
    for level in LEVELS:
        row = _evaluated(task, track, file, runs, constants, level)
        task.say(**row)
        if row["outcome"] == "OK":
            return
    raise RuntimeError(f"{file.name} has no runs that ended well")


def _evaluated(task: Task, track: Track, file: Path, runs: int, constants: dict[str, str], requested: str) -> Row:
    """Return how an evaluation went, from what the command writes for programs."""
    result = Path(task.home) / f"{task.step}-{requested}.json"
    settings = [part for name, value in constants.items() for part in ("--set", f"{name}={value}")]
    arguments = ["evaluate", str(file), "--track", track.name, "--runs", str(runs), *settings]
    started = time.monotonic()
    code = _harness(*arguments, "--device", task.device, "--isolation", requested, "--jobs", "1", "--json", str(result))
    wall = time.monotonic() - started
    row: Row = {"track": track.name, "requested": requested, "runs": runs, "exit": code, "wall_seconds": wall}
    if not result.is_file():
        return row | {"outcome": None, "level": None}
    found = read_json(result)
    row |= {"outcome": found["outcome"], "failure": found["failure"], "level": found["isolation"]["level"]}
    return row | {"seconds": found["seconds"], "harness_errors": found["harness_errors"]}


def _harness(*arguments: str, seconds: float | None = None) -> int:
    """Call the harness as a user does, and return its exit code. Raises subprocess.TimeoutExpired."""
    return subprocess.run([sys.executable, "-m", "harness", *arguments], check=False, timeout=seconds).returncode


def _track(task: Task) -> Track:
    """Return the small track of the device, or if there is none the tiny one, prepared for that now."""
    for device in (task.device, "cpu"):
        if (track := opened(task, device)) is not None:
            return track
    file = declared("cpu", Path(task.home))
    _harness("prepare", str(file), "--device", "cpu")
    track = opened(task, "cpu")
    if track is None:
        raise LeftOutError("no track was prepared")
    return track


def _level(task: Task) -> str:
    """Return the level that an evaluation ended well at before."""
    rows = [row for step in ("identity", "fine-tuning") for row in task.rows(step)]
    return next((row["level"] for row in rows if row.get("outcome") == "OK"), "auto")


def _n_models(reference: ReferenceSection) -> int:
    """Return how many models a track has, originals and both pools."""
    return reference.originals + len(POOLS) * reference.retrained


def _epochs_trained(task: Task, name: str) -> int:
    """Return how many epochs of all models an interrupted preparation has made."""
    tally = Path(task.home) / "tracks" / f".{name}.partial" / "tally"
    return tally.stat().st_size if tally.exists() else 0
