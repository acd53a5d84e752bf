"""Ask why the winning recipes of 2023 gain less here than they did there: is it steps, the share forgotten, or scale?

    python -m benchmarks.causes [share] [scale] [--data FOLDER]

In 2023 there were more steps, a smaller share of the training images to forget, and more images. Each cause is changed
alone, and every recipe and both published forms of fine-tuning are evaluated on either side of the change, at published
settings. Steps: more passes over the sets on `cifar10-small`, which `python -m benchmarks.recipes` has measured. Share
and scale: a track that differs from `cifar10-small` in nothing else, declared in benchmarks/tracks/ and prepared if it
is not there. All runs are stored, so the same command goes on where it was. Writes benchmarks/results/causes.json,
docs/causes.svg and the tables of docs/causes.md.

The criterion was fixed before anything was measured on the two tracks; scores with more passes were known. Compared is
the mean official score of the eight recipes, where one without a score counts as 0, in multiples of fine-tuning's. A
cause favours the recipes if that multiple is greater on the side of 2023, by the whole of its 95 % interval.
"""

import math
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import click
from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.claims import Claim, claims_table
from benchmarks.pages import RESULTS, ROOT, Table, kept_rows, machine, markdown, stored
from benchmarks.preparing import track_for
from benchmarks.published import CHALLENGE, FINE_TUNING
from benchmarks.recipes import BESIDE, PAGE_TRACK, brief, evaluated, factor, name_rows, ratio, reach_of
from benchmarks.verdicts import Interval, above
from harness.accelerator import resolve
from harness.environment import environment
from harness.report.style import STYLE, single, svg
from harness.storage import write_bytes, write_json

__all__ = ["RECIPES", "TABLES", "TRACKS", "Cause", "Side", "causes", "changed", "claims"]

PAGE = ROOT / "docs" / "causes.md"
SMALL = f"recipes-{PAGE_TRACK}"  # the result for cifar10-small
TRACKS = {name: ROOT / "benchmarks" / "tracks" / f"{PAGE_TRACK}-{name}.toml" for name in ("share", "scale")}
RECIPES = [name for name in BESIDE if name != "finetune"]
FORMS = {"published": "of the starting kit", "beside": "of the Kaggle starter"}  # fine-tuning, by how its file is set
DIGITS = 2
LOOKS = (("o", "#0072B2"), ("o", "#56B4E9"), ("s", "#D55E00"), ("D", "#404040"))  # of the sides in the plot

Rows = dict[str, dict[str, Any]]  # by file and by how it is set


class Side(NamedTuple):
    """What was measured on one side of a change."""

    name: str
    rows: Rows
    way: str = "published"  # how the recipes are set


class Cause(NamedTuple):
    """What may be a reason, with the side that is less like 2023 and the one that is more like it."""

    change: str
    before: Side
    after: Side

    @property
    def forms(self) -> dict[str, str]:
        """The forms of fine-tuning that recipes are compared with: one where the change leaves fine-tuning alone."""
        return {"published": "of either form"} if self.before.rows is self.after.rows else FORMS


@click.command()
@click.argument("names", nargs=-1, metavar="[CAUSE ...]", type=click.Choice(list(TRACKS)))
@click.option("--device", default="auto", show_default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has CIFAR-10 already.")
def main(names: tuple[str, ...], device: str, data: Path | None) -> None:
    """Evaluate the recipes on the track of each CAUSE (default: both), and write what follows."""
    small, path, kind = stored(SMALL), RESULTS / "causes.json", resolve(device)
    if missing := [name for name in BESIDE if name not in small["rows"]]:
        raise click.UsageError(f"not measured yet: {', '.join(missing)}; run: python -m benchmarks.recipes")
    now: dict[str, Any] = {"runs": small["runs"], "images": small["images"], **environment(), "device": kind}
    measured = kept_rows(path, now, leave_out=None)
    for name in names or TRACKS:
        track = track_for(TRACKS[name], retrained=small["runs"], data=data)
        rows: Rows = {}
        for file in ("finetune", *RECIPES):
            ways = {"published": {}, "beside": BESIDE[file]} if file == "finetune" else {"published": {}}
            rows[file] = {
                way: evaluated(ROOT / "baselines" / f"{file}.py", track, settings, small["runs"], kind)
                for way, settings in ways.items()
            }
            click.echo(f"{name}: {file:42s} {brief(rows[file]['published'])}")
        measured[name] = {"reference_hash": track.manifest.reference_hash, "files": rows}
        found = {**now, "rows": {name: measured[name] for name in TRACKS if name in measured}}
        write_json(path, found | {"claims": [claim.to_json() for claim in claims(causes(small, found))]})
    write_bytes(PAGE.with_suffix(".svg"), svg(figure(causes(small, stored("causes")))))
    for table in TABLES:
        table.write()


def causes(small: dict[str, Any], found: dict[str, Any]) -> dict[str, Cause]:
    """Return the causes that are measured; small: what was found on cifar10-small, found: on the other tracks."""
    here = Side("`cifar10-small`", small["rows"])
    others = {name: one["files"] for name, one in found["rows"].items()}
    measured = {"steps": Cause("more passes over the sets", here, Side("more passes", small["rows"], "beside"))}
    if "share" in others:
        measured["share"] = Cause("2 % instead of 10 % to forget", here, Side("2 % to forget", others["share"]))
    if "scale" in others:
        measured["scale"] = Cause("8,000 images instead of 4,000", Side("4,000 images", others["scale"]), here)
    return measured


# ---- what is said of it -------------------------------------------------------------------------------------------


def claims(measured: dict[str, Cause]) -> list[Claim]:
    """Return the verdict on each cause, beside each form of fine-tuning."""
    said = []
    for name, cause in measured.items():
        for form, what in cause.forms.items():
            times, before, after = changed(cause, form), multiple(cause.before, form), multiple(cause.after, form)
            found = f"{times.text(DIGITS)} times as much: {after:.{DIGITS}f} after {before:.{DIGITS}f}"
            claim = f"{name}: {cause.change} favour the recipes over fine-tuning {what}"
            said.append(Claim(claim, above(times, 1.0), found))
    return said


def changed(cause: Cause, form: str) -> Interval:
    """Return by which factor a change multiplies the recipes' mean score in multiples of fine-tuning's.

    The scores of one side are against the same retrained models, which moves them together, so the interval is rather
    too wide than too narrow.
    """
    both = (cause.before, cause.after)
    reaches = [reach_of_mean(side) for side in both]
    if cause.forms is FORMS:
        bases = [side.rows["finetune"][form] for side in both]
        reaches += [reach_of(base) / base["score"] for base in bases]
    return factor(multiple(cause.after, form) / multiple(cause.before, form), reaches, len(RECIPES))


def multiple(side: Side, form: str) -> float:
    """Return the recipes' mean score in multiples of that of a form of fine-tuning."""
    return mean(scores(side)) / float(side.rows["finetune"][form]["score"])


def scores(side: Side) -> list[float]:
    """Return the official score of each recipe, 0 for one without."""
    return [side.rows[name][side.way]["score"] or 0.0 for name in RECIPES]


def reach_of_mean(side: Side) -> float:
    """Return half of the 95 % interval of the recipes' mean score, as a share of it."""
    rows = [side.rows[name][side.way] for name in RECIPES]
    return math.hypot(*(reach_of(row) for row in rows if row["score"] is not None)) / sum(scores(side))


# ---- the page -----------------------------------------------------------------------------------------------------


def sides(measured: dict[str, Cause]) -> list[Side]:
    """Return every side once, cifar10-small first."""
    both = [side for cause in measured.values() for side in (cause.before, cause.after)]
    return list({side.name: side for side in both}.values())


def verdicts() -> str:
    """Return the verdict on each cause."""
    return "\n".join([*claims_table(stored("causes")["claims"]), ""])


def table() -> str:
    """Return every score and how many times that of fine-tuning it is, and a line below them."""
    found = stored("causes")
    every = sides(causes(stored(SMALL), found))
    rows = [["retraining", *(end(side, "ceiling") for side in every)]]
    rows.append(["doing nothing", *(end(side, "floor") for side in every)])
    for form, what in FORMS.items():
        rows.append([f"fine-tuning {what}", *(brief(side.rows["finetune"][form]) for side in every)])
    rows += [[f"`{name}`", *(times(side, name, found["runs"]) for side in every)] for name in RECIPES]
    means = (f"{mean(scores(side)):.3f}, {multiple(side, 'published'):.{DIGITS}f}" for side in every)
    rows.append(["mean of the eight", *means])
    note = (
        f"Official scores, and how many times that of the starting kit's fine-tuning they are; in brackets 95 % "
        f"intervals. N = {found['runs']} runs. {found['images']}. {machine(found)}, device {found['device']}."
    )
    return f"{markdown(['file', *(side.name for side in every)], rows)}\n{note}\n"


def end(side: Side, name: str) -> str:
    """Return the floor or the ceiling of the scores of a side."""
    return f"{side.rows['finetune']['published'][name]:.3f}"


def times(side: Side, name: str, n: int) -> str:
    """Return the cell of a recipe."""
    row = side.rows[name][side.way]
    multiples = ratio(row, side.rows["finetune"]["published"], n)
    return brief(row) if multiples is None else f"{brief(row)}, {multiples.text(DIGITS)}"


@rc_context(STYLE)
def figure(measured: dict[str, Cause]) -> Figure:
    """Draw how many times fine-tuning's score each recipe gets, on every side, and what was published."""
    every = sides(measured)
    whole, axes = single(1.4 + 0.55 * len(RECIPES))
    for number, (side, (marker, colour)) in enumerate(zip(every, LOOKS, strict=False)):
        found = [ratio(side.rows[name][side.way], side.rows["finetune"]["published"], 0) for name in RECIPES]
        drawn = [(place, one) for place, one in enumerate(found) if one is not None]
        where = [place + 0.18 * (number - (len(every) - 1) / 2) for place, _ in drawn]
        reach = [[one.mean - one.low for _, one in drawn], [one.high - one.mean for _, one in drawn]]
        axes.errorbar(
            [one.mean for _, one in drawn], where, xerr=reach, fmt=marker, color=colour, label=side.name.strip("`")
        )
    published = [(place, CHALLENGE[name].public) for place, name in enumerate(RECIPES)]
    known = [(place, score / FINE_TUNING) for place, score in published if score is not None]
    look: dict[str, Any] = {"marker": "|", "s": 600, "color": "black", "label": "published"}
    axes.scatter([one for _, one in known], [place for place, _ in known], **look)
    axes.axvline(1, color="#404040", linewidth=1, zorder=0)
    axes.set(xscale="log", xlabel="times the score of fine-tuning (starting kit)")
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axes.minorticks_off()
    name_rows(axes, RECIPES)
    whole.legend(loc="outside upper center", ncols=5)
    return whole


TABLES = (
    Table(PAGE, "verdicts", "causes.py", verdicts),
    Table(PAGE, "scores", "causes.py", table),
)

if __name__ == "__main__":
    main()
