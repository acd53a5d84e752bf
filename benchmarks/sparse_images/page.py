"""The plot and the tables of docs/sparse_images.md, from what is stored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.pages import METRICS, ROOT, Table, machine, markdown, stored
from benchmarks.published import TABLE_2, TABLE_3, Means
from benchmarks.sparse_images.claims import BY_SPARSITY, CLAIMS, DENSE, PRUNED, SAID, Rows, disparities, values
from benchmarks.sparse_images.methods import METHODS, SCHEDULES, SETTINGS, arms_of
from benchmarks.sparse_images.protocol import CELLS, SCENARIOS, SPARSE, SPARSITIES, Cell
from benchmarks.verdicts import Interval, t_interval
from harness.report.style import RETRAINED_STYLE, STYLE, WIDTH
from harness.scoring.full_stack import disparity_average

__all__ = ["PAGE", "RESULT", "TABLES", "figure"]

PAGE, RESULT = ROOT / "docs" / "sparse_images.md", "sparse-images"
LOOKS = {
    "original": ("#808080", "D"),
    "retrained": (RETRAINED_STYLE.colour, RETRAINED_STYLE.marker),
    "FT": ("#0072B2", "o"),
    "GA": ("#CC79A7", "^"),
    "FF": ("#E69F00", "P"),
    "IU": ("#009E73", "v"),
    "l1-sparse, constant": ("#56B4E9", "X"),
    "l1-sparse, growing": ("#000000", "p"),
    "l1-sparse, decaying": ("#F0C000", "*"),
}
SHOWN = "tuned"  # in the plot


@rc_context(STYLE)
def figure(rows: Rows) -> Figure:
    """Draw disparities and MIA-Privacy at tuned settings, with 95 % intervals over seeds."""
    whole = Figure((WIDTH, 10), layout="constrained")
    panels = whole.subplots(3, 2)
    for axes, scenario in zip(panels[0], SCENARIOS, strict=True):
        cells = [DENSE[scenario], Cell(scenario, "omp", SPARSE)]
        _lines(axes, cells, ("original", *METHODS), lambda cell, model: disparities(rows, cell, model))
        title = f"disparity average, {scenario if scenario == 'class' else 'random images'} forgotten"
        axes.set(title=title, xticks=(0, 1), xticklabels=("dense", f"{SPARSE:.0%} sparse"), xlim=(-0.3, 1.3))
    _points(panels[1, 0], rows)
    panels[1, 0].set(title="UA and MIA-Efficacy, dense, random images")
    _lines(panels[1, 1], list(PRUNED.values()), ("original", "FT"), lambda cell, model: disparities(rows, cell, model))
    panels[1, 1].set(title=f"disparity average by pruner, {SPARSE:.0%} sparse", xticks=range(3), xticklabels=PRUNED)
    for axes, metric, title in zip(panels[2], ("mia_privacy", "ta"), ("MIA-Privacy", "TA"), strict=True):
        _lines(axes, BY_SPARSITY, ("original", "retrained", *METHODS), partial(_values, rows, metric))
        labels = [f"{sparsity:.0%}" for sparsity in SPARSITIES]
        axes.set(title=f"{title}, percent, by sparsity", xticks=range(len(SPARSITIES)), xticklabels=labels)
    for axes in panels.flat:
        axes.grid(axis="y")
    handles = dict(zip(*reversed(panels[2, 0].get_legend_handles_labels()), strict=True))
    handles |= dict(zip(*reversed(panels[1, 0].get_legend_handles_labels()), strict=True))
    whole.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    return whole


def _lines(
    axes: Axes, cells: Sequence[Cell], models: Iterable[str], of: Callable[[Cell, str], Sequence[float]]
) -> None:
    """Draw a line for each model over evenly spaced cells."""
    for name in models:
        intervals = [t_interval(of(cell, _model(name, SHOWN))) for cell in cells]
        means, reach = [one.mean for one in intervals], [one.high - one.mean for one in intervals]
        axes.errorbar(range(len(cells)), means, reach, label=name, **_look(name))


def _values(rows: Rows, metric: str, cell: Cell, model: str) -> list[float]:
    return values(rows, cell, model, metric)


def _points(axes: Axes, rows: Rows) -> None:
    """Draw MIA-Efficacy against UA on dense nets."""
    for name in ("retrained", "FT", *SCHEDULES):
        x, y = (
            t_interval(values(rows, DENSE["random"], _model(name, SHOWN), metric)) for metric in ("ua", "mia_efficacy")
        )
        axes.errorbar([x.mean], [y.mean], [y.high - y.mean], [x.high - x.mean], label=name, **_look(name))
    axes.set(xlabel="UA, percent", ylabel="MIA-Efficacy, percent")


def _look(name: str) -> dict[str, Any]:
    colour, marker = LOOKS[name]
    return {"color": colour, "marker": marker, "markersize": 6, "linewidth": 1.2, "capsize": 2}


def _model(name: str, setting: str) -> str:
    """Return the key of a model: that of a method is of a setting."""
    return f"{name}, {setting}" if name in METHODS | SCHEDULES else name


# ---- tables --------------------------------------------------------------------------------------------------------


def verdict_table(found: dict[str, Any]) -> str:
    """Return the verdict on every claim at either setting, or that the gate was not passed."""
    gate = found["gate"]
    unlike, lost = (Interval.of(gate[name]).text(1) for name in ("unlike", "lost"))
    so = "the claims are tested" if gate["passed"] else "nothing is tested"
    text = (
        f"The original is {unlike} points further from a retrained model than another retrained one is, which has to "
    )
    text += f"be above 0, and loses {lost} points of TA where it is {SPARSE:.0%} sparse, which has to be less than "
    text += f"{gate['most_lost']:g}: {so}.\n\n"
    rows = [
        [asked.sentence, *(f"**{found['tested'][setting][name]['verdict']}**" for setting in SETTINGS), asked.published]
        for name, asked in CLAIMS.items()
    ]
    return text + markdown(["claim", *SAID.values(), "in the paper"], rows) + "\n" + _note(found)


def all_tables(found: dict[str, Any]) -> str:
    """Return the intervals behind the verdicts, the metrics of all models, and the tuning."""
    texts = [
        _behind(found),
        *(_of_cell(found["rows"], cell) for cell in CELLS),
        _leakage(found["rows"]),
        _tuning(found),
    ]
    return "\n".join([*texts, _note(found)])


def _behind(found: dict[str, Any]) -> str:
    """Return every difference that a claim says is below 0."""
    rows = [
        [
            CLAIMS[name].sentence if place == 0 else "",
            what,
            *(_tested(found, setting, name, what) for setting in SETTINGS),
        ]
        for name in CLAIMS
        for place, what in enumerate(found["tested"][SETTINGS[0]][name]["cells"])
    ]
    title = "Differences that are below 0 where a claim holds, in points, at 95 % for all of a claim together"
    return f"**{title}**\n\n{markdown(['claim', 'of', *SAID.values()], rows)}"


def _tested(found: dict[str, Any], setting: str, name: str, what: str) -> str:
    cell = found["tested"][setting][name]["cells"][what]
    return f"{Interval.of(cell).text(1)}, {cell['verdict']}"


def _of_cell(rows: Rows, cell: Cell) -> str:
    """Return the metrics of all models of a cell, beside the paper's where there are such."""
    models = ["original", "retrained", *(["retrained again"] if cell == CELLS[0] else [])]
    models += [f"{name}, {setting}" for setting in SETTINGS for name in arms_of(cell)]
    lines = []
    for model in models:
        metrics = [_text(values(rows, cell, model, name)) for name in METRICS]
        has_time = model.startswith("retrained") or "," in model
        seconds = (
            f"{np.median(values(rows, cell, model, 'seconds')):.1f}" if has_time and model != "retrained again" else ""
        )
        lines.append([model, *metrics, _text(disparities(rows, cell, model)), _published(cell, model), seconds])
    scenario = "a class" if cell.scenario == "class" else "random images"
    pruned = f"{cell.sparsity:.0%} sparse by {cell.pruner.upper()}" if cell.sparsity else "dense"
    head = ["", *METRICS.values(), "disparity", "in the paper", "seconds"]
    return f"**{scenario} forgotten, {pruned}**\n\n{markdown(head, lines)}"


def _published(cell: Cell, model: str) -> str:
    """Return the paper's disparity average of a method at its settings."""
    name, _, setting = model.rpartition(", ")
    if cell.pruner != "omp" or cell.sparsity not in (0, SPARSE) or setting != "published":
        return ""
    of_cell = TABLE_3[f"{cell.scenario}, {'sparse' if cell.sparsity else 'dense'}"]
    if name in SCHEDULES:
        means: Means | None = TABLE_2[name.partition(", ")[2]] if cell == DENSE["random"] else None
        return f"{disparity_average(means, of_cell[0]):.2f}" if means else ""
    return f"{of_cell[1][name][1]:.2f}"


def _leakage(rows: Rows) -> str:
    """Return MIA-Privacy by sparsity."""
    models = ["original", "retrained", *(f"{name}, {setting}" for setting in SETTINGS for name in METHODS)]
    lines = [[model, *(_text(values(rows, cell, model, "mia_privacy")) for cell in BY_SPARSITY)] for model in models]
    head = ["", *(f"{sparsity:.0%} sparse" for sparsity in SPARSITIES)]
    return f"**MIA-Privacy, percent, 50 is chance; random images forgotten**\n\n{markdown(head, lines)}"


def _tuning(found: dict[str, Any]) -> str:
    """Return what was tried on the images of another seed."""
    lines = [
        [
            name,
            (METHODS | SCHEDULES)[name].tuned,
            *(_trials(found["tuning"].get(scenario), name) for scenario in SCENARIOS),
        ]
        for name in METHODS | SCHEDULES
    ]
    title = "Tuning: disparity on the images of another seed by value, the chosen one in bold"
    head = ["", "constant", *(f"{scenario} forgotten" for scenario in ("random images", "a class"))]
    return f"**{title}**\n\n{markdown(head, lines)}"


def _trials(tuning: Mapping[str, Any], name: str) -> str:
    trials = [one for one in tuning["trials"] if one["method"] == name]
    texts = [f"{one['value']:g}: {np.mean(one['disparities']):.1f}" for one in trials]
    is_chosen = [one["value"] == tuning["chosen"][name] for one in trials]
    return ", ".join(f"**{text}**" if chosen else text for text, chosen in zip(texts, is_chosen, strict=True))


def _text(seeds: Sequence[float]) -> str:
    return t_interval(seeds).text(1)


def _note(found: dict[str, Any]) -> str:
    """Return how the figures were made."""
    pixels = f", {found['pixels']}" if found["pixels"] else ""
    sizes = f"CIFAR-10 at 16x16{pixels}, 4,000 training and 2,000 test images, `small_resnet` of width 8"
    return f"N = {found['seeds']} seeds, 95 % t-intervals; {sizes}; {machine(found)}, device {found['device']}.\n"


TABLES = (
    Table(PAGE, "verdicts", "sparse_images", lambda: verdict_table(stored(RESULT))),
    Table(PAGE, "tables", "sparse_images", lambda: all_tables(stored(RESULT))),
)
