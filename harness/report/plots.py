"""The plots of a report: arrays in, matplotlib figures out. Nothing is read, nothing is stored, no window is opened.

No text of a participant's gets into a figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from harness.report.style import (
    GREY,
    ORIGINAL_STYLE,
    RETRAINED_STYLE,
    STYLE,
    UNLEARNED_STYLE,
    WIDTH,
    Models,
    mark,
    single,
)
from harness.scoring.official import BUCKET, EPSILON_CAP, bucket_count, example_credits

__all__ = [
    "MOST_GROUPS",
    "ByRequest",
    "Example",
    "Group",
    "ScaleRow",
    "accuracies",
    "confidence_histograms",
    "epsilon_histogram",
    "epsilons_by_group",
    "requests",
    "run_seconds",
    "score_scale",
    "trade_off_curve",
]

CEILING = "retrained, scored as a submission (the ceiling)"
APART = "told apart\nwithout error"
RAISED = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")
N_BINS = 16
MOST_GROUPS = 24
LONGEST_TITLE = 14  # letters of a class above a picture


# ---- the scores ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScaleRow:
    """One of those compared on the scale of the official score."""

    label: str
    models: Models
    value: float | None  # None: withheld
    interval: Sequence[float] | None = None  # low, high


@rc_context(STYLE)
def score_scale(rows: Sequence[ScaleRow]) -> Figure:
    """Draw scores above each other with their 95 % intervals, from the first row at the top to the last."""
    figure, axes = single(0.6 + 0.45 * len(rows))
    rightmost = 0.02
    known = [row.value for row in rows if row.value is not None]
    if known:
        axes.axvspan(min(known), max(known), color=GREY, alpha=0.08, linewidth=0)
    for place, row in enumerate(rows):
        if row.value is None:
            axes.annotate("withheld", (0.01, place), xycoords=("axes fraction", "data"), va="center", color=GREY)
            continue
        low, high = row.interval or (row.value, row.value)
        rightmost = max(rightmost, high)
        axes.plot([max(low, 0.0), high], [place, place], color=row.models.colour, linewidth=2.5, solid_capstyle="butt")
        mark(axes, [row.value], [place], row.models, size=8)
        text = f"{row.value:.3f}"
        axes.annotate(text, (high, place), xytext=(9, 0), textcoords="offset points", va="center")
    axes.set(yticks=range(len(rows)), yticklabels=[row.label for row in rows], ylim=(len(rows) - 0.4, -0.6))
    axes.set(xlabel="official score")
    axes.set_xlim(0, 1.12 * rightmost)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.grid(axis="x")
    return figure


@rc_context(STYLE)
def epsilon_histogram(unlearned: np.ndarray, ceiling: np.ndarray, *, n_models: int) -> Figure:
    """Draw how many forget examples fall into each official bin of epsilon, and what credit a bin gives.

    unlearned, ceiling: official epsilons (n_examples,), of the submission and of retrained models scored as one; NaN
    is left out. The last bar holds the examples that are told apart without error.
    """
    figure, axes = single(3.4)
    edges = _bin_edges(n_models)
    apart = edges[-1] + BUCKET  # where the last bar stands, apart from the others
    places = np.append(edges[:-1], apart)
    ours, theirs = (_bin_counts(epsilons, edges) for epsilons in (unlearned, ceiling))
    width = 0.92 * BUCKET
    axes.bar(places, ours, width, align="edge", color=UNLEARNED_STYLE.colour, alpha=0.75, label=UNLEARNED_STYLE.name)
    some = theirs > 0
    outline: dict[str, Any] = {"fill": False, "edgecolor": RETRAINED_STYLE.colour, "linewidth": 2}
    axes.bar(places[some], theirs[some], width, align="edge", label=CEILING, **outline)
    for middle, credit in zip(places + width / 2, example_credits(places, n_models), strict=True):
        _above(axes, middle, _fraction(credit))
    _above(axes, -0.35, "credit")
    ticks = edges[:: max(1, len(edges) // 16)]
    axes.set_xticks([*ticks, apart + width / 2], [*(f"{tick:g}" for tick in ticks), APART])
    axes.set(xlabel="epsilon", ylabel="forget examples", xlim=(-0.1, apart + 1.4 * BUCKET))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _above(axes: Axes, x: float, text: str) -> None:
    """Write just above the axes, at x."""
    axes.annotate(
        text,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=GREY,
    )


# ---- pictures --------------------------------------------------------------------------------------------------------


@rc_context(STYLE)
def pictures(rows: Mapping[str, Sequence[tuple[str, np.ndarray]]]) -> Figure:
    """Draw rows of images by their names; each (height, width) or (height, width, 3) in [0, 1], with a title."""
    n_columns = max(map(len, rows.values()))
    figure = Figure((WIDTH, 1.4 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), n_columns, squeeze=False)
    for (name, shown), axes_of_row in zip(rows.items(), grid, strict=True):
        axes_of_row[0].set_ylabel(name)
        for axes in axes_of_row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, (title, image) in zip(axes_of_row, shown, strict=False):
            _image(axes, image)
            axes.set_title(title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…", fontsize=9)
    return figure


# ---- single examples -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """One forget example under all models."""

    title: str
    unlearned: np.ndarray  # (n_models,) logit-scaled confidences
    retrained: np.ndarray  # (n_retrained,)
    original: np.ndarray  # (n_originals,)
    image: np.ndarray | None = None  # (height, width) or (height, width, 3) in [0, 1]


@rc_context(STYLE)
def confidence_histograms(examples: Sequence[Example], *, n_rows: int = 2) -> Figure:
    """Draw the distributions of some examples' confidences, each with its image on its left, down the columns."""
    n_columns = -(-len(examples) // n_rows)
    figure = Figure((WIDTH, 0.6 + 2.05 * n_rows), layout=ConstrainedLayoutEngine(h_pad=0.08))
    grid = figure.add_gridspec(n_rows, 2 * n_columns, width_ratios=[1, 3.5] * n_columns)
    for place, example in enumerate(examples):
        row, column = place % n_rows, 2 * (place // n_rows)
        if example.image is not None:
            _image(figure.add_subplot(grid[row, column]), example.image)
        axes = figure.add_subplot(grid[row, column + 1])
        _distributions(axes, example, place)
        if column == 0:
            axes.set_ylabel("models")
    figure.supxlabel("confidence of the true class, log p - log(1 - p)", fontsize=10)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="none")
    axes.set(xticks=[], yticks=[], anchor="N")
    axes.spines[:].set_visible(True)


def _distributions(axes: Axes, example: Example, place: int) -> None:
    """Draw histograms of unlearned and retrained models, and originals, which are few, one by one below them."""
    names = [
        models.name if place == 0 else None for models in (UNLEARNED_STYLE, RETRAINED_STYLE, ORIGINAL_STYLE)
    ]  # once in the legend
    everything = np.concatenate([example.unlearned, example.retrained, example.original])
    edges = list(np.histogram_bin_edges(everything, N_BINS))
    ours, *_ = axes.hist(
        example.unlearned, edges, histtype="step", linewidth=1.8, color=UNLEARNED_STYLE.colour, zorder=3, label=names[0]
    )
    theirs, *_ = axes.hist(example.retrained, edges, color=RETRAINED_STYLE.colour, alpha=0.5, label=names[1])
    most = max(np.max(ours), np.max(theirs))
    axes.axhline(0, color=GREY, linewidth=0.8)
    below = np.full(len(example.original), -0.09 * most)
    mark(axes, example.original, below, ORIGINAL_STYLE, size=3.5, label=names[2])
    axes.set_ylim(-0.18 * most, 1.05 * most)
    axes.set_title(example.title, loc="left", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


# ---- all examples --------------------------------------------------------------------------------------------------


@rc_context(STYLE)
def trade_off_curve(rates: np.ndarray, unlearned: np.ndarray, ceiling: np.ndarray) -> Figure:
    """Draw false negative rates (n_rates,) over false positive rates (n_rates,), with the diagonal of no evidence."""
    figure = Figure((6.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, unlearned, color=UNLEARNED_STYLE.colour, linewidth=2, label=UNLEARNED_STYLE.name, zorder=3)
    axes.plot(
        rates, ceiling, color=RETRAINED_STYLE.colour, linewidth=2, linestyle="--", label="retrained (the ceiling)"
    )
    axes.plot([0, 1], [1, 0], color="black", linewidth=1, linestyle=":", label="cannot be told apart")
    axes.fill_between(rates, unlearned, ceiling, color=UNLEARNED_STYLE.colour, alpha=0.1, linewidth=0)
    axes.set(xlabel="false positive rate", ylabel="false negative rate", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(axis="both")
    axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5))
    return figure


@dataclass(frozen=True)
class Group:
    """Forget examples that belong together: a class, or a subject."""

    name: str
    unlearned: np.ndarray  # (n_examples,) official epsilons
    ceiling: np.ndarray  # (n_examples,) of retrained models scored as a submission


@rc_context(STYLE)
def epsilons_by_group(groups: Sequence[Group], *, n_models: int) -> Figure:
    """Draw every group's median epsilon and the half of its examples about it; of many groups those worst forgotten."""
    apart = _bin_edges(n_models)[-1] + BUCKET
    shown = list(groups)
    if len(groups) > MOST_GROUPS:
        shown = sorted(groups, key=lambda group: -np.nan_to_num(_quartiles(group.unlearned, apart)[1]))[:MOST_GROUPS]
    figure, axes = single(1.1 + 0.34 * len(shown))
    for offset, models, label, epsilons in (
        (-0.15, UNLEARNED_STYLE, UNLEARNED_STYLE.name, [group.unlearned for group in shown]),
        (0.15, RETRAINED_STYLE, CEILING, [group.ceiling for group in shown]),
    ):
        quartiles = np.array([_quartiles(values, apart) for values in epsilons])
        places = np.arange(len(shown)) + offset
        axes.hlines(places, quartiles[:, 0], quartiles[:, 2], color=models.colour, linewidth=2.5, alpha=0.6)
        mark(axes, quartiles[:, 1], places, models, size=6, label=label)
    names = [f"{group.name} ({len(group.unlearned)})" for group in shown]
    axes.set(yticks=range(len(shown)), yticklabels=names, ylim=(len(shown) - 0.5, -0.5), xlabel="epsilon")
    ticks = np.arange(0, apart - BUCKET, 1)
    axes.set_xticks([*ticks, apart], [*(f"{tick:g}" for tick in ticks), APART])
    axes.set_xlim(0, apart + 0.4 * BUCKET)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


# ---- models --------------------------------------------------------------------------------------------------------


@rc_context(STYLE)
def accuracies(sets: Sequence[str], values: Sequence[tuple[Models, np.ndarray]]) -> Figure:
    """Draw mean accuracy on several data sets, and the range of the middle 90 % of the models.

    values: kinds of models and their accuracies (n_models, n_sets), in [0, 1].
    """
    figure, axes = single(0.9 + 0.62 * len(sets))
    for row, (models, accuracy) in enumerate(values):
        means, (low, high) = 100 * accuracy.mean(axis=0), 100 * np.quantile(accuracy, [0.05, 0.95], axis=0)
        places = np.arange(len(sets)) + 0.24 * (row - (len(values) - 1) / 2)
        axes.hlines(places, low, high, color=models.colour, linewidth=2.5, alpha=0.6)
        mark(axes, means, places, models, size=6, label=models.name)
        for place, mean in zip(places, means, strict=True):
            axes.annotate(
                f"{mean:.1f}", (1.01, place), xycoords=("axes fraction", "data"), va="center", color=models.colour
            )
    axes.set(yticks=range(len(sets)), yticklabels=sets, ylim=(len(sets) - 0.5, -0.5), xlabel="accuracy in percent")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    figure.legend(loc="outside upper center", ncols=len(values))
    return figure


@rc_context(STYLE)
def run_seconds(seconds: np.ndarray, limits: np.ndarray) -> Figure:
    """Draw the seconds of every run (n_runs,) below its limit, and below twice the limit, where runs are killed."""
    figure, axes = single(2.7)
    runs = np.arange(len(seconds))
    ends = np.concatenate([[-0.5], (runs + 0.5)])
    for factor, style, text in ((1, "-", "limit of the mean:"), (2, "--", "a run is killed at")):
        axes.stairs(factor * limits, ends, baseline=None, color="black", linestyle=style, linewidth=1.2, zorder=5)
        axes.annotate(
            f"{text} {factor * limits[-1]:.3g} s",
            (runs[-1] + 0.5, factor * limits[-1]),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            zorder=4,
        )
    mark(axes, runs, seconds, UNLEARNED_STYLE, size=4)
    axes.set(xlabel="run", ylabel="seconds", xlim=(-0.5, len(runs) - 0.5))
    axes.set_ylim(0, 1.12 * max(2 * limits.max(), seconds.max()))
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.grid(axis="y")
    return figure


@dataclass(frozen=True)
class ByRequest:
    """A figure after each deletion request."""

    name: str  # with its unit
    unlearned: Sequence[float]
    retrained: Sequence[float]  # of models retrained without all that is forgotten in the end


@rc_context(STYLE)
def requests(
    shown: Sequence[ByRequest],
    seconds: Sequence[float],
    longest: Sequence[float],
    state_mb: Sequence[float] | None,
    *,
    limit: float,
) -> Figure:
    """Draw figures after each deletion request, a panel each, and below them the seconds of each request.

    seconds, longest: mean and most over runs, of each request. state_mb: of learners, before the first and after each
    request, drawn beside the seconds. limit: of one request.
    """
    figure = Figure((WIDTH, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, len(shown), height_ratios=[1.2, 1])
    numbers = np.arange(1, len(seconds) + 1)
    for place, each in enumerate(shown):
        axes = figure.add_subplot(grid[0, place])
        for models, values in ((RETRAINED_STYLE, each.retrained), (UNLEARNED_STYLE, each.unlearned)):
            axes.plot(numbers, np.asarray(values), color=models.colour, linewidth=1.5)
            mark(axes, numbers, np.asarray(values), models, size=4, label=None if place else models.name)
        axes.set_title(each.name, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")
    if state_mb is not None:
        _state_sizes(figure.add_subplot(grid[1, -1]), state_mb)
    _seconds_of_requests(figure.add_subplot(grid[1, : None if state_mb is None else -1]), seconds, longest, limit)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _state_sizes(axes: Axes, state_mb: Sequence[float]) -> None:
    axes.plot(state_mb, color=UNLEARNED_STYLE.colour, linewidth=1.5)
    mark(axes, np.arange(len(state_mb)), state_mb, UNLEARNED_STYLE, size=4)
    axes.set_title("state, MB", loc="left")
    axes.set(xlabel="request", xlim=(0, len(state_mb) - 1))
    axes.set_ylim(0, 1.15 * max(*state_mb, 1e-6))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")


def _seconds_of_requests(axes: Axes, seconds: Sequence[float], longest: Sequence[float], limit: float) -> None:
    numbers = np.arange(1, len(seconds) + 1)
    axes.vlines(numbers, seconds, longest, color=UNLEARNED_STYLE.colour, linewidth=2.5, alpha=0.6)
    mark(axes, numbers, seconds, UNLEARNED_STYLE, size=6)
    axes.axhline(limit, color="black", linewidth=1.2)
    axes.annotate(
        f"limit of the mean: {limit:.3g} s",
        (1, limit),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
    )
    axes.set(xlabel="request", ylabel="seconds", xlim=(0.5, len(numbers) + 0.5))
    axes.set_ylim(0, 1.15 * max(limit, *longest))
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.grid(axis="y")


# ---- epsilons -------------------------------------------------------------------------------------------------------


def _bin_edges(n_models: int) -> np.ndarray:
    """Return the edges of the official bins; at least of one, though the bins of 2 models give no credit."""
    return BUCKET * np.arange(max(1, bucket_count(n_models)) + 1)


def _bin_counts(epsilons: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many examples lie in each bin, and last, in none of them because no threshold errs."""
    resolved = epsilons[~np.isnan(epsilons)]
    apart = resolved == EPSILON_CAP
    return np.append(np.histogram(resolved[~apart], edges)[0], apart.sum())


def _quartiles(epsilons: np.ndarray, apart: float) -> np.ndarray:
    """Return the three quartiles (3,), those without error drawn at `apart`; NaN if no example is resolved."""
    resolved = epsilons[~np.isnan(epsilons)]
    if not len(resolved):
        return np.full(3, np.nan)
    return np.asarray(np.quantile(np.minimum(resolved, apart), [0.25, 0.5, 0.75], method="nearest"))


def _fraction(credit: float) -> str:
    """Return 1, 1/2, 1/4, ... as text, the smallest as powers."""
    if credit in (0, 1):
        return f"{credit:g}"
    return f"1/{1 / credit:g}" if credit >= 1 / 512 else "2" + f"{np.log2(credit):g}".translate(RAISED)
