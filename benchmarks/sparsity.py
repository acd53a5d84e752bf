"""Does sparsity simplify unlearning? The claims of the sparsity paper, asked of `digits`.

    python -m benchmarks.sparsity [--runs 16]

Source of the claims: Jia et al., "Model Sparsity Can Simplify Machine Unlearning" (NeurIPS 2023). First, for originals
of each sparsity, pruned by OMP and trained under their masks as the paper does, every approximate method unlearns under
the same masks and is compared with models retrained under them. Then the schedules of l1-sparse are compared with
fine-tuning on dense originals. Missing tracks are prepared and missing runs are made; both are kept in HARNESS_HOME.

Writes benchmarks/results/sparsity-digits.json, docs/sparsity.svg and the tables between the marks of docs/sparsity.md.
"""

import math
from typing import Any

import click
import joblib
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import harness
from benchmarks.pages import METRICS, ROOT, Table, machine, scored_with, stored
from data_prep.prepare import prepare
from harness.accelerator import of
from harness.environment import home
from harness.errors import UsageError
from harness.evaluation.evaluate import evaluate
from harness.report.style import RETRAINED_STYLE, STYLE, WIDTH, svg
from harness.runner.isolation import choose
from harness.runs.run import Conditions, Limit
from harness.storage import write_bytes, write_json
from harness.submission import read_submission
from harness.tracks.declaration import read_declaration
from harness.tracks.track import Track

PAGE = ROOT / "docs" / "sparsity.md"
SPARSITIES = (0.0, 0.5, 0.8, 0.95, 0.99)
LIMIT_SECONDS = 60.0  # the methods are not compared by time

RATE = {"LEARNING_RATE": "0.05"}  # of all that trains: at the paper's 0.01 nothing is forgotten here

# Method -> constants of prune_then_unlearn.py, whose masks are then those the originals have already.
UNDER_MASKS = {
    "identity": {"UNLEARNER": "finetune", "EPOCHS": "0"},
    "fine-tuning": {"UNLEARNER": "finetune", "EPOCHS": "10", **RATE},
    "l1-sparse": {"UNLEARNER": "l1", "EPOCHS": "10", **RATE},
    "gradient ascent": {"UNLEARNER": "gradient_ascent", "EPOCHS": "0"},
    "Fisher forgetting": {"UNLEARNER": "fisher", "EPOCHS": "0"},
}
# Name -> constants of l1_sparse.py; the first is fine-tuning.
SCHEDULES = {"no penalty": {"GAMMA": "0.0", **RATE}} | {
    f"{schedule}, {gamma}": {"SCHEDULE": schedule, "GAMMA": gamma, **RATE}
    for gamma in ("1e-4", "1e-3")
    for schedule in ("constant", "growing", "decaying")
}
LOOKS = {
    "identity": ("#404040", "D"),
    "fine-tuning": ("#0072B2", "o"),
    "l1-sparse": ("#009E73", "v"),
    "gradient ascent": ("#CC79A7", "^"),
    "Fisher forgetting": ("#E69F00", "P"),
}


@click.command()
@click.option(
    "--runs", default=16, show_default=True, type=click.IntRange(min=2), help="Of every method on every track."
)
def main(runs: int) -> None:
    """Make the study."""
    dense = harness.open_track("digits")
    rows = []
    for sparsity in SPARSITIES:
        track = dense if sparsity == 0 else pruned_track(sparsity, runs)
        for name, constants in UNDER_MASKS.items():
            rows.append(measured("prune_then_unlearn", {"SPARSITY": str(sparsity), **constants}, track, runs))
            rows[-1] |= {"sparsity": sparsity, "method": name}
            click.echo(f"{sparsity:.0%} {name}: disparity {rows[-1]['disparity_average']:.2f}")
    schedules = []
    for name, constants in SCHEDULES.items():
        schedules.append({"method": name, **measured("l1_sparse", constants, dense, runs)})
        click.echo(f"l1 {name}: disparity {schedules[-1]['disparity_average']:.2f}")
    found = {"runs": runs, **scored_with(), "sparsities": rows, "schedules": schedules}
    write_json(ROOT / "benchmarks" / "results" / "sparsity-digits.json", found)
    write_bytes(PAGE.with_suffix(".svg"), svg(figure(rows)))
    TABLE.write()


def pruned_track(sparsity: float, retrained: int) -> Track:
    """Return `digits-sparse95` at another sparsity, with so many retrained models in each pool; prepared if need be."""
    name = f"digits-sparse{round(100 * sparsity)}-{retrained}"
    text = (ROOT / "data_prep" / "tracks" / "digits-sparse95.toml").read_text()
    changes = {
        'name = "digits-sparse95"': f'name = "{name}"',
        "sparsity = 0.95": f"sparsity = {sparsity}",
        "retrained = 64": f"retrained = {retrained}",
        "runs = 64": f"runs = {retrained}",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file = home() / "study" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    tracks = home() / "tracks"
    try:
        return harness.open_track(file)
    except UsageError:
        click.echo(f"preparing {name}")
        return prepare(read_declaration(file), file, tracks, jobs=joblib.cpu_count()).track


def measured(file: str, constants: dict[str, str], track: Track, runs: int) -> dict[str, Any]:
    """Return the metrics of a baseline under some constants, beside those of models retrained under the same masks."""
    submission = read_submission(ROOT / "baselines" / f"{file}.py", source_kb=256, constants=constants)
    limit = Limit(LIMIT_SECONDS, LIMIT_SECONDS, is_overridden=True)
    conditions = Conditions(limit, choose(), jobs=of("cpu").default_jobs(1))
    result = evaluate(submission, track, conditions, runs=runs, home=home()).score_file.to_json()
    assert result["outcome"] == "OK", result["failure"]
    metrics = {name: {**result["full_stack"][name], "n": runs} for name in METRICS}
    return {
        **metrics,
        "disparity_average": result["full_stack"]["disparity_average"],
        # Of the four gaps, taken as independent and not as absolute values: right where gaps are larger than noise.
        "disparity_error": math.hypot(*(metric["gap_standard_error"] for metric in metrics.values())) / len(metrics),
        "calibrated_score": result["calibrated_score"],
        "calibrated_interval": result["calibrated_interval"],
    }


# ---- the page -----------------------------------------------------------------------------------------------------


@rc_context(STYLE)
def figure(rows: list[dict[str, Any]]) -> Figure:
    """Draw the disparity and the four metrics against the originals' sparsity, with standard errors."""
    drawn = Figure((WIDTH, 8.5), layout="constrained")
    *panels, legend = drawn.subplots(3, 2).flatten()
    by_method = {method: [row for row in rows if row["method"] == method] for method in LOOKS}
    for axes, (name, title) in zip(panels, METRICS.items(), strict=False):
        retrained = [(row[name]["retrained_mean"], error(row[name], "retrained_sd")) for row in by_method["identity"]]
        line(axes, retrained, "retrained", RETRAINED_STYLE.colour, RETRAINED_STYLE.marker)
        for method, chosen in by_method.items():
            line(axes, [(row[name]["mean"], error(row[name], "sd")) for row in chosen], method, *LOOKS[method])
        axes.set(title=f"{title}, percent")
    for method, chosen in by_method.items():
        points = [(row["disparity_average"], row["disparity_error"]) for row in chosen]
        line(panels[-1], points, method, *LOOKS[method])
    panels[-1].set(title="disparity average, percentage points")
    panels[-1].set_ylim(0)
    for axes in panels:
        axes.set(xticks=range(len(SPARSITIES)), xticklabels=[f"{sparsity:.0%}" for sparsity in SPARSITIES])
        axes.grid(axis="y")
    for axes in panels[-2:]:
        axes.set_xlabel("sparsity of the originals' convolutions")
    legend.axis("off")
    legend.legend(*panels[0].get_legend_handles_labels(), loc="center")
    return drawn


def error(metric: dict[str, Any], name: str) -> float:
    """Return the standard error of a mean over as many models as there are runs."""
    return float(metric[name]) / math.sqrt(metric["n"])


def line(axes: Axes, points: list[tuple[float, float]], label: str, colour: str, marker: str) -> None:
    """Draw values with their errors against the sparsity, the places being evenly spaced."""
    means, errors = zip(*points, strict=True)
    options: Any = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.2, "capsize": 2, "label": label}
    axes.errorbar(range(len(points)), means, errors, **options)


def tables(found: dict[str, Any]) -> str:
    """Return both tables of the page and the line on how they were made."""
    head = f"| {{}} | {' | '.join(METRICS.values())} | disparity | calibrated score |\n|{' --- |' * 7}"
    lines = []
    for sparsity in SPARSITIES:
        rows = [row for row in found["sparsities"] if row["sparsity"] == sparsity]
        retrained = {name: f"{rows[0][name]['retrained_mean']:.1f}" for name in METRICS}
        lines += ["", f"**{sparsity:.0%} sparse**", "", head.format("method")]
        lines += [f"| retrained | {' | '.join(retrained.values())} | 0 | 1 |", *map(cells, rows)]
    lines += ["", "**Schedules of l1-sparse, dense originals**", "", head.format("schedule, gamma")]
    lines += [cells(row) for row in found["schedules"]]
    where = f"{machine(found)}, device cpu"
    lines += ["", f"N = {found['runs']} runs and as many retrained models; ± is a standard error. {where}."]
    return "\n".join(lines) + "\n"


def cells(row: dict[str, Any]) -> str:
    """Return the row of a table."""
    metrics = " | ".join(f"{row[name]['mean']:.1f} ± {error(row[name], 'sd'):.1f}" for name in METRICS)
    low, high = row["calibrated_interval"]
    score = f"{row['calibrated_score']:.2f} ({low:.2f} to {high:.2f})"
    return f"| {row['method']} | {metrics} | {row['disparity_average']:.2f} ± {row['disparity_error']:.2f} | {score} |"


TABLE = Table(PAGE, "tables", "sparsity.py", lambda: tables(stored("sparsity-digits")))

if __name__ == "__main__":
    main()
