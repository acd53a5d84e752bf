"""The plot and the tables of docs/trojan.md, from what is stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.pages import ROOT, Table, machine, markdown, stored
from benchmarks.trojan.claims import CLAIMS, METHODS, SPARSITIES, Rows, difference, values
from benchmarks.trojan.models import ARMS, RATES
from benchmarks.verdicts import Interval, t_interval
from harness.report.style import ORIGINAL_STYLE, RETRAINED_STYLE, STYLE, WIDTH

__all__ = ["PAGE", "RESULT", "TABLES", "figure"]

PAGE, RESULT = ROOT / "docs" / "trojan.md", "trojan-cifar10"
TITLES = {"asr": "ASR", "sa": "SA"}
LOOKS = {
    "before": ("#808080", ORIGINAL_STYLE.marker),
    "retrained": (RETRAINED_STYLE.colour, RETRAINED_STYLE.marker),
    "fine-tuning": ("#0072B2", "o"),
    "l1-sparse 0.0001": ("#56B4E9", "v"),
    "l1-sparse 0.001": ("#009E73", "^"),
}


@rc_context(STYLE)
def figure(rows: Rows) -> Figure:
    """Draw ASR and SA against sparsity for either learning rate, with 95 % intervals over seeds."""
    whole = Figure((WIDTH, 6.5), layout="constrained")
    panels = whole.subplots(2, 2, sharex=True, sharey="row")
    for axes, (rate, learning_rate) in zip(panels.flat, [(rate, one) for rate in TITLES for one in RATES], strict=True):
        for name, look in LOOKS.items():
            model = name if name in ("before", "retrained") else f"{name}, {learning_rate}"
            _line(axes, [t_interval(values(rows, model, rate, one)) for one in SPARSITIES], name, *look)
        axes.set(title=f"{TITLES[rate]}, percent, learning rate {learning_rate}")
        axes.set(xticks=range(len(SPARSITIES)), xticklabels=[f"{sparsity:.0%}" for sparsity in SPARSITIES])
        axes.grid(axis="y")
    for axes in panels[-1]:
        axes.set_xlabel("sparsity of the originals' convolutions")
    whole.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LOOKS))
    return whole


def _line(axes: Axes, intervals: Sequence[Interval], label: str, colour: str, marker: str) -> None:
    """Draw means with their intervals against the sparsity, the places being evenly spaced."""
    means, reach = [one.mean for one in intervals], [one.high - one.mean for one in intervals]
    options: Any = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2, "capsize": 2, "label": label}
    axes.errorbar(range(len(means)), means, reach, **options)


# ---- tables -------------------------------------------------------------------------------------------------------


def verdict_tables(found: dict[str, Any]) -> str:
    """Return the verdict on every claim, or that the gate was not passed."""
    gate = found["gate"]
    least, most = (end(gate["asr_before"].values()) for end in (min, max))
    so = "the claims are tested" if gate["passed"] else "the trigger is too weak, and nothing is tested"
    texts = [f"Before, ASR is {least:.1f} to {most:.1f} %; at least {gate['least']:g} % were needed: {so}.\n"]
    for method, claims in found["tested"].items():
        head = [method, "verdict", *map(_settings, METHODS[method])]
        rows = [[CLAIMS[name], f"**{claim['verdict']}**", *claim["arms"].values()] for name, claim in claims.items()]
        texts.append(markdown(head, rows))
    return "\n".join([*texts, _note(found)])


def _settings(arm: str) -> str:
    """Return penalty and learning rate of an arm in words."""
    method, _, rate = arm.partition(", ")
    penalty = method.removeprefix("l1-sparse").removeprefix("fine-tuning")
    return f"penalty{penalty}, rate {rate}" if penalty else f"rate {rate}"


def all_tables(found: dict[str, Any]) -> str:
    """Return ASR and SA of all models, the intervals behind the verdicts, and how far models are apart."""
    rows, texts = found["cells"], []
    for rate, title in TITLES.items():
        of_models = {
            model: [t_interval(values(rows, model, rate, one)) for one in SPARSITIES]
            for model in ("before", "retrained", *ARMS)
        }
        texts.append(_by_sparsity(f"{title}, percent", of_models))
    for claim, what in (("falls", "ASR before less after"), ("keeps", "SA before less after")):
        texts.append(_by_sparsity(f"{what}, points, at 95 % for all cells of a method together", _tested(found, claim)))
    slopes = [[arm, *(one.text(1) for one in cells)] for arm, cells in _tested(found, "sparsity").items()]
    texts.append(f"**Slope of ASR afterwards on sparsity**\n\n{markdown(['', 'points from 0 to 100 %'], slopes)}")
    for rate, title in TITLES.items():
        others = dict.fromkeys(ARMS, "retrained")
        texts.append(_by_sparsity(f"{title} after less that of retrained models, points", _apart(rows, others, rate)))
    for rate, title in TITLES.items():
        others = {arm: f"fine-tuning, {arm.partition(', ')[2]}" for arm in METHODS["l1-sparse"]}
        texts.append(_by_sparsity(f"{title} after, less that after fine-tuning, points", _apart(rows, others, rate)))
    return "\n".join([*texts, _note(found)])


def _tested(found: dict[str, Any], claim: str) -> dict[str, list[Interval]]:
    """Return the intervals of a claim by arm."""
    by_arm: dict[str, list[Interval]] = {}
    for claims in found["tested"].values():
        for cell in claims[claim]["cells"]:
            by_arm.setdefault(cell["arm"], []).append(Interval.of(cell))
    return by_arm


def _apart(rows: Rows, others: Mapping[str, str], rate: str) -> dict[str, list[Interval]]:
    """Return how far models are above others, at every sparsity."""
    return {
        arm: [t_interval(difference(rows, arm, other, sparsity, rate)) for sparsity in SPARSITIES]
        for arm, other in others.items()
    }


def _by_sparsity(title: str, of_models: Mapping[str, Sequence[Interval]]) -> str:
    """Return a table of intervals by model and sparsity, below its title."""
    head = ["", *(f"{sparsity:.0%} sparse" for sparsity in SPARSITIES)]
    rows = ([model, *(interval.text(1) for interval in intervals)] for model, intervals in of_models.items())
    return f"**{title}**\n\n{markdown(head, rows)}"


def _note(found: dict[str, Any]) -> str:
    """Return how the figures were made."""
    pixels = f", {found['pixels']}" if found["pixels"] else ""
    sizes = f"CIFAR-10 at 16x16{pixels}, 4,000 training and 2,000 test images, `small_resnet` of width 8"
    return f"N = {found['seeds']} seeds, 95 % t-intervals; {sizes}; {machine(found)}, device cpu.\n"


TABLES = (
    Table(PAGE, "verdicts", "trojan", lambda: verdict_tables(stored(RESULT))),
    Table(PAGE, "tables", "trojan", lambda: all_tables(stored(RESULT))),
)
