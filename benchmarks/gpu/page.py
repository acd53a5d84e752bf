"""The section of docs/gpu.md that says what was measured, from all stored results.

    python -m benchmarks.gpu.page

Reads benchmarks/results/gpu-*.json, which `python -m benchmarks.gpu` writes.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import OK, ROOT, Row
from benchmarks.pages import Table, markdown

__all__ = ["PAGE", "RESULTS", "section", "write_page"]

PAGE, RESULTS = ROOT / "docs" / "gpu.md", ROOT / "benchmarks" / "results"
NET = "resnet18"  # of those that are measured
NOTHING = "\N{EN DASH}"
NONE_YET = """\
The authors have made no run on a GPU yet: what these pages say of GPUs is written from documentation, and tested
without one, with a pretended card. `python -m benchmarks.gpu --minutes 9` measures a card, and puts its row here.
"""
HEAD = (
    *("card", "runs start at", "floor of the clock", "ResNet-18, images/s", "models/hour", "runs/hour", "not ok"),
    *("date", "versions"),
)
Result = Mapping[str, Any]


def write_page(page: Path = PAGE, results: Path = RESULTS) -> None:
    """Write the section."""
    stored = (json.loads(file.read_text()) for file in sorted(results.glob("gpu-*.json")))
    Table(page, "measured", "gpu/page.py", lambda: section(stored)).write()


def section(results: Iterable[Result]) -> str:
    """Return the table, a row for each result, or the sentence that there is none."""
    rows = [_cells(result) for result in results]
    if not rows:
        return NONE_YET
    return markdown(HEAD, rows)


def _cells(result: Result) -> list[str]:
    steps = result["steps"]
    wrong = [f"{name}: {step['reason'] or step['status']}" for name, step in steps.items() if step["status"] != OK]
    return [
        f"{result['card']}, driver {result['driver']}",
        _level(result),
        _floor(result),
        _rates(result),
        _models(result),
        ", ".join(f"{row['runs_per_hour']:.0f} with {row['at_once']} at once" for row in _counted(result)) or NOTHING,
        "; ".join(wrong).replace("|", "/") or NOTHING,
        result["date"],
        f"torch {result['torch']}, CUDA {result['cuda'] or 'none'}, harness {result['harness']}",
    ]


def _level(result: Result) -> str:
    """Return the level that runs ended well at, or that none did."""
    rows = _rows(result, "identity")
    done = [row for row in rows if row.get("outcome") == "OK"]
    if done:
        return f"`{done[0]['level']}`"
    return "none starts" if rows else NOTHING


def _floor(result: Result) -> str:
    """Return the seconds of a run that does nothing, and their share of the declared track's limit."""
    done = [row for row in _rows(result, "identity") if row.get("outcome") == "OK"]
    if not done:
        return NOTHING
    seconds = done[0]["seconds"]["mean"]
    limit = _value(result, "calibration", "declared_limit_seconds")
    share = "" if limit is None else f", {seconds / limit:.1%} of a limit of {limit:.1f} s"
    return f"{seconds:.2f} s in {done[0]['runs']} runs{share}"


def _rates(result: Result) -> str:
    """Return the images per second of the first net and batch size, both ways, and of most processes at once."""
    alone, crowds = _rates_of(result, "throughput"), _rates_of(result, "processes")
    by_way = {row["way"]: row for row in reversed(alone)}
    parts = [f"{by_way[way]['images_per_second']:,} {way}" for way in dict.fromkeys(row["way"] for row in alone)]
    parts += [f"{row['images_per_second']:,} by {row['processes']} processes" for row in crowds[-1:]]
    return ", ".join(parts) or NOTHING


def _rates_of(result: Result, step: str) -> list[Row]:
    return [row for row in _rows(result, step) if "images_per_second" in row and row["net"] == NET]


def _models(result: Result) -> str:
    rate, images = _value(result, "prepare", "models_per_hour"), _value(result, "prepare", "images")
    epochs = _value(result, "prepare", "epochs")
    return NOTHING if rate is None else f"{rate:.0f} of {epochs} epochs on {images} images"


def _counted(result: Result) -> list[Row]:
    return [row for row in _rows(result, "runs per hour") if row.get("runs_per_hour")]


def _value(result: Result, step: str, name: str) -> Any:
    return next((row[name] for row in _rows(result, step) if name in row), None)


def _rows(result: Result, step: str) -> list[Row]:
    rows: list[Row] = result["steps"].get(step, {}).get("rows", [])
    return rows


if __name__ == "__main__":
    write_page()
