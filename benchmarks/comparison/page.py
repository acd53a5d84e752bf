"""The tables of docs/comparison.md, from what is stored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.claims import claims_table
from benchmarks.comparison.methods import METHODS
from benchmarks.pages import ROOT, Table, machine, markdown, stored
from benchmarks.published import COMPARISON
from harness.report.style import STYLE, WIDTH

__all__ = ["PAGE", "RESULT", "TABLES", "figure"]

PAGE, RESULT = ROOT / "docs" / "comparison.md", "comparison"
Rows = Sequence[dict[str, Any]]


@rc_context(STYLE)
def figure(found: dict[str, Any]) -> Figure:
    """Draw for each method how much faster it is than training again, and how far it ends from that."""
    whole = Figure((WIDTH, 5), layout="constrained")
    left, right = whole.subplots(1, 2, sharey=True)
    by_method = _by_method(found)
    _spans(left, [[row["efficiency"] for row in rows] for rows in by_method.values()])
    _spans(right, [[row["kl"] for row in rows] for rows in by_method.values()])
    left.axvline(1, color="#808080", linewidth=0.8)
    left.set(title="times as fast as training again", yticks=range(len(by_method)))
    left.set_yticklabels(by_method)
    left.invert_yaxis()
    right.set(title="KL to the twin (exact: at the left)")
    return whole


def _spans(axes: Axes, values: Sequence[Sequence[float]]) -> None:
    """Draw least, median and most of each method on a logarithmic axis."""
    least = min(value for some in values for value in some if value > 0)
    for place, some in enumerate(values):
        low, middle, high = np.maximum(np.quantile(some, (0, 0.5, 1)), least)
        axes.plot([low, high], [place, place], color="#0072B2", linewidth=1.5)
        axes.plot([middle], [place], color="#0072B2", marker="o", markersize=5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.grid(axis="x")


def verdicts(found: dict[str, Any]) -> str:
    """Return the verdict on each claim."""
    return "\n".join([*claims_table(found["claims"]), "", note(found)])


def performance(found: dict[str, Any]) -> str:
    """Return efficiency, effectiveness and consistency of each method, each beside what is printed."""
    head = ["method", "efficiency", "printed", "effectiveness", "printed", "distance", "agreement, %", "printed"]
    lines = [_performance(name, rows) for name, rows in _by_method(found).items()]
    return f"{markdown(head, lines)}\n{note(found)}"


def _performance(name: str, rows: Rows) -> list[str]:
    printed = COMPARISON.get(METHODS[name].printed)
    is_exact = all(row["exact"] for row in rows)
    ours = [
        f"`{name}`",
        _range(rows, "efficiency", "x"),
        f"{max(row['effectiveness'] for row in rows):.2f} %",
        "exact" if is_exact else _range(rows, "distance"),
        "100" if is_exact else _range(rows, "agreement"),
    ]
    theirs = [printed.efficiency, printed.effectiveness, printed.consistency] if printed else [""] * 3
    return [*ours[:2], theirs[0], ours[2], theirs[1], *ours[3:], theirs[2]]


def properties(found: dict[str, Any]) -> str:
    """Return what each method applies to, what it promises and costs, beside what is printed."""
    head = ["method", "applies to", "unlearning", "certificate", "AccDis, %", "printed", "training", "state, MB"]
    lines = []
    for name, rows in _by_method(found).items():
        method, printed = METHODS[name], COMPARISON.get(METHODS[name].printed)
        exact = sum(bool(row["exact"]) for row in rows)
        certificate = f"exact {exact}/{len(rows)}" if method.kind.startswith("exact") else method.certificate
        shares = [row["training_share"] for row in rows]
        lines.append(
            [
                f"`{name}`",
                method.applies_to,
                method.kind,
                certificate,
                f"{np.median([row['accdis'] for row in rows]):.2f}",
                printed.certificate if printed else "",
                f"{np.median(shares):.2f}x",
                f"{max(row['state_mb'] for row in rows):.2f}",
            ]
        )
    return f"{markdown(head, lines)}\n{note(found)}"


def apart(found: dict[str, Any]) -> str:
    """Return for each method and problem how far it is from the twin, beside how far two trainings are apart."""
    head = ["method", "problem", "distance", "of two trainings", "agreement, %", "of two trainings", "KL", "of two"]
    lines = []
    for name, rows in _by_method(found).items():
        for problem in dict.fromkeys(row["problem"] for row in rows):
            some = [row for row in rows if row["problem"] == problem]
            keys = [f"{key}{ending}" for key in ("distance", "agreement", "kl") for ending in ("", "_again")]
            lines.append([f"`{name}`", problem, *(f"{np.median([row[key] for row in some]):.3g}" for key in keys)])
    return f"{markdown(head, lines)}\nMedians over requests and seeds. {note(found)}"


def what_compares() -> str:
    """Return which printed figures can be compared with those of small data, and what becomes of the others."""
    lines = [[name, one.efficiency, one.compare] for name, one in COMPARISON.items()]
    return markdown(["method", "efficiency as printed", "compared here"], lines)


def _by_method(found: dict[str, Any]) -> dict[str, Rows]:
    return {name: [row for row in found["rows"] if row["method"] == name] for name in METHODS}


def _range(rows: Rows, key: str, unit: str = "") -> str:
    """Return least, geometric mean and most."""
    values = np.array([row[key] for row in rows], dtype=float)
    mean = np.exp(np.log(values).mean()) if values.min() > 0 else 0.0
    return " / ".join(f"{value:.3g}{unit}" for value in (values.min(), mean, values.max()))


def note(found: dict[str, Any]) -> str:
    """Return how the figures were made."""
    return f"N = {found['seeds']} seeds of each request; {machine(found)}, device cpu, one thread.\n"


TABLES = (
    Table(PAGE, "verdicts", "comparison", lambda: verdicts(stored(RESULT))),
    Table(PAGE, "performance", "comparison", lambda: performance(stored(RESULT))),
    Table(PAGE, "properties", "comparison", lambda: properties(stored(RESULT))),
    Table(PAGE, "distances", "comparison", lambda: apart(stored(RESULT))),
    Table(PAGE, "printed", "comparison", what_compares),
)
