"""Evaluate baselines, and write the tables that show them.

    python -m benchmarks.baselines [FILE ...] [--set NAME=VALUE] [--track digits]     or: make baselines

Each file is evaluated as `harness evaluate FILE` does it, at the track's default runs, and once more for each of its
VARIANTS. Stored runs are not made again: after an interruption the same command goes on where it was.
Writes benchmarks/results/baselines-TRACK.json and the tables that come from it: for `digits` those of README.md
and baselines/README.md, for `cifar10-small` the second one there, for any track those of docs/reproduction.md.
Given files replace their rows and leave the others; with --set they are evaluated with these constants only.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import harness
from benchmarks import reproduction
from benchmarks.pages import METRICS, RESULTS, ROOT, Table, kept_rows, machine, scored_with, stored
from harness.accelerator import resolve
from harness.cli.options import track_option
from harness.environment import home
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.reference import load_reference, outputs
from harness.runs.run import records_of
from harness.runs.store import Results
from harness.storage import write_json
from harness.tracks.track import Track

__all__ = [
    "FULL",
    "SHORT",
    "SMALL",
    "VARIANTS",
    "cells",
    "methods",
    "short_table",
    "table",
    "title_of",
    "with_reach",
]

# Files that hold several methods -> what chooses the others; each choice is a row of its own.
VARIANTS = {"prune_then_unlearn": ("PRUNER=imp", "PRUNER=synflow", "PRUNER=random")}

BEST = 4  # rows of the short table, beside those that it always has
ALWAYS = {"retrained": " (the ceiling)", "finetune": ", the organizers' of 2023", "identity": " (the floor)"}
BESIDE = (
    "shift: how far confidences on the forget set lie above those of retrained models, in standard deviations of the "
    "latter; spread: ratio of the standard deviations between models; both are medians over the forget examples."
)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@track_option
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a constant; a row of its own.")
@click.option("--device", default="auto", show_default=True)
@click.option("--images", default="", help="What the images are, if others than the track's source has.")
def main(files: tuple[Path, ...], track_name: str, settings: tuple[str, ...], device: str, images: str) -> None:
    """Evaluate FILES (default: all baselines)."""
    track = harness.open_track(track_name)
    kind = resolve(device)
    path = RESULTS / f"baselines-{track.name}.json"
    now = {"reference_hash": track.manifest.reference_hash, **scored_with(), "device": kind}
    rows = kept_rows(path, now) if files else {}
    images = images or (stored(path.stem).get("images", "") if rows else "")
    for file, chosen in methods(files or sorted((ROOT / "baselines").glob("*.py")), settings):
        name = " --set ".join((file.stem, *chosen))
        constants = dict(setting.split("=", 1) for setting in chosen)
        evaluation = harness.evaluate(file, track=track, constants=constants, device=kind)
        rows.pop(name, None)  # the newest come last
        rows[name] = row_of(evaluation)
        click.echo(f"{name:32s} {json.dumps(rows[name])}")
    limit = evaluation.conditions.limit
    assert limit is not None
    found = {
        "track": track.name,
        "runs": track.usual_runs,
        "training_seconds": limit.training_seconds,
        **now,
        **({"images": images} if images else {}),
        "rows": {**rows, "retrained": of_retrained(track, rows)},
    }
    write_json(path, found)
    for place in (*TABLES.get(track.name, ()), reproduction.TABLE):
        place.write()


def methods(files: Sequence[Path], settings: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield each file with the settings of each of its rows: those that are given, or none and its variants."""
    for file in files:
        yield file, settings
        if not settings:
            yield from ((file, (variant,)) for variant in VARIANTS.get(file.stem, ()))


def row_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return the row of one file."""
    result = evaluation.score_file.to_json()
    if result["score"] is None:
        return {"outcome": result["outcome"]}
    kept = ("outcome", "score", "score_interval", "calibrated_score", "calibrated_interval", "forgetting_quality")
    metrics = {name: result["full_stack"][name] for name in METRICS}
    return {
        **{name: result[name] for name in (*kept, "retain_ratio", "test_ratio", "ranked")},
        **{name: {"mean": metric["mean"], "sd": metric["sd"]} for name, metric in metrics.items()},
        "retrained": {name: metric["retrained_mean"] for name, metric in metrics.items()},
        "disparity_average": result["full_stack"]["disparity_average"],
        **beside_retrained(evaluation),
        "fraction_of_training": result["seconds"]["fraction_of_training"],
        "alarms": [alarm["name"] for alarm in result["alarms"] or ()],
    }


def beside_retrained(evaluation: Evaluation) -> dict[str, float]:
    """Return how confidences on the forget set lie beside those of retrained models, medians over the examples.

    shift: distance of the means, in standard deviations of the retrained models; positive where the example is known
    too well. spread: ratio of the standard deviations between models.
    """
    retrained = evaluation.reference.scoring.confidences
    unlearned = outputs(records_of(evaluation.runs), evaluation.reference.forget_labels).confidences
    deviation = retrained.std(axis=0)
    return {
        "shift": float(np.median((unlearned.mean(axis=0) - retrained.mean(axis=0)) / deviation)),
        "spread": float(np.median(unlearned.std(axis=0) / deviation)),
    }


def of_retrained(track: Track, rows: dict[str, Any]) -> dict[str, Any]:
    """Return the row of retrained models: the ceiling, and what the metrics of the others are compared with."""
    reference = load_reference(track, track.usual_runs, Results.cache(home(), track))
    targets: dict[str, Any] = next((row["retrained"] for row in reversed(rows.values()) if "retrained" in row), {})
    best = reference.ceiling
    return {"score": best.score, "score_interval": best.interval, "calibrated_score": 1.0, **targets}


def table(found: dict[str, Any]) -> str:
    """Return the rows as a page's table, the best one first."""
    rows: dict[str, Any] = found["rows"]
    ordered = sorted(rows, key=lambda name: -(rows[name].get("calibrated_score") or 0))
    head = ["file", "calibrated score", "official score", "forgetting quality", "retain ratio", "test ratio"]
    head += [*METRICS.values(), "disparity", "shift", "spread", "time"]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    lines += [" | ".join(cells(name, rows[name])) for name in ordered]
    units = "UA, MIA-Efficacy, RA and TA are in percent."
    return "\n".join(f"| {line} |" for line in lines) + f"\n\n{conditions_of(found)} {units} {BESIDE}\n"


def short_table(found: dict[str, Any]) -> str:
    """Return a few rows as a page's table: the ends of the scale, fine-tuning, and the best of the ranked ones."""
    rows: dict[str, Any] = found["rows"]
    ordered = sorted(rows, key=lambda name: -(rows[name].get("calibrated_score") or 0))
    best = [name for name in ordered if rows[name].get("ranked") and name not in ALWAYS][:BEST]
    lines = ["file | calibrated score | official score | time", "--- | --- | --- | ---"]
    for name in ordered:
        if name in (*ALWAYS, *best):
            title, calibrated, official, *_, time = cells(name, rows[name])
            lines.append(" | ".join((title + ALWAYS.get(name, ""), calibrated, official, time)))
    return "\n".join(f"| {line} |" for line in lines) + f"\n\n{conditions_of(found)}\n"


def conditions_of(found: dict[str, Any]) -> str:
    """Return what the columns of scores and time mean, and where they were measured."""
    share = f"Time is the share of one training ({found['training_seconds']:.1f} s alone), of which 10 % are allowed."
    where = f"{machine(found)}, device {found['device']}"
    images = f"{found['images']}. " if "images" in found else ""
    return f"{images}N = {found['runs']} runs on {where}; ± is half of a 95 % interval. {share}"


def cells(name: str, row: dict[str, Any]) -> list[str]:
    """Return the cells of one row."""
    title = title_of(name)
    if row.get("score") is None:
        return [title, row.get("outcome", "withheld"), *[""] * 12]
    if name == "retrained":
        metrics = [f"{row[metric]:.1f}" for metric in METRICS]
        official = with_reach(row["score"], row["score_interval"], 3)
        return ["retrained models", "1 by definition", official, "", "", "", *metrics, "0", "0", "1", "100 %"]
    return [
        title,
        with_reach(row["calibrated_score"], row["calibrated_interval"], 2),
        with_reach(row["score"], row["score_interval"], 3),
        *(f"{row[ratio]:.3f}" for ratio in ("forgetting_quality", "retain_ratio", "test_ratio")),
        *(f"{row[metric]['mean']:.1f}" for metric in METRICS),
        f"{row['disparity_average']:.2f}",
        f"{row['shift']:+.1f}",
        f"{row['spread']:.2f}",
        f"{row['fraction_of_training']:.1%}".replace("%", " %"),
    ]


def title_of(name: str) -> str:
    """Return the first cell of a row: the file, and the constants that are set."""
    file, *settings = name.split(" --set ")
    return f"`{file}.py`" + (f" with {', '.join(settings)}" if settings else "")


def with_reach(value: float, interval: tuple[float, float] | None, digits: int) -> str:
    """Return a value with half the width of its interval."""
    reach = f" ± {(interval[1] - interval[0]) / 2:.{digits}f}" if interval else ""
    return f"{value:.{digits}f}{reach}"


PAGE = ROOT / "baselines" / "README.md"
FULL = Table(PAGE, "table", "baselines.py", lambda: table(stored("baselines-digits")))
SMALL = Table(PAGE, "table on cifar10-small", "baselines.py", lambda: table(stored("baselines-cifar10-small")))
SHORT = Table(ROOT / "README.md", "table", "baselines.py", lambda: short_table(stored("baselines-digits")))
TABLES = {"digits": (FULL, SHORT), "cifar10-small": (SMALL,)}

if __name__ == "__main__":
    main()
