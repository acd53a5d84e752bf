"""Write the tables of docs/reproduction.md: published results beside what was measured with this kit.

    python -m benchmarks.reproduction

Reads benchmarks/results/baselines-TRACK.json, which `python -m benchmarks.baselines --track TRACK` writes. What no
machine has measured yet is a dash.
"""

from typing import Any

import click

from benchmarks.pages import METRICS, RESULTS, ROOT, Table, machine, stored
from benchmarks.published import CHALLENGE, FINE_TUNING, TABLE_2, TABLE_3, Means
from benchmarks.recipes import ratio

PAGE = ROOT / "docs" / "reproduction.md"
TRACKS = {"random, dense": "cifar10-paper", "random, sparse": "cifar10-sparse95", "class, dense": "cifar10-class"}
CHALLENGED = ("digits", "cifar10-small")  # tracks on which the recipes were measured
FILES = {
    "FT": "l1_sparse --set GAMMA=0",
    "GA": "gradient_ascent",
    "FF": "fisher_forgetting",
    "IU": "influence_unlearning",
}
UNKNOWN = "\N{EN DASH}"


@click.command()
def main() -> None:
    """Write the tables."""
    TABLE.write()


def tables() -> str:
    """Return the tables of the page."""
    return "\n".join([*challenge(), *table_3(), *table_2(), ""])


def measured(track: str) -> dict[str, Any]:
    """Return what was measured on a track, nothing if it never was."""
    name = f"baselines-{track}"
    return dict(stored(name)["rows"]) if (RESULTS / f"{name}.json").is_file() else {}


def challenge() -> list[str]:
    """Return the table of the challenge's recipes."""
    ours = {track: stored(f"baselines-{track}") for track in CHALLENGED if measured(track)}
    columns = ("times fine-tuning", "of the ceiling", "shift", "spread")
    head = ["file", "public", "private", "times fine-tuning"]
    head += [name for track in ours for name in (f"ours on `{track}`", *columns)]
    lines = [*heading("The eight of 2023", head)]
    for name, published in CHALLENGE.items():
        ratio = None if published.public is None else published.public / FINE_TUNING
        cells = [f"`{name}`", number(published.public, 3), number(published.private, 4), number(ratio, 1)]
        cells += [cell for found in ours.values() for cell in ours_of_challenge(found, name)]
        lines.append(line(cells))
    return [*lines, "", f"In brackets 95 % intervals. {' '.join(where(track, found) for track, found in ours.items())}"]


def where(track: str, found: dict[str, Any]) -> str:
    """Return how the scores on a track were measured."""
    images = f" {found['images']}," if "images" in found else ""
    return f"`{track}`:{images} N = {found['runs']} runs, {machine(found)}, device {found['device']}."


def ours_of_challenge(found: dict[str, Any], name: str) -> list[str]:
    """Return the cells of our score of a recipe."""
    row, finetune, retrained = (found["rows"].get(key, {}) for key in (name, "finetune", "retrained"))
    if any(one.get("score") is None for one in (row, finetune, retrained)):
        return [UNKNOWN] * 5
    times = None if row is finetune else ratio(row, finetune, found["runs"])
    return [
        f"{row['score']:.3f}",
        "1" if times is None else times.text(2),
        f"{row['score'] / retrained['score']:.2f}",
        f"{row['shift']:+.1f}",
        f"{row['spread']:.1f}",
    ]


def table_3() -> list[str]:
    """Return Table 3 of the paper, a row for each scenario and method."""
    head = ["scenario", "method", "file", *METRICS.values(), "disparity", "ours"]
    lines = heading("Table 3 of the sparsity paper", head)
    for scenario, (retrained, methods) in TABLE_3.items():
        ours = measured(TRACKS.get(scenario, ""))
        lines.append(line([scenario, "Retrain", "", *percent(retrained), "0", of(ours, "retrained")]))
        for name, (means, printed) in methods.items():
            file = FILES[name]
            lines.append(line([scenario, name, f"`{file}`", *percent(means), f"{printed:.2f}", of(ours, file)]))
    return lines


def table_2() -> list[str]:
    """Return Table 2 of the paper, a row for each schedule."""
    lines = heading("Table 2 of the sparsity paper", ["schedule", *METRICS.values(), "ours"])
    ours = measured("cifar10-paper")
    for schedule, means in TABLE_2.items():
        file = f"l1_sparse --set SCHEDULE={schedule}"
        lines.append(line([schedule, *percent(means), of(ours, file)]))
    return lines


def of(ours: dict[str, Any], file: str) -> str:
    """Return our four metrics of a file, if they were measured."""
    if file not in ours:
        return UNKNOWN
    means = [ours[file][name] if file == "retrained" else ours[file][name]["mean"] for name in METRICS]
    return ", ".join(percent(means))


def heading(title: str, columns: list[str]) -> list[str]:
    """Return the lines above the rows of a table."""
    return ["", f"## {title}", "", line(columns), line(["---"] * len(columns))]


def line(cells: list[str]) -> str:
    """Return a row."""
    return f"| {' | '.join(cells)} |"


def percent(means: Means) -> list[str]:
    """Return means in percent."""
    return [f"{mean:.2f}" for mean in means]


def number(value: float | None, digits: int) -> str:
    """Return a score, or that there is none."""
    return "not published" if value is None else f"{value:.{digits}f}"


TABLE = Table(PAGE, "tables", "reproduction.py", tables)

if __name__ == "__main__":
    main()
