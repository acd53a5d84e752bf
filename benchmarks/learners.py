"""Evaluate the learners of baselines/learners/, and write the table that shows them.

    python -m benchmarks.learners [FILE ...] [--runs 32]

Each file is evaluated as `harness evaluate FILE --track TRACK` does it, on the track that it is made for (TRACKS),
which has to be prepared. Stored runs are not made again: after an interruption the same command goes on where it was.
Writes benchmarks/results/learners.json and the table of baselines/learners/README.md. Given files replace their rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import harness
from benchmarks.baselines import title_of, with_reach
from benchmarks.pages import RESULTS, ROOT, Table, kept_rows, machine, markdown, scored_with, stored
from harness.accelerator import resolve
from harness.evaluation.learner_figures import LearnerFigures
from harness.report.learner_columns import LEARNER_COLUMNS, notes_on_learner
from harness.storage import write_json

__all__ = ["TABLE", "TRACKS"]

FOLDER = ROOT / "baselines" / "learners"
TRACKS = {  # by file; the others are made for CONVEX
    "sisa": "digits-few",
    "deep_obliviate": "digits-few",
    "dare_forest": "digits-forest",
}
CONVEX = "digits-linear"
VARIANTS: dict[str, tuple[dict[str, str], ...]] = {"descent_to_delete": ({"GUARANTEE": "perfect"},)}
KEPT = ("outcome", "score", "score_interval", "calibrated_score", "calibrated_interval", "retain_ratio", "test_ratio")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--runs", default=32, show_default=True, type=click.IntRange(min=4))
@click.option("--device", default="auto", show_default=True)
def main(files: tuple[Path, ...], runs: int, device: str) -> None:
    """Evaluate FILES (default: all of baselines/learners/), each as it is and with other constants of its own."""
    kind, path = resolve(device), RESULTS / "learners.json"
    now = {"runs": runs, **scored_with(), "device": kind}
    rows = kept_rows(path, now) if files else {}
    for file in files or sorted(FOLDER.glob("*.py")):
        for constants in ({}, *VARIANTS.get(file.stem, ())):
            name = " --set ".join((file.stem, *(f"{key}={value}" for key, value in constants.items())))
            rows[name] = row_of(file, constants, runs, kind)
            click.echo(f"{name:40s} {rows[name]['outcome']}")
    write_json(path, {**now, "rows": rows})
    TABLE.write()


def row_of(file: Path, constants: Mapping[str, str], runs: int, device: str) -> dict[str, Any]:
    """Return the row of one file."""
    track = TRACKS.get(file.stem, CONVEX)
    evaluation = harness.evaluate(
        file, track=harness.open_track(track), constants=dict(constants), runs=runs, device=device
    )
    result = evaluation.score_file.to_json()
    alarms = [alarm["name"] for alarm in result["alarms"] or ()]
    return {"track": track, **{name: result[name] for name in KEPT}, "learner": result["learner"], "alarms": alarms}


def table() -> str:
    """Return a row for every file, and how they were measured."""
    found = stored("learners")
    head = ["file", "track", "calibrated score", "official score", "retain ratio", "test ratio"]
    head += [*(column.name for column in LEARNER_COLUMNS), "alarms"]
    note = f"N = {found['runs']} runs on {machine(found)}, device {found['device']}; ± is half of a 95 % interval."
    meanings = " ".join(f"{column.name}: {column.meaning}." for column in LEARNER_COLUMNS)
    return f"{markdown(head, (cells(name, row) for name, row in found['rows'].items()))}\n{note} {meanings}\n"


def cells(name: str, row: dict[str, Any]) -> list[str]:
    """Return the cells of one row."""
    title = title_of(name)
    if row["learner"] is None or row["calibrated_score"] is None:
        return [title, f"`{row['track']}`", row["outcome"], *[""] * (4 + len(LEARNER_COLUMNS))]
    figures = LearnerFigures.model_validate(row["learner"])
    return [
        title,
        f"`{row['track']}`",
        with_reach(row["calibrated_score"], row["calibrated_interval"], 2),
        "withheld" if row["score"] is None else with_reach(row["score"], row["score_interval"], 3),
        f"{row['retain_ratio']:.3f}",
        f"{row['test_ratio']:.3f}",
        *(column.text(figures) for column in LEARNER_COLUMNS),
        "; ".join([*row["alarms"], *notes_on_learner(figures)]),
    ]


TABLE = Table(FOLDER / "README.md", "table", "learners.py", table)

if __name__ == "__main__":
    main()
