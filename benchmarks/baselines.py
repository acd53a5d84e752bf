"""Measure baselines with their noise: every file several times, each time with other seeds.

    python -m benchmarks.baselines --repeats 4 [FILE ...]

Writes benchmarks/results/baselines-TRACK.json: mean and standard deviation of the official score over the repeats, and
the score of each. A repeat is a whole evaluation of a copy of the track with another secret, against the same
retrained models; the oracle's noise is measured on random halves of the two pools together.
"""

import json
import secrets
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from data_prep import catalogue
from data_prep.calibration import calibrate
from harness.environment import environment, home
from harness.evaluate import evaluate
from harness.record import Records
from harness.reference import outputs
from harness.results import Conditions, Limit
from harness.runner.device import default_jobs
from harness.runner.isolation import choose
from harness.scoring.score import score
from harness.storage import write_json
from harness.submission import read_submission
from harness.track import POOLS, Track, load_track

ROOT = Path(__file__).parents[1]


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--track", "track_name", default="digits", show_default=True)
@click.option("--repeats", default=4, show_default=True, type=click.IntRange(min=2))
def main(files: tuple[Path, ...], track_name: str, repeats: int) -> None:
    """Measure FILES (default: all baselines)."""
    track = catalogue.open_track(track_name, home() / "tracks")
    jobs = default_jobs("cpu", track.declaration.limits.threads)
    calibration = calibrate(track, home(), device="cpu", threads=track.declaration.limits.threads, jobs=jobs)
    limit = Limit(0.1 * calibration.training_seconds, 0.1, False, calibration.training_seconds, calibration.id)
    conditions = Conditions(limit, choose(), threads=track.declaration.limits.threads, jobs=jobs)
    runs = track.declaration.evaluation.runs
    rows: dict[str, Any] = {"retrained": oracle(track, runs, repeats=20)}
    for file in files or sorted((ROOT / "baselines").glob("*.py")):
        rows[file.stem] = measured(file, track, conditions, runs, repeats)
        click.echo(f"{file.stem:24s} {json.dumps(rows[file.stem])}")
    path = ROOT / "benchmarks" / "results" / f"baselines-{track.name}.json"
    if files and path.is_file():
        rows = json.loads(path.read_text())["scores"] | rows
    about = {"track": track.name, "reference_hash": track.manifest.reference_hash, "runs": runs, "repeats": repeats}
    write_json(path, about | {"training_seconds": calibration.training_seconds, **environment(), "scores": rows})
    click.echo(f"wrote {path.relative_to(ROOT)}")


def measured(file: Path, track: Track, conditions: Conditions, runs: int, repeats: int) -> dict[str, Any]:
    """Evaluate a file `repeats` times with fresh seeds."""
    submission = read_submission(file, source_kb=track.declaration.limits.source_kb)
    scores: list[float] = []
    calibrated: list[float] = []
    shares: list[float] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "tracks" / track.name
            shutil.copytree(track.folder, copy)
            (copy / "private" / "secret").write_text(secrets.token_hex(32))
            evaluation = evaluate(submission, load_track(copy), conditions, runs=runs, home=Path(folder))
        if evaluation.scored is None or evaluation.scored.score.score is None:
            return {"outcome": evaluation.outcome}
        scores.append(evaluation.scored.score.score)
        calibrated.append(evaluation.scored.calibrated)
        shares.append(evaluation.share_of_limit)
    share = statistics.mean(shares)
    return {"score": summary(scores), "calibrated_score": summary(calibrated), "share_of_limit": share}


def oracle(track: Track, runs: int, *, repeats: int) -> dict[str, Any]:
    """Score retrained models against retrained models, over random halves of both pools together."""
    together = outputs(Records.concatenate(track.retrained(pool) for pool in POOLS), track.examples("forget").labels)
    generator = np.random.default_rng(0)
    scores: list[float] = []
    for _ in range(repeats):
        order = generator.permutation(len(together))
        value = score(together[order[:runs]], together[order[runs : 2 * runs]]).score
        assert value is not None
        scores.append(value)
    return {"score": summary(scores)}


def summary(scores: list[float]) -> dict[str, Any]:
    """Return mean, standard deviation of one evaluation, and the scores themselves."""
    return {
        "mean": statistics.mean(scores),
        "standard_deviation": statistics.stdev(scores),
        "values": [round(value, 5) for value in scores],
    }


if __name__ == "__main__":
    main()
