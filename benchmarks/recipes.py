"""Ask of a track whether the eight winning recipes of 2023 beat fine-tuning there, untuned and at one budget of tuning.

    python -m benchmarks.recipes [RECIPE ...]

Every recipe, and fine-tuning, is evaluated at its published settings, at one setting BESIDE, and at the best of
`--trials` settings that `harness tune` finds on another forget set, over RANGES: the same number of constants and of
trials for each. Prepare both tracks first: harness prepare TRACK, harness prepare TRACK --for-tuning. All runs
are stored, so the same command goes on where it was. Writes benchmarks/results/recipes-TRACK.json after every recipe,
and keeps the rows of others while track, images, counts, versions, device and kind of machine stay: so the work may be
cut into several days. If the track is PAGE_TRACK it draws docs/recipes.svg and writes the tables of docs/recipes.md.

A recipe beats fine-tuning if the 95 % interval of the ratio of their official scores is above 1. In 2023 all eight did;
six published ratios of 1.6 to 2.2. This was fixed before the first result. At published settings it is compared with
both published forms of fine-tuning: that of the organizers' starting kit, and that of the Kaggle starter notebook,
which ran where the recipes did.
"""

import math
from pathlib import Path
from typing import Any

import click
from matplotlib import rc_context
from matplotlib.figure import Figure

import harness
from benchmarks.claims import Claim, claims_table
from benchmarks.pages import RESULTS, ROOT, Table, kept_rows, machine, markdown, stored
from benchmarks.published import CHALLENGE, FINE_TUNING
from benchmarks.verdicts import Interval, Verdict, above, all_of
from harness.accelerator import resolve
from harness.environment import environment
from harness.report.style import GREY, STYLE, UNLEARNED_STYLE, single, svg
from harness.storage import write_bytes, write_json
from harness.tracks.track import Track

__all__ = ["BESIDE", "RANGES", "TABLES", "claims"]

PAGE_TRACK = "cifar10-small"
PAGE = ROOT / "docs" / "recipes.md"
DIGITS = 2

# Passes or epochs, the learning rate from a tenth of the published one to a hundred times it (to 1 at most: rates of
# 2023 were for another net), and the constant that says how strongly the recipe forgets.
RANGES = {
    "finetune": {"EPOCHS": "2:12:log", "LEARNING_RATE": "0.01:1:log", "WEIGHT_DECAY": "0.00005:0.005:log"},
    "challenge_1st_contrastive": {
        "EPOCHS": "4:16:log",
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
        "EPOCH_PASSES": "1,2",
        "SELECTIVE_LEARNING_RATE": "0.00002:0.02:log",
        "NOISE_STD": "0.004:0.4:log",
    },
    "challenge_8th_reinit_distill": {
        "EPOCH_PASSES": "1:2",
        "LEARNING_RATE": "0.0001:0.1:log",
        "REINIT_STD": "0.001:0.1:log",
    },
}
# Twice the passes over the retain set, else as published: how a score grows with steps, of which a pass had more in
# 2023. What is over the time limit has no score. Of fine-tuning, the settings of the Kaggle starter notebook.
BESIDE = {name: {"EPOCH_PASSES": "2"} for name in RANGES} | {
    "finetune": {"EPOCHS": "1", "LEARNING_RATE": "0.001"},
    "challenge_1st_contrastive": {"EPOCHS": "16"},
}


@click.command()
@click.argument("names", nargs=-1, metavar="[RECIPE ...]", type=click.Choice(list(RANGES)))
@click.option("--track", "track_name", default=PAGE_TRACK, show_default=True, help="Where they are evaluated.")
@click.option("--trials", default=6, show_default=True, type=click.IntRange(min=2), help="Of each file.")
@click.option("--runs", type=click.IntRange(min=16), help="Of each evaluation.  [default: the track's]")
@click.option("--device", default="auto", show_default=True)
@click.option("--images", default="CIFAR-10", show_default=True, help="What the images are, for the table.")
def main(names: tuple[str, ...], track_name: str, trials: int, runs: int | None, device: str, images: str) -> None:
    """Evaluate, tune, and write what became of each RECIPE (default: those that have no row yet)."""
    track, kind = harness.open_track(track_name), resolve(device)
    now: dict[str, Any] = {
        "track": track.name,
        "reference_hash": track.manifest.reference_hash,
        "images": images,
        "runs": runs or track.usual_runs,
        "trials": trials,
        **environment(),
        "device": kind,
    }
    path = RESULTS / f"recipes-{track.name}.json"
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
    """Return the scores of a file with constants set; without `score` if a run failed or took too long."""
    evaluation = harness.evaluate(file, track=track, constants=settings, runs=runs, device=device)
    result = evaluation.score_file.to_json()
    kept = ("score", "score_interval", "calibrated_score", "calibrated_interval", "retain_ratio", "test_ratio")
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
    if tuning.best_constants is None:
        return {"settings": {}, "outcome": "no trial has a score", "share_of_limit": None, "score": None}
    return evaluated(file, track, tuning.best_constants, runs, device)


def brief(row: dict[str, Any]) -> str:
    """Return a score in a few words."""
    return row["outcome"] if row["score"] is None else f"{row['score']:.3f}"


# How the recipes are set, how fine-tuning is, and what of it.
COMPARED = (
    ("published", "published", "of the starting kit, both at their published settings"),
    ("published", "beside", "of the Kaggle starter, both at their published settings"),
    ("tuned", "tuned", "with one budget of tuning"),
)

# ---- what is said of it -------------------------------------------------------------------------------------------


def ratio(row: dict[str, Any], base: dict[str, Any], n: int) -> Interval | None:
    """Return the ratio of two official scores with its interval; None without both scores, or without a positive one.

    The logarithms' standard errors come from the scores' intervals, taken as independent. Both scores are against the
    same retrained models, which moves them together, so the interval is rather too wide than too narrow.
    """
    if any(one["score"] is None or one["score"] <= 0 or one["score_interval"] is None for one in (row, base)):
        return None
    relative = [(one["score_interval"][1] - one["score_interval"][0]) / 2 / one["score"] for one in (row, base)]
    mean, reach = row["score"] / base["score"], math.hypot(*relative)
    return Interval(mean, mean * math.exp(-reach), mean * math.exp(reach), 0.95, n)


def claims(found: dict[str, Any]) -> list[Claim]:
    """Return the verdict on each claim: it holds if it does for every recipe, and is refuted if it is for one."""
    rows, said = found["rows"], []
    for way, beside, what in COMPARED:
        verdicts = verdicts_of(rows, way, beside, found["runs"])
        if verdicts:
            counts = (f"{verdict} for {verdicts.count(verdict)}" for verdict in Verdict if verdict in verdicts)
            said.append(Claim(f"every recipe beats fine-tuning {what}", all_of(verdicts), ", ".join(counts)))
    return said


def verdicts_of(rows: dict[str, Any], way: str, beside: str, n: int) -> list[Verdict]:
    """Return whether each recipe that can be compared with fine-tuning beats it."""
    base = rows.get("finetune", {}).get(beside)
    others = [row[way] for name, row in rows.items() if base is not None and name != "finetune"]
    return [above(times, 1.0) for row in others if (times := ratio(row, base, n)) is not None]


def verdicts() -> str:
    """Return the verdicts, and a line below them."""
    found = stored(f"recipes-{PAGE_TRACK}")
    return "\n".join([*claims_table(found["claims"]), "", note(found), ""])


def table() -> str:
    """Return a row for every recipe, and a line below them."""
    found = stored(f"recipes-{PAGE_TRACK}")
    head = [
        "file",
        "times fine-tuning, published",
        "score",
        "times the starting kit's",
        "times the Kaggle starter's",
        "with twice the passes",
        "tuned",
        "times fine-tuning, tuned",
        "tuned settings",
    ]
    return f"{markdown(head, (cells(name, found) for name in found['rows']))}\n{note(found)}\n"


def note(found: dict[str, Any]) -> str:
    """Return how the figures were made."""
    return (
        f"N = {found['runs']} runs, {found['trials']} trials of three constants each; in brackets 95 % intervals. "
        f"{found['images']}. {machine(found)}, device {found['device']}."
    )


def cells(name: str, found: dict[str, Any]) -> list[str]:
    """Return the cells of a recipe."""
    row, base, n = found["rows"][name], found["rows"]["finetune"], found["runs"]
    public = FINE_TUNING if name == "finetune" else CHALLENGE[name].public
    settings = ", ".join(f"{constant} {value}" for constant, value in row["tuned"]["settings"].items())
    return [
        f"`{name}`",
        "not published" if public is None else f"{public / FINE_TUNING:.1f}",
        brief(row["published"]),
        compared(row["published"], base["published"], n),
        compared(row["published"], base["beside"], n),
        "" if name == "finetune" else brief(row["beside"]),
        brief(row["tuned"]),
        compared(row["tuned"], base["tuned"], n),
        settings or "published ones",
    ]


def compared(row: dict[str, Any], base: dict[str, Any], n: int) -> str:
    """Return the cell of a score beside that of fine-tuning, with the verdict."""
    times = None if row is base else ratio(row, base, n)
    return "" if times is None else f"{times.text(DIGITS)}, **{above(times, 1.0)}**"


@rc_context(STYLE)
def figure(found: dict[str, Any]) -> Figure:
    """Draw each recipe's score beside that of fine-tuning: as published in 2023, and here, untuned and tuned."""
    rows, n = found["rows"], found["runs"]
    names = [name for name in rows if name != "finetune"]
    whole, axes = single(1.2 + 0.45 * max(len(names), 1))
    for place, name in enumerate(names):
        public = CHALLENGE[name].public
        if public is not None:
            axes.plot(public / FINE_TUNING, place, "x", color="black", label="published in 2023", zorder=3)
        for way, shift, fill in (("published", -0.15, "none"), ("tuned", 0.15, "full")):
            times = ratio(rows[name][way], rows["finetune"][way], n)
            if times is None:
                continue
            reach = [[times.mean - times.low], [times.high - times.mean]]
            look: dict[str, Any] = {
                "marker": UNLEARNED_STYLE.marker,
                "color": UNLEARNED_STYLE.colour,
                "fillstyle": fill,
            }
            what = "here, at published settings" if way == "published" else "here, both tuned"
            axes.errorbar(times.mean, place + shift, xerr=reach, label=what, linewidth=1, **look)
    axes.axvline(1, color=GREY, linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel="official score, times that of fine-tuning", ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(names)), [name.removeprefix("challenge_").replace("_", " ") for name in names])
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    whole.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
    return whole


TABLES = (
    Table(PAGE, "verdicts", "recipes.py", verdicts),
    Table(PAGE, "scores", "recipes.py", table),
)

if __name__ == "__main__":
    main()
