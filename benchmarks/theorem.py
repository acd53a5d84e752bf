"""Does the unlearning error fall with sparsity as the theorem says? Computed on the digits, where retraining is exact.

    python -m benchmarks.theorem

The theorem of Jia et al., "Model Sparsity Can Simplify Machine Unlearning" (NeurIPS 2023), after Thudi et al.,
"Unrolling SGD" (2022): weights w are trained by t steps of SGD at rate eta under a mask m. To unlearn an example, add
what it has contributed back, its gradient taken at the first weights alone. How far this ends from weights trained
without the example, e(m), is O(eta^2 t |m . (w_t - w_0)| sigma(m)): the displacement of the weights, and the largest
singular value of the loss's Hessian, where nothing is pruned. With the displacement as it is, which has one eta in it
already, the derivation gives eta, not eta^2; both forms are computed.

A net of 64, 32 and 10 units with tanh learns 800 digits by plain SGD in float64. Retraining leaves out an example's
term and nothing else: the same first weights, batches and divisor. Masks prune the smallest weights of a dense
training, biases stay, and training begins again at the first weights (OMP). Takes a minute.

Writes benchmarks/results/theorem.json, docs/theorem.svg and the tables between the marks of docs/theorem.md.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.stats import pearsonr, spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import grad, vmap

from benchmarks.claims import Claim, claims_table
from benchmarks.pages import RESULTS, ROOT, Table, machine, markdown, stored
from benchmarks.verdicts import Verdict, all_of
from harness.environment import environment
from harness.report.style import STYLE, WIDTH, svg
from harness.storage import write_bytes, write_json

PAGE = ROOT / "docs" / "theorem.md"

UNITS = (64, 32, 10)
IMAGES, BATCH, STEPS = 800, 20, 80
RATES = (0.2, 0.05)
SPARSITIES = (0.0, 0.5, 0.75, 0.9, 0.95)
POINTS, INITIALISATIONS = 20, 3
TRACED = range(8, STEPS + 1, 8)  # steps at which one run is looked at

# ---- criteria, fixed before any result was looked at ---------------------------------------------------------------

RANK_CORRELATION = 0.9  # of bound and error over cells, at least
DRAWS = 10_000  # of the bootstrap, over initialisations and then over the examples of each


def claims(found: dict[str, Any]) -> list[Claim]:
    """Return the verdicts. A cell is a learning rate, a sparsity and an initialisation."""
    cells = found["cells"]
    ratios = {rate: error_ratio(cells, rate) for rate in RATES}
    falls = all_of(
        Verdict.HOLDS if high < 1 else Verdict.REFUTED if low > 1 else Verdict.UNDECIDED
        for _, low, high in ratios.values()
    )
    correlation = spearman(cells, "bound")
    return [
        bounded(cells, "bound", "the error is at most eta / 2 (t - 1) displacement sigma"),
        bounded(cells, "printed_bound", "the printed form with eta^2 holds as well"),
        Claim(
            "the error falls with sparsity: at 95 % it is below that of the dense net",
            falls,
            "; ".join(
                f"eta {rate}: {one:.2f} times ({low:.2f} to {high:.2f})" for rate, (one, low, high) in ratios.items()
            ),
        ),
        Claim(
            f"bound and error rank the cells alike (Spearman at least {RANK_CORRELATION})",
            Verdict.HOLDS if correlation >= RANK_CORRELATION else Verdict.REFUTED,
            f"{correlation:.2f} over {len(cells)} cells; "
            + ", ".join(f"{spearman(of_rate(cells, rate), 'bound'):.2f} at eta {rate}" for rate in RATES),
        ),
    ]


def bounded(cells: Sequence[dict[str, Any]], bound: str, claim: str) -> Claim:
    """Return the verdict on a bound: it has to hold for every example of every cell."""
    loose = [one[bound] / max(one["errors"]) for one in cells]
    n_held = sum(ratio >= 1 for ratio in loose)
    verdict = Verdict.HOLDS if n_held == len(cells) else Verdict.REFUTED
    return Claim(
        claim, verdict, f"in {n_held} of {len(cells)} cells, {min(loose):.0f} to {max(loose):.0f} times the largest"
    )


def error_ratio(cells: Sequence[dict[str, Any]], rate: float, *, relative: bool = False) -> tuple[float, float, float]:
    """Return the geometric mean of e(.95) / e(0) over examples and initialisations, and its bootstrap interval (95 %).

    relative: of errors over the displacement.
    """
    logs = {
        sparsity: np.log(
            [
                np.array(one["errors"]) / (one["displacement"] if relative else 1)
                for one in of_rate(cells, rate)
                if one["sparsity"] == sparsity
            ]
        )
        for sparsity in (SPARSITIES[0], SPARSITIES[-1])
    }
    pairs = logs[SPARSITIES[-1]] - logs[SPARSITIES[0]]  # (initialisations, examples)
    generator = np.random.default_rng(0)
    n, points = pairs.shape
    rows = generator.integers(n, size=(DRAWS, n, 1))
    means = pairs[rows, generator.integers(points, size=(DRAWS, n, points))].mean(axis=(1, 2))
    low, high = np.exp(np.quantile(means, [0.025, 0.975]))
    return float(np.exp(pairs.mean())), float(low), float(high)


def spearman(cells: Sequence[dict[str, Any]], name: str) -> float:
    """Return the rank correlation of a figure of the cells and their mean error."""
    return float(spearmanr([one[name] for one in cells], [np.mean(one["errors"]) for one in cells]).statistic)


def of_rate(cells: Sequence[dict[str, Any]], rate: float) -> list[dict[str, Any]]:
    """Return the cells of a learning rate."""
    return [one for one in cells if one["rate"] == rate]


# ---- the study -----------------------------------------------------------------------------------------------------


@click.command()
def main() -> None:
    """Make the study."""
    torch.set_num_threads(1)
    found = {**study(INITIALISATIONS, POINTS), **environment()}
    found["claims"] = [claim.to_json() for claim in claims(found)]
    write_json(RESULTS / "theorem.json", found)
    write_bytes(PAGE.with_suffix(".svg"), svg(figure(found)))
    TABLE.write()


def study(initialisations: int, points: int) -> dict[str, Any]:
    """Return every cell and every trace."""
    pairs = [(rate, seed) for rate in RATES for seed in range(initialisations)]
    cells = [cell(setup(seed, points), rate, sparsity) for rate, seed in pairs for sparsity in SPARSITIES]
    return {"points": points, "cells": cells, "traces": [trace(setup(seed, points), rate) for rate, seed in pairs]}


@dataclass(frozen=True)
class Setup:
    """What belongs to an initialisation."""

    seed: int
    first: Tensor  # (n_weights,) float64
    batches: Tensor  # (STEPS, BATCH) rows of the digits
    points: Tensor  # (n_points,) the rows that are forgotten, each alone


def setup(seed: int, points: int) -> Setup:
    """Return first weights as torch draws them, the order of the examples, and those to forget."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for inputs, outputs in itertools.pairwise(UNITS):
        drawn = torch.rand(inputs * outputs + outputs, generator=generator, dtype=torch.float64)
        layers.append((2 * drawn - 1) / inputs**0.5)
    epochs = [torch.randperm(IMAGES, generator=generator) for _ in range(STEPS * BATCH // IMAGES)]
    batches = torch.cat(epochs).view(STEPS, BATCH)
    return Setup(seed, torch.cat(layers), batches, torch.randperm(IMAGES, generator=generator)[:points])


def cell(start: Setup, rate: float, sparsity: float) -> dict[str, Any]:
    """Return the errors of all examples under one mask, and what bounds them."""
    mask = omp_mask(start, rate, sparsity)
    first = mask * start.first
    alone = torch.cat([NOTHING[None], torch.eye(IMAGES, dtype=torch.bool)[start.points]])
    *_, ends = train(first, mask, start.batches, alone, rate)
    end, retrained = ends[0], ends[1:]
    seen = torch.bincount(start.batches.flatten(), minlength=IMAGES)
    unlearned = end + rate * mask * contributions(first, start.points, seen)
    displacement = float((end - first).norm())
    sigma = max(top_eigenvalue(end, mask), top_eigenvalue(first, mask))
    return {
        **{"rate": rate, "sparsity": sparsity, "seed": start.seed, "accuracy": accuracy(end)},
        "errors": (unlearned - retrained).norm(dim=1).tolist(),
        **{"displacement": displacement, "sigma": sigma},
        **bounds(rate, STEPS, displacement, sigma),
    }


def bounds(rate: float, steps: int, displacement: float, sigma: float) -> dict[str, float]:
    """Return both forms of the theorem's bound, and what "Unrolling SGD" computes: with the root of the eigenvalue."""
    form = (steps - 1) / 2 * displacement * sigma
    predictor = rate**2 * steps / 2 * displacement * sigma**0.5
    return {"bound": rate * form, "printed_bound": rate**2 * form, "predictor": predictor}


def trace(start: Setup, rate: float) -> dict[str, Any]:
    """Return error, bounds and predictor along a dense training, as "Unrolling SGD" has them: of one batch, the first.

    Its gradient is taken after the first step.
    """
    mask = torch.ones_like(start.first)
    batch = start.batches[0]
    without = torch.zeros(2, IMAGES, dtype=torch.bool)
    without[1, batch] = True
    found: dict[str, Any] = {"rate": rate, "seed": start.seed, "steps": list(TRACED), "errors": []}
    for step, (end, retrained) in enumerate(train(start.first, mask, start.batches, without, rate), 1):
        if step == 1:
            after = end
        if step in TRACED:
            seen = torch.bincount(start.batches[:step].flatten(), minlength=IMAGES)
            unlearned = end + rate * contributions(after, batch, seen).sum(dim=0)
            found["errors"].append(float((unlearned - retrained).norm()))
            sigma = max(top_eigenvalue(end, mask), top_eigenvalue(start.first, mask))
            for name, value in bounds(rate, step, float((end - start.first).norm()), sigma).items():
                found.setdefault(name, []).append(value)
    return found


# ---- the net -------------------------------------------------------------------------------------------------------

DIGITS = load_digits()
PIXELS = torch.from_numpy(DIGITS.data[:IMAGES] / 16)
LABELS = torch.from_numpy(DIGITS.target[:IMAGES])
PARTS = [size for pair in itertools.pairwise(UNITS) for size in (pair[0] * pair[1], pair[1])]  # matrix, biases, ...
NOTHING = torch.zeros(IMAGES, dtype=torch.bool)


def logits(weights: Tensor, pixels: Tensor) -> Tensor:
    """Return the outputs (n, 10) of a net whose weights lie in one vector: matrix and biases, layer by layer."""
    inputs, hidden, outputs = UNITS
    matrix, biases, last_matrix, last_biases = weights.split(PARTS)
    activations = torch.tanh(pixels @ matrix.view(inputs, hidden) + biases)
    found: Tensor = activations @ last_matrix.view(hidden, outputs) + last_biases
    return found


def loss(weights: Tensor, rows: Tensor, left_out: Tensor) -> Tensor:
    """Return the mean loss of some examples; those left out (IMAGES,) count in the divisor alone."""
    terms = nn.functional.cross_entropy(logits(weights, PIXELS[rows]), LABELS[rows], reduction="none")
    return torch.where(left_out[rows], 0.0, terms).sum() / len(rows)


def train(first: Tensor, mask: Tensor, batches: Tensor, left_out: Tensor, rate: float) -> Iterator[Tensor]:
    """Yield the weights (n_nets, n_weights) after every step; left_out (n_nets, IMAGES) is each net's own."""
    weights, gradients = first.expand(len(left_out), -1), vmap(grad(loss), in_dims=(0, None, 0))
    for rows in batches:
        weights = weights - rate * mask * gradients(weights, rows, left_out)
        yield weights


def omp_mask(start: Setup, rate: float, sparsity: float) -> Tensor:
    """Return the mask of the weights to keep: all but the smallest after a dense training, biases aside."""
    is_bias = torch.cat([torch.full((size,), bool(part % 2)) for part, size in enumerate(PARTS)])
    *_, ends = train(start.first, torch.ones_like(start.first), start.batches, NOTHING[None], rate)
    order = ends[0].abs().masked_fill(is_bias, torch.inf).argsort(stable=True)
    mask = torch.ones_like(start.first)
    mask[order[: round(sparsity * int((~is_bias).sum()))]] = 0
    return mask


def contributions(weights: Tensor, points: Tensor, seen: Tensor) -> Tensor:
    """Return the gradients (n_points, n_weights) of examples as batches have them, times how often each was in one."""
    each = vmap(grad(loss), in_dims=(None, 0, None))(weights, points[:, None], NOTHING)
    found: Tensor = seen[points, None] * each / BATCH
    return found


def top_eigenvalue(weights: Tensor, mask: Tensor) -> float:
    """Return the largest singular value of the Hessian of the mean loss where the mask is 1."""
    whole = partial(loss, rows=torch.arange(IMAGES), left_out=NOTHING)

    def product(vector: np.ndarray) -> np.ndarray:
        direction = mask * torch.from_numpy(vector.ravel())
        found: np.ndarray = (mask * grad(lambda place: grad(whole)(place) @ direction)(weights)).numpy()
        return found

    n = len(weights)
    values = eigsh(
        LinearOperator((n, n), matvec=product, dtype=np.float64), k=1, v0=np.ones(n), return_eigenvectors=False
    )
    return float(abs(values[0]))


def accuracy(weights: Tensor) -> float:
    """Return the training accuracy."""
    return float((logits(weights, PIXELS).argmax(dim=1) == LABELS).double().mean())


# ---- the page ------------------------------------------------------------------------------------------------------

COLOURS = dict(zip(RATES, ("#0072B2", "#D55E00"), strict=True))


@rc_context(STYLE)
def figure(found: dict[str, Any]) -> Figure:
    """Draw error and bounds against sparsity, the error beside the dense net's, and error and predictor in training."""
    drawn = Figure((WIDTH, 7), layout="constrained")
    (errors, relative), (training, predicted) = drawn.subplots(2, 2)
    for rate, colour in COLOURS.items():
        of_cells = {sparsity: mean_cell(found["cells"], rate, sparsity) for sparsity in SPARSITIES}
        for name, style in (("error", "o-"), ("printed_bound", "v:"), ("bound", "^--")):
            errors.plot([one[name] for one in of_cells.values()], style, color=colour, markersize=5)
        for name, style in (("error", "o-"), ("relative", "s--")):
            ratios = [one[name] / of_cells[0.0][name] for one in of_cells.values()]
            relative.plot(ratios, style, color=colour, markersize=5, label=f"{NAMES[name]}, eta {rate}")
        for one in found["traces"]:
            if one["rate"] == rate:
                label = f"eta {rate}" if one["seed"] == 0 else None
                training.plot(one["steps"], one["errors"], "-", color=colour, label=label)
                predicted.plot(one["predictor"], one["errors"], "o-", color=colour, markersize=3, linewidth=0.6)
    for panel in (errors, relative):
        panel.set(xticks=range(len(SPARSITIES)), xticklabels=[f"{sparsity:.0%}" for sparsity in SPARSITIES])
        panel.set_xlabel("sparsity")
    errors.set(title="error (solid), bound with eta^2 (dotted), with eta (dashed)", yscale="log")
    relative.set(title="times that of the dense net", ylim=(0, 1.7))
    relative.legend(loc="upper right")
    training.set(title="error of the first batch along training", xlabel="steps", ylim=(0, None))
    training.legend()
    predicted.set(title="the same against the predictor of Unrolling SGD", xscale="log", yscale="log")
    predicted.set_xlabel("eta^2 t / 2 displacement sqrt(sigma)")
    for axis in (errors.yaxis, predicted.xaxis, predicted.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    return drawn


NAMES = {"error": "error", "relative": "error / displacement"}


def mean_cell(cells: Sequence[dict[str, Any]], rate: float, sparsity: float) -> dict[str, float]:
    """Return means over initialisations, and examples, of what the cells of a rate and a sparsity have."""
    chosen = [one for one in of_rate(cells, rate) if one["sparsity"] == sparsity]
    means = {name: float(np.mean([one[name] for one in chosen])) for name in chosen[0] if name != "errors"}
    means["error"] = float(np.mean([one["errors"] for one in chosen]))
    means["relative"] = float(np.mean([np.divide(one["errors"], one["displacement"]) for one in chosen]))
    return means


def tables(found: dict[str, Any]) -> str:
    """Return the claims, the cells, and what goes with them."""
    head = ["eta", "sparsity", "training accuracy", "mean e(m)", "e(m) / displacement", "displacement", "sigma"]
    head += ["bound, eta^2", "bound, eta", "predictor"]
    rows = []
    for rate, sparsity in itertools.product(RATES, SPARSITIES):
        one = mean_cell(found["cells"], rate, sparsity)
        figures = [f"{one['accuracy']:.3f}", f"{one['error']:.2e}", f"{one['relative']:.2e}"]
        figures += [f"{one['displacement']:.2f}", f"{one['sigma']:.2f}"]
        figures += [f"{one[name]:.3g}" for name in ("printed_bound", "bound", "predictor")]
        rows.append([f"{rate}", f"{sparsity:.0%}", *figures])
    lines = [*claims_table(found["claims"]), "", *markdown(head, rows).splitlines()]
    for rate in RATES:
        shrunk, low, high = error_ratio(found["cells"], rate, relative=True)
        said = f"e(m) / displacement at 95 % is {shrunk:.2f} times ({low:.2f} to {high:.2f}) that of the dense net"
        along = [pearsonr(one["errors"], one["predictor"]).statistic for one in found["traces"] if one["rate"] == rate]
        ranks = f"{spearman(of_rate(found['cells'], rate), 'predictor'):.2f}"
        lines += [
            "",
            f"At eta {rate} {said}. The predictor of Unrolling SGD ranks the cells with a Spearman correlation of",
        ]
        lines[-1] += f" {ranks} to their errors; along training its correlation with the error is {min(along):.2f} to"
        lines[-1] += f" {max(along):.2f}."
    n_seeds = len({one["seed"] for one in found["cells"]})
    note = f"N = {found['points']} examples, each forgotten alone, of each of {n_seeds} initialisations; intervals are"
    note += f" 95 % of {DRAWS:,} draws of initialisations and their examples. {machine(found)}."
    return "\n".join([*lines, "", note]) + "\n"


TABLE = Table(PAGE, "tables", "theorem.py", lambda: tables(stored("theorem")))

if __name__ == "__main__":
    main()
