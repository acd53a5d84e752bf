"""Do the baselines of batch removal repeat the published figures? Logistic regression on CIFAR-10, cat against ship.

    python -m benchmarks.cat_and_ship [--data FOLDER] [--images "CIFAR-10"]

Mahadevan and Mathioudakis, "Certifiable Machine Unlearning for Linear Models" (2021), publish the results of their runs
(testc2/unlearning-experiments, data/results/CIFAR/Remove_Dist_binary_selected.csv, of which PUBLISHED is a part). Their
protocol: 10,000 images to learn and 2,000 to test, pixels over 255 and over the largest norm, beside them a constant
feature; plain SGD at rate 1, 500 epochs of batches of 512, weight decay 1e-4. Then 5, 12.5 or 20 % of the training set
leave, all of them cats, those of the largest norm first. Fisher removal and Influence removal, without noise, in one
batch or in batches of an eighth, are compared with a training without those images. Both are the loops of the
baselines' files, with the gradient and the Hessian (3073 x 3073) of logistic regression in place of those of a softmax.
The baselines' last batch is not the published one, which drops retained images where an eighth is not whole.

Seconds are the processor's, on one thread. Finished models are kept in HARNESS_HOME: the command goes on from there.
Writes benchmarks/results/cat-and-ship.json, docs/cat_and_ship.svg and what stands between the marks of
docs/cat_and_ship.md.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.baseline_module import baseline_module
from benchmarks.claims import Claim, claims_table
from benchmarks.kept import kept_in
from benchmarks.pages import RESULTS, ROOT, Table, machine, markdown, stored
from benchmarks.verdicts import Verdict
from data_prep.datasets import load_dataset
from harness.environment import environment, home
from harness.errors import UsageError
from harness.report.style import STYLE, WIDTH, svg
from harness.storage import read_json, write_bytes, write_json

TITLES = ("accuracy on the test set", "accuracy on the forgotten")
PAGE = ROOT / "docs" / "cat_and_ship.md"
CAT, SHIP = 3, 8
RATIOS = (0.05, 0.125, 0.2)
EPOCHS, BATCH_SIZE, LEARNING_RATE, LAMBDA = 500, 512, 1.0, 1e-4
METHODS = {"Fisher": "fisher_removal", "Influence": "influence_removal"}
BATCHES = {"m": 1, "m/8": 8}

# Accuracies on test and forgotten images; how many times as fast as retraining, by the removal times of the same rows.
PUBLISHED: dict[tuple[str, float], tuple[float, float, float]] = {
    ("retrained", 0.05): (0.839, 0.384, 1.0),
    ("retrained", 0.125): (0.804, 0.292, 1.0),
    ("retrained", 0.2): (0.7735, 0.274, 1.0),
    ("Fisher, m", 0.05): (0.8435, 0.406, 5.8),
    ("Fisher, m", 0.125): (0.8175, 0.3536, 5.85),
    ("Fisher, m", 0.2): (0.7935, 0.346, 5.74),
    ("Fisher, m/8", 0.05): (0.8405, 0.396, 1.06),
    ("Fisher, m/8", 0.125): (0.8115, 0.3136, 1.01),
    ("Fisher, m/8", 0.2): (0.7775, 0.282, 1.03),
    ("Influence, m", 0.05): (0.8395, 0.396, 5.87),
    ("Influence, m", 0.125): (0.8145, 0.3352, 5.9),
    ("Influence, m", 0.2): (0.788, 0.323, 5.54),
    ("Influence, m/8", 0.05): (0.8385, 0.39, 1.06),
    ("Influence, m/8", 0.125): (0.8105, 0.3096, 1.04),
    ("Influence, m/8", 0.2): (0.7745, 0.2815, 1.04),
}

# ---- criteria, fixed before any result was looked at ---------------------------------------------------------------

MARGIN = 0.02  # of the test accuracy after retraining
LEAST_CLOSER = 5  # of the 6 pairs of method and ratio
SPEED = {"m": (3.0, 10.0), "m/8": (0.6, 2.0)}  # times as fast as retraining


def claims(cells: list[dict[str, Any]]) -> list[Claim]:
    """Return the verdicts."""
    by = by_method(cells)
    off = [by["retrained", ratio]["test_accuracy"] - PUBLISHED["retrained", ratio][0] for ratio in RATIOS]
    gaps = [
        tuple(
            abs(by[f"{method}, {size}", ratio]["forget_accuracy"] - by["retrained", ratio]["forget_accuracy"])
            for size in BATCHES
        )
        for method in METHODS
        for ratio in RATIOS
    ]
    closer = sum(small < whole for whole, small in gaps)
    said = [
        Claim(
            f"retrained models are as accurate as published, within {MARGIN:.0%}",
            holds(all(abs(one) <= MARGIN for one in off)),
            "; ".join(f"{ratio:.1%} gone: {one:+.2%}" for ratio, one in zip(RATIOS, off, strict=True)),
        ),
        Claim(
            f"on the forgotten images m/8 is nearer to retraining than m in at least {LEAST_CLOSER} of 6 cells",
            holds(closer >= LEAST_CLOSER),
            f"{closer} of {len(gaps)}; " + ", ".join(f"{whole:.2%} and {small:.2%}" for whole, small in gaps),
        ),
    ]
    for size, (low, high) in SPEED.items():
        speeds = [speed(by, f"{method}, {size}", ratio) for method in METHODS for ratio in RATIOS]
        said.append(
            Claim(
                f"m' = {size} is {low:g} to {high:g} times as fast as retraining",
                holds(all(low <= one <= high for one in speeds)),
                f"{min(speeds):.2f} to {max(speeds):.2f}",
            )
        )
    return said


def holds(passed: bool) -> Verdict:
    """Return the verdict of a criterion that knows no interval."""
    return Verdict.HOLDS if passed else Verdict.REFUTED


def by_method(cells: list[dict[str, Any]]) -> dict[tuple[str, float], dict[str, Any]]:
    """Return the cells by method and ratio."""
    return {(one["method"], one["ratio"]): one for one in cells}


def speed(by: dict[tuple[str, float], dict[str, Any]], method: str, ratio: float) -> float:
    """Return how many times as fast as retraining a method is."""
    return float(by["retrained", ratio]["seconds"] / by[method, ratio]["seconds"])


# ---- the study -----------------------------------------------------------------------------------------------------


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has CIFAR-10 already.")
@click.option("--images", default="CIFAR-10", show_default=True, help="What the images are called in the result.")
def main(data: Path | None, images: str) -> None:
    """Make the study."""
    torch.set_num_threads(1)
    try:
        pictures = read_pictures(data, home() / "data")
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    settings = (EPOCHS, BATCH_SIZE, LEARNING_RATE, LAMBDA, "constant feature", images)
    cells = study(pictures, kept_in("cat-and-ship", *settings, files=[f"learners/{file}" for file in METHODS.values()]))
    said = [claim.to_json() for claim in claims(cells)]
    found = {"images": images, "cells": cells, "claims": said, **environment()}
    write_json(RESULTS / "cat-and-ship.json", found)
    write_bytes(PAGE.with_suffix(".svg"), svg(figure(found)))
    for table in TABLES:
        table.write()


@rc_context(STYLE)
def figure(found: dict[str, Any]) -> Figure:
    """Draw our accuracies over the published ones: on the diagonal they are the same."""
    by = by_method(found["cells"])
    whole = Figure((WIDTH, 3.6), layout="constrained")
    keys = ("test_accuracy", "forget_accuracy")
    for place, (axes, key) in enumerate(zip(whole.subplots(1, 2), keys, strict=True)):
        for marker, method in zip("sovD^", dict.fromkeys(method for method, _ in PUBLISHED), strict=True):
            published = [100 * PUBLISHED[method, ratio][place] for ratio in RATIOS]
            ours = [100 * by[method, ratio][key] for ratio in RATIOS]
            axes.plot(published, ours, marker, markersize=5, fillstyle="none", label=None if place else method)
        ends = (min(*axes.get_xlim(), *axes.get_ylim()), max(*axes.get_xlim(), *axes.get_ylim()))
        axes.plot(ends, ends, color="#808080", linewidth=0.8, zorder=0)
        axes.set(title=TITLES[place], xlabel="published, %", ylabel="ours, %", aspect="equal")
    whole.legend(loc="outside right center")
    return whole


def figures(found: dict[str, Any]) -> str:
    """Return our figures, each before the published one."""
    by = by_method(found["cells"])
    rows = []
    for (method, ratio), (test, forget, times) in PUBLISHED.items():
        one = by[method, ratio]
        figures = [f"{one['test_accuracy']:.4f} / {test}", f"{one['forget_accuracy']:.4f} / {forget}"]
        figures += [f"{speed(by, method, ratio):.2f} / {times}", f"{one['seconds']:.1f}"]
        figures += [f"{one['distance']:.2f}", f"{one['residual']:.2f}"]
        rows.append([method, f"{ratio:.1%}", *figures])
    head = ["method", "gone", "test accuracy", "accuracy on the forgotten", "times as fast", "seconds"]
    return f"{markdown([*head, 'distance to retrained', 'gradient left'], rows)}\n{note(found)}"


def verdicts(found: dict[str, Any]) -> str:
    """Return the verdict on each claim."""
    return "\n".join([*claims_table(found["claims"]), "", note(found)])


def note(found: dict[str, Any]) -> str:
    """Return how the figures were made."""
    return f"{found['images']}; N = 1 training of each; seconds of the processor, one thread; {machine(found)}.\n"


TABLES = (
    Table(PAGE, "verdicts", "cat_and_ship.py", lambda: verdicts(stored("cat-and-ship"))),
    Table(PAGE, "figures", "cat_and_ship.py", lambda: figures(stored("cat-and-ship"))),
)

Data = tuple[Tensor, Tensor]  # features (n, 3073) float32, labels (n,): 0 for a cat, 1 for a ship


class Pictures(NamedTuple):
    """The images of both classes."""

    train: Data
    test: Data


def read_pictures(data: Path | None, cache: Path) -> Pictures:
    """Return the two classes of CIFAR-10. Raises UsageError and MachineError as `load_dataset` does."""
    dataset = load_dataset("torchvision:CIFAR10", folder=Path(), cache=cache, copy=data)
    images, labels = dataset.examples.images, dataset.examples.labels
    n_train = len(images) - dataset.n_test
    parts = [(images[:n_train], labels[:n_train]), (images[n_train:], labels[n_train:])]
    return Pictures(*(two_classes(*part) for part in parts))


def two_classes(images: np.ndarray, labels: np.ndarray) -> Data:
    """Return cats and ships as pixels of norm 1 at most, over the images of all classes, and a constant feature."""
    largest = max(float(np.linalg.norm(one.astype(np.float32) / 255)) for one in images)
    chosen = np.isin(labels, (CAT, SHIP))
    pixels = torch.from_numpy(images[chosen]).flatten(1).float() / 255 / largest
    return torch.cat([pixels, torch.ones(len(pixels), 1)], dim=1), torch.from_numpy(labels[chosen] == SHIP).long()


def study(pictures: Pictures, folder: Path) -> list[dict[str, Any]]:
    """Return all cells; models that the folder has are not made again."""
    original = kept(folder / "original.json", train, pictures.train)
    cells = []
    for ratio in RATIOS:
        retain, forget = split(pictures.train, ratio)
        made = {"retrained": kept(folder / f"retrained-{ratio}.json", train, retain)}
        for (name, file), (size, batches) in itertools.product(METHODS.items(), BATCHES.items()):
            removed = logistic(file, batches).removed
            finished = folder / f"{file}-{batches}-{ratio}.json"
            made[f"{name}, {size}"] = kept(finished, removed, original.weights, retain, forget)
        for name, model in made.items():
            cells.append(
                {
                    **{"method": name, "ratio": ratio, "seconds": model.seconds},
                    "test_accuracy": accuracy(model.weights, pictures.test),
                    "forget_accuracy": accuracy(model.weights, forget),
                    "distance": float((model.weights - made["retrained"].weights).norm()),
                    "residual": float(gradient(model.weights, retain).norm()),
                }
            )
    return cells


class Model(NamedTuple):
    """Weights (1, 3073), and the seconds of the processor that they took."""

    weights: Tensor
    seconds: float


def kept(file: Path, make: Callable[..., Tensor], *arguments: object) -> Model:
    """Return the model that a file holds, made first if it is not there."""
    if not file.is_file():
        start = time.process_time()
        weights = make(*arguments)
        write_json(file, {"seconds": time.process_time() - start, "weights": weights.flatten().tolist()})
        click.echo(file.stem)
    found = read_json(file)
    return Model(torch.tensor(found["weights"])[None], found["seconds"])


def split(data: Data, ratio: float) -> tuple[Data, Data]:
    """Return what stays and what leaves: cats, those of the largest norm first."""
    features, labels = data
    order = features.norm(dim=1).argsort(descending=True, stable=True)
    gone = order[labels[order] == 0][: int(ratio * len(labels))]
    stays = torch.ones(len(labels), dtype=torch.bool)
    stays[gone] = False
    return (features[stays], labels[stays]), (features[gone], labels[gone])


# ---- logistic regression -------------------------------------------------------------------------------------------


def train(data: Data) -> Tensor:
    """Return the weights (1, 3073) that plain SGD ends at."""
    features, labels = data
    generator = torch.Generator().manual_seed(0)
    weights: Tensor = torch.randn(1, features.shape[1], generator=generator) / features.shape[1] ** 0.5
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH_SIZE):
            batch = features[rows], labels[rows]
            weights = weights - LEARNING_RATE * gradient(weights, batch) / len(rows)
    return weights


def gradient(weights: Tensor, data: Data) -> Tensor:
    """Return the gradient (1, 3073) of the sum of the losses, and n LAMBDA / 2 |w|^2."""
    features, labels = data
    errors = (features @ weights[0]).sigmoid() - labels
    found: Tensor = (errors @ features + LAMBDA * len(labels) * weights[0])[None]
    return found


def hessian(weights: Tensor, data: Data) -> Tensor:
    """Return the second derivative (3073, 3073) of the same."""
    features, labels = data
    p = (features @ weights[0]).sigmoid()
    total: Tensor = features.T @ ((p * (1 - p))[:, None] * features)
    total += LAMBDA * len(labels) * torch.eye(len(total))
    return total


def logistic(file: str, batches: int) -> Any:
    """Return a baseline with this loss, in so many batches, without noise."""
    method = baseline_module(f"learners/{file}", {"BATCHES": batches, "SIGMA": 0})
    method.gradient, method.hessian = gradient, hessian
    return method


def accuracy(weights: Tensor, data: Data) -> float:
    """Return the share of images on the right side."""
    features, labels = data
    return float(((features @ weights[0] > 0) == (labels == 1)).double().mean())


if __name__ == "__main__":
    main()
