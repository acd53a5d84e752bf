"""Ask of a track whether the eight winning recipes of 2023 beat fine-tuning there, untuned and at one budget of tuning.

    python -m benchmarks.recipes [RECIPE ...] [--data FOLDER]

Every recipe, and fine-tuning, is evaluated at its published settings, at one setting BESIDE, and at the best of
`--trials` settings that `harness tune` tries on another forget set, by the official score there, over RANGES: the same
number of constants and of trials for each. Both tracks are prepared if they are not there. All runs are stored, so the
same command goes on where it was. Writes benchmarks/results/recipes-TRACK.json after every recipe, and keeps the rows
of others while tracks, images, counts, versions, device and kind of machine stay: so the work may be cut into several
days. If the track is PAGE_TRACK it draws docs/recipes.svg and writes the tables of docs/recipes.md.

A recipe beats fine-tuning if the ratio of their official scores is above 1: in the table by its 95 % interval, in the
verdicts by Holm's method over the eight. In 2023 all did; six published ratios of 1.6 to 2.2. The interval was
fixed before the first result; Holm's method and the second form of fine-tuning were added when the recipes had been
measured at published settings, and before any was tuned. Fine-tuning was published in two forms: that of the
organizers' starting kit, and that of the Kaggle starter notebook, which ran where the recipes did.
"""

import math
import operator
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import click
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import harness
from benchmarks.claims import Claim, claims_table
from benchmarks.pages import RESULTS, ROOT, Table, kept_rows, machine, markdown, stored
from benchmarks.preparing import track_for, tuning_track_for
from benchmarks.published import CHALLENGE, FINE_TUNING
from benchmarks.verdicts import Interval, Verdict, above, all_of, holm
from harness.accelerator import resolve
from harness.environment import environment
from harness.errors import MachineError
from harness.report.style import ORIGINAL_STYLE, RETRAINED_STYLE, STYLE, UNLEARNED_STYLE, single, svg
from harness.runner.outcome import Outcome
from harness.storage import write_bytes, write_json
from harness.tracks.track import Track
from harness.tracks.tuning_track import runs_of_a_trial

__all__ = ["BESIDE", "RANGES", "TABLES", "claims"]

PAGE_TRACK = "cifar10-small"
PAGE = ROOT / "docs" / "recipes.md"
RETRAINED, RETRAINED_FOR_TUNING = 16, 8  # models in each pool, where the tracks have to be prepared
DIGITS = 2
ALPHA = 0.05

# Passes or epochs, the learning rate from a tenth of the published one to a hundred times it (to 1 at most: rates of
# 2023 were for another net), and the constant that says how strongly the recipe forgets.
RANGES = {
    "finetune": {"EPOCHS": "2:12:log", "LEARNING_RATE": "0.01:1:log", "WEIGHT_DECAY": "0.00005:0.005:log"},
    "challenge_1st_contrastive": {
        "EPOCHS": "4:13:log",
        "RETAIN_LEARNING_RATE": "0.0004:0.4:log",
        "FORGET_LEARNING_RATE": "0.00003:0.03:log",
    },
    "challenge_2nd_gradient_reinit": {
        "EPOCH_PASSES": "1:2",
        "LEARNING_RATE": "0.0001:0.1:log",
        "REINIT_FRACTION": "0.03:0.9:log",
    },
    "challenge_3rd_stem_noise": {
        "EPOCH_PASSES": "1:3",
        "LEARNING_RATE": "0.00007:0.07:log",
        "NOISE_STD": "0.06:6:log",
    },
    "challenge_4th_prune_entropy": {
        "EPOCH_PASSES": "1:3",
        "LEARNING_RATE": "0.00005:0.05:log",
        "PRUNED_FRACTION": "0.3:0.99",
    },
    "challenge_5th_transpose_or_pseudo_labels": {
        "EPOCH_PASSES": "1:2",
        "LEARNING_RATE": "0.0001:0.1:log",
        "TRANSPOSED_SHARE": "0:1",
    },
    "challenge_6th_reset_distill": {
        "EPOCH_PASSES": "1:2",
        "LEARNING_RATE": "0.0001:0.1:log",
        "WARMUP_LEARNING_RATE": "0.00009:0.09:log",
    },
    "challenge_7th_noise_injection": {
        "EPOCH_PASSES": "1,1.25,1.5",
        "SELECTIVE_LEARNING_RATE": "0.00002:0.02:log",
        "NOISE_STD": "0.004:0.4:log",
    },
    "challenge_8th_reinit_distill": {
        "EPOCH_PASSES": "1:2",
        "LEARNING_RATE": "0.0001:0.1:log",
        "REINIT_STD": "0.001:0.1:log",
    },
}
# Twice the passes over the sets, or as many as the limit has room for: how a score grows with steps, of which a pass
# had more in 2023. Of fine-tuning, the settings of the Kaggle starter notebook.
BESIDE = {name: {"EPOCH_PASSES": "2"} for name in RANGES} | {
    "finetune": {"EPOCHS": "1", "LEARNING_RATE": "0.001"},
    "challenge_1st_contrastive": {"EPOCHS": "12"},
    "challenge_7th_noise_injection": {"EPOCH_PASSES": "1.5"},
}


@click.command()
@click.argument("names", nargs=-1, metavar="[RECIPE ...]", type=click.Choice(list(RANGES)))
@click.option("--track", "track_name", default=PAGE_TRACK, show_default=True, help="Where they are evaluated.")
@click.option("--trials", default=6, show_default=True, type=click.IntRange(min=2), help="Of each file.")
@click.option("--runs", type=click.IntRange(min=16), help="Of each evaluation.  [default: the track's]")
@click.option("--device", default="auto", show_default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has the images already.")
@click.option("--images", default="", help="What the images are, if others than the track's source has.")
def main(
    names: tuple[str, ...],
    track_name: str,
    trials: int,
    runs: int | None,
    device: str,
    data: Path | None,
    images: str,
) -> None:
    """Evaluate, tune, and write what became of each RECIPE (default: those that have no row yet)."""
    track, kind = track_for(track_name, retrained=RETRAINED, data=data), resolve(device)
    tuning_track = tuning_track_for(track, retrained=RETRAINED_FOR_TUNING)
    path = RESULTS / f"recipes-{track.name}.json"
    images = images or (stored(path.stem)["images"] if path.is_file() else track.declaration.data.source)
    now: dict[str, Any] = {
        "track": track.name,
        "reference_hash": track.manifest.reference_hash,
        "images": images,
        "runs": runs or track.usual_runs,
        "trials": trials,
        "runs_of_a_trial": runs_of_a_trial(tuning_track),
        "tuning_reference_hash": tuning_track.manifest.reference_hash,
        **environment(),
        "device": kind,
    }
    rows: dict[str, dict[str, Any]] = kept_rows(path, now, leave_out="RECIPE" if names else None)
    for name in names or [name for name in RANGES if name not in rows]:
        file = ROOT / "baselines" / f"{name}.py"
        rows[name] = {
            "published": evaluated(file, track, {}, runs, kind),
            "beside": evaluated(file, track, BESIDE[name], runs, kind),
            "tuned": tuned(file, track, RANGES[name], trials, runs, kind),
        }
        click.echo(f"{name:42s} {brief(rows[name]['published'])}, tuned {brief(rows[name]['tuned'])}")
        found = {**now, "rows": {name: rows[name] for name in RANGES if name in rows}}
        write_json(path, found | {"claims": [claim.to_json() for claim in claims(found)]})
    if track.name == PAGE_TRACK and "finetune" in rows:
        write_bytes(PAGE.with_suffix(".svg"), svg(figure(stored(f"recipes-{PAGE_TRACK}"))))
        for each in TABLES:
            each.write()


def evaluated(file: Path, track: Track, settings: dict[str, str], runs: int | None, device: str) -> dict[str, Any]:
    """Return the scores of a file with constants set; without `score` if a run failed or took too long.

    Raises MachineError if the harness failed: what was done is stored.
    """
    evaluation = harness.evaluate(file, track=track, constants=settings, runs=runs, device=device)
    if evaluation.outcome == Outcome.HARNESS_ERROR:
        raise MachineError(f"a run of {file.name} failed for no fault of its own; run the command again")
    result = evaluation.score_file.to_json()
    kept = ["score", "score_interval", "calibrated_score", "calibrated_interval", "retain_ratio", "test_ratio"]
    kept += ["floor", "ceiling"]
    is_scored = result["score"] is not None and evaluation.share_of_limit <= 1
    return {
        "settings": settings,
        "outcome": "over the limit" if result["score"] is not None and not is_scored else result["outcome"],
        "share_of_limit": result["share_of_limit"],
        **{name: result[name] if is_scored else None for name in kept},
    }


def tuned(
    file: Path, track: Track, ranges: dict[str, str], trials: int, runs: int | None, device: str
) -> dict[str, Any]:
    """Return the scores of a file at the best settings of a budget of trials."""
    tuning = harness.tune(file, track=track, ranges=ranges, trials=trials, device=device)
    scored = [(trial.score, trial.settings) for trial in tuning.trials if trial.score is not None]
    if not scored:
        return {"settings": None, "outcome": "no trial has a score", "share_of_limit": None, "score": None}
    best = max(scored, key=operator.itemgetter(0))[1]
    return evaluated(file, track, best, runs, device)


def brief(row: dict[str, Any]) -> str:
    """Return a score in a few words, or why there is none."""
    if row["score"] is not None:
        return f"{row['score']:.3f}"
    return "withheld" if row["outcome"] == Outcome.OK else str(row["outcome"])


# How the recipes are set, how fine-tuning is, and what of it.
COMPARED = (
    ("published", "published", "of the starting kit, both at their published settings"),
    ("published", "beside", "of the Kaggle starter, both at their published settings"),
    ("tuned", "tuned", "with one budget of tuning"),
)

# ---- what is said of it -------------------------------------------------------------------------------------------


def ratio(row: dict[str, Any], base: dict[str, Any], n: int) -> Interval | None:
    """Return the ratio of two official scores with its interval; None without both scores, or without a positive one.

    Both scores are against the same retrained models, which moves them together, so the interval is rather too wide
    than too narrow.
    """
    if any(one["score"] is None or one["score"] <= 0 or one["score_interval"] is None for one in (row, base)):
        return None
    return factor(row["score"] / base["score"], [reach_of(one) / one["score"] for one in (row, base)], n)


def reach_of(row: dict[str, Any]) -> float:
    """Return half of the 95 % interval of an official score."""
    low, high = row["score_interval"]
    return float(high - low) / 2


def factor(mean: float, reaches: Sequence[float], n: int) -> Interval:
    """Return a product of values and of inverses of some with its 95 % interval.

    reaches: of each of these values half of its interval, as a share of it; the values are taken as independent, and
    their logarithms as normal.
    """
    reach = math.hypot(*reaches)
    return Interval(mean, mean * math.exp(-reach), mean * math.exp(reach), 0.95, n)


def claims(found: dict[str, Any]) -> list[Claim]:
    """Return the verdict on each claim: it holds if it does for all eight, and is refuted if it is for one.

    Where fine-tuning has no score above 0 nothing is claimed.
    """
    rows, said = found["rows"], []
    for way, beside, what in COMPARED:
        base = rows.get("finetune", {}).get(beside)
        if base is None or not base["score"]:
            continue
        recipes = [row[way] for name, row in rows.items() if name != "finetune"]
        verdicts = verdicts_of(recipes, base, found["runs"])
        counts = [f"{verdict} for {verdicts.count(verdict)}" for verdict in Verdict if verdict in verdicts]
        if missing := len(RANGES) - 1 - len(recipes):
            verdicts.append(Verdict.UNDECIDED)
            counts.append(f"{missing} not measured yet")
        if failed := sum(row["score"] is None for row in recipes):
            counts.append(f"{failed} of those without a score")
        said.append(Claim(f"every recipe beats fine-tuning {what}", all_of(verdicts), ", ".join(counts)))
    return said


def verdicts_of(recipes: Sequence[dict[str, Any]], base: dict[str, Any], n: int) -> list[Verdict]:
    """Return whether each recipe beats fine-tuning, by Holm's method over those with a score; the others do not."""
    times = [ratio(row, base, n) for row in recipes]
    p_values = iter(holm([p_of_ratio(one) for one in times if one is not None]))
    return [Verdict.REFUTED if one is None else significant(one, next(p_values)) for one in times]


def significant(times: Interval, p_value: float) -> Verdict:
    """Return whether a ratio is above 1, by its adjusted p."""
    if p_value >= ALPHA:
        return Verdict.UNDECIDED
    return Verdict.HOLDS if times.mean > 1 else Verdict.REFUTED


def p_of_ratio(times: Interval) -> float:
    """Return the two-sided p that a ratio is 1, whose logarithm is taken as normal."""
    error = math.log(times.high / times.mean) / NormalDist().inv_cdf((1 + times.level) / 2)
    return 2 * NormalDist().cdf(-abs(math.log(times.mean)) / error)


def verdicts() -> str:
    """Return the verdicts."""
    return "\n".join([*claims_table(stored(f"recipes-{PAGE_TRACK}")["claims"]), ""])


def table() -> str:
    """Return a row for every recipe, and a line below them."""
    found = stored(f"recipes-{PAGE_TRACK}")
    head = [
        "file",
        "times fine-tuning, published",
        "score",
        "times the starting kit's",
        "times the Kaggle starter's",
        "with more passes",
        "tuned",
        "times fine-tuning, tuned",
        "tuned settings",
    ]
    return f"{markdown(head, (cells(name, found) for name in found['rows']))}\n{note(found)}\n"


def note(found: dict[str, Any]) -> str:
    """Return how the figures were made."""
    return (
        f"N = {found['runs']} runs; {found['trials']} trials of {found['runs_of_a_trial']} runs, over three constants "
        f"of each file; in brackets 95 % intervals, and whether the ratio is above 1. {found['images']}. "
        f"{machine(found)}, device {found['device']}."
    )


def cells(name: str, found: dict[str, Any]) -> list[str]:
    """Return the cells of a recipe."""
    row, base, n = found["rows"][name], found["rows"]["finetune"], found["runs"]
    public = FINE_TUNING if name == "finetune" else CHALLENGE[name].public
    settings = ", ".join(f"{constant} {value}" for constant, value in (row["tuned"]["settings"] or {}).items())
    return [
        f"`{name}`",
        "not published" if public is None else f"{public / FINE_TUNING:.1f}",
        brief(row["published"]),
        compared(row["published"], base["published"], n),
        compared(row["published"], base["beside"], n),
        "" if name == "finetune" else brief(row["beside"]),
        brief(row["tuned"]),
        compared(row["tuned"], base["tuned"], n),
        settings or ("none" if row["tuned"]["score"] is None else "published ones"),
    ]


def compared(row: dict[str, Any], base: dict[str, Any], n: int) -> str:
    """Return the cell of a score beside that of fine-tuning, with the verdict."""
    times = None if row is base else ratio(row, base, n)
    return "" if times is None else f"{times.text(DIGITS)}, **{above(times, 1.0)}**"


@rc_context(STYLE)
def figure(found: dict[str, Any]) -> Figure:
    """Draw each file's official score at published settings and tuned, between doing nothing and retraining."""
    rows = found["rows"]
    whole, axes = single(1.4 + 0.45 * len(rows))
    for way, shift, fill in (("published", -0.15, "none"), ("tuned", 0.15, "full")):
        scored = [(place + shift, row[way]) for place, row in enumerate(rows.values()) if row[way]["score"] is not None]
        scores = np.array([row["score"] for _, row in scored])
        ends = np.array([row["score_interval"] for _, row in scored]).reshape(-1, 2).T
        look: dict[str, Any] = {"fmt": UNLEARNED_STYLE.marker, "color": UNLEARNED_STYLE.colour, "fillstyle": fill}
        what = "at published settings" if way == "published" else "tuned"
        axes.errorbar(scores, [place for place, _ in scored], xerr=np.abs(ends - scores), label=what, **look)
    for name, what, models in (("floor", "doing nothing", ORIGINAL_STYLE), ("ceiling", "retraining", RETRAINED_STYLE)):
        axes.axvline(rows["finetune"]["published"][name], color=models.colour, linewidth=1, zorder=0, label=what)
    axes.set(xlabel="official score")
    axes.set_xlim(left=0)
    name_rows(axes, list(rows))
    whole.legend(loc="outside upper center", ncols=4)
    return whole


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Give each file a row of its own, the first one at the top."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [name.removeprefix("challenge_").replace("_", " ") for name in names])


TABLES = (
    Table(PAGE, "verdicts", "recipes.py", verdicts),
    Table(PAGE, "scores", "recipes.py", table),
)

if __name__ == "__main__":
    main()
