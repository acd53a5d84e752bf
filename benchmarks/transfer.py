"""Is l1-sparse unlearning as good as retraining where harmful classes are removed before a transfer?

    python -m benchmarks.transfer [--data FOLDER] [--images "CIFAR-10"] [--target cat dog] [--remove CLASS ...]

Table 4 of Jia et al., "Model Sparsity Can Simplify Machine Unlearning" (NeurIPS 2023), as a miniature of its claim: a
small network on CIFAR-10 averaged to 16x16 pixels in place of a ResNet-18 on ImageNet, cat against dog in place of pets
and scenes, one to three of eight source classes in place of a hundred to three hundred of a thousand. Which classes are
harmful is found as in Jain et al., "A Data-Based Perspective on Transfer Learning" (2022): by models trained on half of
the classes. Then, for every seed and every number of classes removed, a model is retrained on the rest; l1-sparse and
fine-tuning get half of its steps, from the model of all classes; all are probed. Finished models are kept in
HARNESS_HOME, and the command goes on from there.

Writes benchmarks/results/transfer.json, docs/transfer.svg and the tables between the marks of docs/transfer.md; of
other classes than the page's only a result that has their names.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import nn

from benchmarks.claims import Claim, claims_table
from benchmarks.kept import kept_in
from benchmarks.pages import RESULTS, ROOT, Table, machine, markdown, stored
from benchmarks.source_models import (
    Pictures,
    Protocol,
    draw,
    read_pictures,
    source_accuracy,
    trained,
    unlearned,
    untrained,
    worth,
)
from benchmarks.verdicts import Interval, Verdict, above, all_of, t_interval, within
from harness.environment import environment, home
from harness.errors import UsageError
from harness.report.style import RETRAINED_STYLE, STYLE, WIDTH, svg
from harness.storage import read_json, write_bytes, write_json

PAGE = ROOT / "docs" / "transfer.md"
FIRST_INFLUENCE_SEED = 1000  # the seeds of the comparison count from 0

# ---- criteria, fixed before any result was looked at ---------------------------------------------------------------

REMOVED = (1, 2, 3)
SHARE = 0.5  # of the retraining's steps, that the claim gives to l1-sparse
SHARES = (0.5, 0.25, 0.125, 0.0625)  # of which the least that is still as good is looked for
MARGIN = 1.0  # percentage points of accuracy: within it models are equally good (TOST at 5 %)
LEAST_GAIN = 1.0  # points by which a source beats an untrained net, else the target cannot tell sources apart

# Method -> constants of l1_sparse.py. The first is the published one; docs/sparsity.md is why there is a faster one.
PUBLISHED, FASTER = "l1-sparse", "l1-sparse, faster"
METHODS: dict[str, dict[str, object]] = {
    PUBLISHED: {"GAMMA": 1e-4, "LEARNING_RATE": 0.01},
    "fine-tuning": {"GAMMA": 0.0, "LEARNING_RATE": 0.01},
    FASTER: {"GAMMA": 1e-3, "LEARNING_RATE": 0.05},
    "fine-tuning, faster": {"GAMMA": 0.0, "LEARNING_RATE": 0.05},
}


def claims(found: dict[str, Any]) -> list[Claim]:
    """Return the verdicts; nothing is said of equality where the target cannot tell a source from an untrained net."""
    gain = t_interval(differences(found, ("original", 0, 1), ("untrained", 0, 0)))
    is_valid = above(gain, LEAST_GAIN) == Verdict.HOLDS
    said = [Claim("sources are worth something on the target (validity)", above(gain, LEAST_GAIN), points(gain))]
    for method, settings in {
        PUBLISHED: "published rate and penalty",
        FASTER: "learning rate 0.05, penalty 1e-3",
    }.items():
        intervals = {k: equality(found, method, k, SHARE) for k in REMOVED}
        verdict = all_of(within(interval, MARGIN) for interval in intervals.values())
        said.append(
            Claim(
                f"l1-sparse in half of the time is as accurate as retraining, within {MARGIN:g} point ({settings})",
                verdict if is_valid else Verdict.UNDECIDED,
                "; ".join(f"{k} removed: {points(interval)}" for k, interval in intervals.items()),
            )
        )
    return said


def equality(found: dict[str, Any], method: str, removed: int, share: float) -> Interval:
    """Return the interval of TOST: target accuracy after a method less that after retraining, in points."""
    return t_interval(differences(found, (method, removed, share), ("retrained", removed, 1)), level=0.9)


def least_share(found: dict[str, Any], method: str) -> float | None:
    """Return the least share of the retraining's steps down to which a method is as good for all numbers removed."""
    least = None
    for share in SHARES:
        if any(within(equality(found, method, k, share), MARGIN) != Verdict.HOLDS for k in REMOVED):
            break
        least = share
    return least


# ---- the study -----------------------------------------------------------------------------------------------------


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has CIFAR-10 already.")
@click.option("--images", default="CIFAR-10", show_default=True, help="What the images are called in the page.")
@click.option("--target", nargs=2, default=("cat", "dog"), show_default=True, help="The two classes to tell apart.")
@click.option("--remove", multiple=True, help="Source classes in the order of their removal; by influence if none.")
def main(data: Path | None, images: str, target: tuple[str, str], remove: tuple[str, ...]) -> None:
    """Make the study."""
    torch.set_num_threads(1)
    protocol = Protocol(target=target, removed=remove)
    try:
        pictures = read_pictures(data, home() / "data")
        pictures.sources(protocol)
        if remove and not len(set(remove)) == len(remove) == max(REMOVED):
            raise UsageError(f"name {max(REMOVED)} different classes to remove, or none")
        kept_at = kept_in("transfer", asdict(protocol), METHODS, SHARES, images, files=["l1_sparse"])
        found = {"images": images, **study(pictures, protocol, kept_at), **environment()}
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    found["claims"] = [claim.to_json() for claim in claims(found)]
    write_json(RESULTS / f"{result_name(protocol)}.json", found)
    if protocol == Protocol():
        write_bytes(PAGE.with_suffix(".svg"), svg(figure(found)))
        TABLE.write()


def result_name(protocol: Protocol) -> str:
    """Return the name of the result, which has the classes where they are not those of the page."""
    classes = () if protocol == Protocol() else (*protocol.target, *(f"less-{one}" for one in protocol.removed))
    return "-".join(("transfer", *classes))


def study(pictures: Pictures, protocol: Protocol, folder: Path) -> dict[str, Any]:
    """Return what every model was worth."""
    sources = pictures.sources(protocol)
    influences = []
    if not protocol.removed:
        for number, classes in enumerate(halves(sources, protocol.influence_models)):
            seed = FIRST_INFLUENCE_SEED + number
            make = partial(influence_model, pictures, protocol, classes, seed)
            influences.append(kept(folder / f"influence-{number}.json", make))
    removed = [pictures.class_of(name) for name in protocol.removed] or harmful(influences, sources)[: max(REMOVED)]
    rows = []
    for seed in range(protocol.seeds):
        rows += kept(folder / f"seed-{seed}.json", partial(compared, pictures, protocol, removed, seed))
    return {
        "protocol": asdict(protocol),
        "removed": [pictures.names[one] for one in removed],
        "influences": {pictures.names[one]: influence(influences, one) for one in sources} if influences else None,
        "models": rows,
    }


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds, made first if it is not there."""
    if not file.is_file():
        write_json(file, make())
        click.echo(file.stem)
    return read_json(file)


# ---- which classes are harmful -------------------------------------------------------------------------------------


def halves(sources: Sequence[int], count: int) -> list[list[int]]:
    """Return random halves of the source classes, each followed by the other half, so that all are as often in."""
    generator, found = np.random.default_rng(0), []
    for _ in range(count // 2):
        order = generator.permutation(sources)
        found += [sorted(map(int, order[: len(order) // 2])), sorted(map(int, order[len(order) // 2 :]))]
    return found


def influence_model(pictures: Pictures, protocol: Protocol, classes: Sequence[int], seed: int) -> dict[str, Any]:
    """Return what a model of some source classes is worth."""
    drawn = draw(pictures, protocol, seed)
    net, _ = trained(pictures, protocol, drawn, classes, seed)
    return {"classes": list(classes), **worth(net, pictures, protocol, drawn)._asdict()}


def influence(models: Sequence[dict[str, Any]], label: int) -> float:
    """Return a class's influence: the margin on the target with the class in the source less that without it."""
    with_it, without = ([one["margin"] for one in models if (label in one["classes"]) == is_in] for is_in in (1, 0))
    return float(np.mean(with_it) - np.mean(without))


def harmful(models: Sequence[dict[str, Any]], sources: Sequence[int]) -> list[int]:
    """Return the source classes, the most harmful first."""
    return sorted(sources, key=lambda label: influence(models, label))


# ---- the comparison ------------------------------------------------------------------------------------------------


def compared(pictures: Pictures, protocol: Protocol, removed: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """Return a row for every model of a seed: target and source accuracies, seconds, steps."""
    drawn = draw(pictures, protocol, seed)
    sources = sorted(drawn.source)

    def row(method: str, count: int, share: float, net: nn.Module, cost: dict[str, float]) -> dict[str, Any]:
        gone = list(removed[:count])
        return {
            **{"seed": seed, "method": method, "removed": count, "share": share, **cost},
            "accuracy": worth(net, pictures, protocol, drawn).accuracy,
            "on_removed": source_accuracy(net, pictures, drawn, gone),
            "on_rest": source_accuracy(net, pictures, drawn, [one for one in sources if one not in gone]),
        }

    original, cost = trained(pictures, protocol, drawn, sources, seed)
    rows = [row("untrained", 0, 0, untrained(protocol, drawn, seed), {}), row("original", 0, 1, original, cost)]
    for count in REMOVED:
        rest = [one for one in sources if one not in removed[:count]]
        retrained, cost = trained(pictures, protocol, drawn, rest, seed)
        rows += [row("unchanged", count, 0, original, {}), row("retrained", count, 1, retrained, cost)]
        for method, share in [(method, SHARE) for method in METHODS] + [(PUBLISHED, share) for share in SHARES[1:]]:
            epochs = round(share * protocol.epochs)
            options: Any = {"constants": METHODS[method], "epochs": epochs, "seed": seed}
            rows.append(row(method, count, share, *unlearned(original, pictures, protocol, drawn, rest, **options)))
    return rows


Cell = tuple[str, int, float]  # method, classes removed, share of the retraining's steps


def values(found: dict[str, Any], cell: Cell, name: str = "accuracy") -> list[float]:
    """Return one figure of all models of a cell, seed by seed."""
    rows = [one for one in found["models"] if (one["method"], one["removed"], one["share"]) == cell]
    return [one[name] for one in sorted(rows, key=lambda one: one["seed"])]


def differences(found: dict[str, Any], ours: Cell, theirs: Cell) -> list[float]:
    """Return how much more accurate the one's models are on the target, within seeds, in points."""
    pairs = zip(values(found, ours), values(found, theirs), strict=True)
    return [one - other for one, other in pairs]


# ---- the page ------------------------------------------------------------------------------------------------------

LOOKS = {
    "retrained": (RETRAINED_STYLE.colour, RETRAINED_STYLE.marker),
    "unchanged": ("#404040", "D"),
    PUBLISHED: ("#009E73", "v"),
    FASTER: ("#56B4E9", "^"),
    "fine-tuning": ("#0072B2", "o"),
    "fine-tuning, faster": ("#CC79A7", "P"),
}


@rc_context(STYLE)
def figure(found: dict[str, Any]) -> Figure:
    """Draw equality against the share of the steps, target accuracy, and what is left of the removed classes."""
    drawn = Figure((WIDTH, 6.4), layout="constrained")
    (equal, forgotten), (accuracy, legend) = drawn.subplots(2, 2)
    for place, k in enumerate(REMOVED):
        intervals = [equality(found, PUBLISHED, k, share) for share in SHARES]
        intervals.append(t_interval(differences(found, ("unchanged", k, 0), ("retrained", k, 1)), level=0.9))
        means, reach = [one.mean for one in intervals], [one.high - one.mean for one in intervals]
        where = np.arange(len(intervals)) + 0.12 * (place - 1)
        equal.errorbar(where, means, reach, fmt="ovs"[place], color=("#56B4E9", "#0072B2", "#404040")[place], capsize=2)
        equal.annotate(f"{k}", (where[0], intervals[0].high), (0, 3), textcoords="offset points", ha="center")
    equal.axhspan(-MARGIN, MARGIN, color="#E4E4E4", zorder=0)
    equal.set(xticks=range(len(SHARES) + 1), xticklabels=[*(f"{share:.3g}" for share in SHARES), "0"])
    equal.set(
        title="l1-sparse less retraining, points; 1 to 3 classes removed", xlabel="share of the retraining's steps"
    )
    for panel, name, title in (
        (forgotten, "on_removed", "source accuracy on removed classes, percent"),
        (accuracy, "accuracy", "target accuracy, percent"),
    ):
        for place, (method, (colour, marker)) in enumerate(LOOKS.items()):
            share = {"retrained": 1, "unchanged": 0}.get(method, SHARE)
            intervals = [t_interval(values(found, (method, k, share), name)) for k in REMOVED]
            means, reach = [one.mean for one in intervals], [one.high - one.mean for one in intervals]
            where = np.array(REMOVED) + 0.07 * (place - 2.5)
            panel.errorbar(where, means, reach, color=colour, marker=marker, capsize=2, linewidth=0.8, label=method)
        panel.set(title=title, xlabel="classes removed", xticks=REMOVED)
    legend.axis("off")
    legend.legend(*accuracy.get_legend_handles_labels(), loc="center")
    return drawn


def tables(found: dict[str, Any]) -> str:
    """Return the claims, the accuracies and the influences."""
    lines = [*claims_table(found["claims"]), "", *accuracies(found), ""]
    least = least_share(found, PUBLISHED)
    lines.append(
        f"The least share of the retraining's steps at which l1-sparse is still as accurate: "
        f"{'none of those tried' if least is None else f'{least:g}'}."
    )
    if found["influences"]:
        said = ", ".join(
            f"{name} {value:+.3f}" for name, value in sorted(found["influences"].items(), key=lambda x: x[1])
        )
        lines += ["", f"Influences on the margin of the target, the most harmful class first: {said}."]
    sizes = found["protocol"]
    note = f"{found['images']}, averaged to 16x16; target {' against '.join(sizes['target'])}; "
    note += f"removed in this order: {', '.join(found['removed'])}. N = {sizes['seeds']} seeds; in brackets 95 % "
    note += f"intervals, of what is less retraining 90 % (TOST). Seconds of the processor. {machine(found)}."
    return "\n".join([*lines, "", note]) + "\n"


def accuracies(found: dict[str, Any]) -> list[str]:
    """Return the lines of the table of models."""
    head = ["removed", "model", "share of steps", "seconds", "target accuracy", "less retraining", "less all classes"]
    lines = []
    cells = sorted({(one["method"], one["removed"], one["share"]) for one in found["models"]}, key=place)
    for method, k, share in cells:
        cell: Cell = (method, k, share)
        of_source = [f"{np.mean(values(found, cell, 'on_rest')):.1f}"]
        of_source.insert(0, f"{np.mean(values(found, cell, 'on_removed')):.1f}" if k else "")
        costs = [one for one in found["models"] if (one["method"], one["removed"], one["share"]) == cell]
        seconds = f"{np.mean([one['seconds'] for one in costs]):.1f}" if "seconds" in costs[0] else ""
        beside = t_interval(differences(found, cell, ("retrained", k, 1)), level=0.9) if k else None
        gained = t_interval(differences(found, cell, ("original", 0, 1)))
        row = [f"{k}", method, f"{share:g}", seconds, t_interval(values(found, cell)).text(1)]
        row += [points(beside) if beside and method != "retrained" else ""]
        row += [points(gained) if method not in ("original", "unchanged") else ""]
        lines.append([*row, *of_source])
    return markdown([*head, "on removed classes", "on the rest"], lines).splitlines()


def place(cell: Cell) -> tuple[int, int, float]:
    """Return where a cell stands in the table."""
    order = ["untrained", "original", "retrained", *METHODS, "unchanged"]
    return cell[1], order.index(cell[0]), -cell[2]


def points(interval: Interval) -> str:
    """Return a difference in points."""
    return f"{interval.mean:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def made() -> str:
    """Return the tables of the stored result, or that there is none yet."""
    is_there = (RESULTS / "transfer.json").is_file()
    return tables(stored("transfer")) if is_there else "The study has not been made yet.\n"


TABLE = Table(PAGE, "tables", "transfer.py", made)

if __name__ == "__main__":
    main()
