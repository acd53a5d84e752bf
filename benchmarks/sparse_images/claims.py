"""What the seeds say of the paper's claims. All criteria were fixed before any seed was measured.

Every claim is that some differences, paired by seed, are below 0. It holds if all their intervals are, at 95 % for all
of a claim together (Holm), and is asked twice: at the paper's settings and at tuned ones.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.claims import Claim
from benchmarks.published import TABLE_2, TABLE_3
from benchmarks.sparse_images.methods import METHODS, SETTINGS
from benchmarks.sparse_images.models import disparity
from benchmarks.sparse_images.protocol import SCENARIOS, SPARSE, SPARSITIES, Cell
from benchmarks.verdicts import Interval, Verdict, all_of, below, holm_intervals, t_interval
from harness.scoring.full_stack import disparity_average

__all__ = ["CLAIMS", "DENSE", "Asked", "Rows", "disparities", "findings", "gate", "values"]

Rows = list[dict[str, Any]]  # one for every cell of every seed, seeds in their order
Values = list[float]  # one for every seed

DENSE = {scenario: Cell(scenario, "omp", 0.0) for scenario in SCENARIOS}
PRUNED = {pruner: Cell("random", pruner, SPARSE) for pruner in ("omp", "synflow", "imp")}
BY_SPARSITY = [Cell("random", "omp", sparsity) for sparsity in SPARSITIES]
LEAKING = ("retrained", *METHODS)
MOST_LOST = 5.0  # points of TA that sparse originals may lose: the paper prunes as far as accuracy is kept


@dataclass(frozen=True)
class Asked:
    """A claim in one sentence, the differences that it says are below 0, and the paper's own figures."""

    sentence: str
    differences: Callable[[Rows, str], dict[str, Values]]  # of a setting, by what they are of
    published: str


# ---- differences ---------------------------------------------------------------------------------------------------


def schedules(rows: Rows, setting: str) -> dict[str, Values]:
    """Return by how much the disparity of the decaying schedule is above that of the others."""
    ours, *others = (
        disparities(rows, DENSE["random"], f"l1-sparse, {one}, {setting}")
        for one in ("decaying", "constant", "growing")
    )
    return {f"less {name}": _less(ours, one) for name, one in zip(("constant", "growing"), others, strict=True)}


def sparser(rows: Rows, setting: str, scenario: str) -> dict[str, Values]:
    """Return by how much the disparity of each method is higher on the sparse originals than on the dense."""
    sparse = Cell(scenario, "omp", SPARSE)
    return {
        name: _less(*(disparities(rows, cell, f"{name}, {setting}") for cell in (sparse, DENSE[scenario])))
        for name in METHODS
    }


def beside_nothing(rows: Rows, setting: str, scenario: str) -> dict[str, Values]:
    """Return by how much the disparity of each method is above that of the original, where it is sparse.

    Sparse originals may know less of what is to be forgotten, and be closer to retrained models from the start.
    """
    sparse = Cell(scenario, "omp", SPARSE)
    nothing = disparities(rows, sparse, "original")
    return {name: _less(disparities(rows, sparse, f"{name}, {setting}"), nothing) for name in METHODS}


def forgotten_by_imp(rows: Rows, setting: str) -> dict[str, Values]:
    """Return by how much UA after fine-tuning is higher with IMP than with the other pruners."""
    ua = {pruner: values(rows, cell, f"FT, {setting}", "ua") for pruner, cell in PRUNED.items()}
    return {f"less {pruner}": _less(ua["imp"], ua[pruner]) for pruner in ("omp", "synflow")}


def closest_by_omp(rows: Rows, setting: str) -> dict[str, Values]:
    """Return by how much the disparity of fine-tuning is higher with OMP than with the other pruners."""
    found = {pruner: disparities(rows, cell, f"FT, {setting}") for pruner, cell in PRUNED.items()}
    return {f"less {pruner}": _less(found["omp"], found[pruner]) for pruner in ("synflow", "imp")}


def l1_beside_fine_tuning(rows: Rows, setting: str) -> dict[str, Values]:
    """Return by how much l1-sparse is further from retraining than fine-tuning is, in UA and MIA-Efficacy."""
    return {
        f"{title}, {scenario}": _less(
            *(gaps(rows, cell, f"{name}, {setting}", metric) for name in ("l1-sparse, decaying", "FT"))
        )
        for scenario, cell in DENSE.items()
        for metric, title in (("ua", "UA"), ("mia_efficacy", "MIA-Efficacy"))
    }


def leakage_slopes(rows: Rows, setting: str) -> dict[str, Values]:
    """Return the slopes of MIA-Privacy on sparsity, in points from 0 to 100 %."""
    return {name: _slopes(_leakage(rows, name, setting)) for name in LEAKING}


def leakage_beside_retraining(rows: Rows, setting: str) -> dict[str, Values]:
    """Return by how much MIA-Privacy is above that of retrained models, means over sparsities."""
    theirs = np.mean(_leakage(rows, "retrained", setting), axis=0)
    return {name: list(np.mean(_leakage(rows, name, setting), axis=0) - theirs) for name in METHODS}


def _leakage(rows: Rows, name: str, setting: str) -> list[Values]:
    """Return MIA-Privacy of a method or of retrained models at every sparsity."""
    model = name if name == "retrained" else f"{name}, {setting}"
    return [values(rows, cell, model, "mia_privacy") for cell in BY_SPARSITY]


def _slopes(by_sparsity: list[Values]) -> Values:
    return [float(slope) for slope in np.polyfit(SPARSITIES, np.array(by_sparsity), 1)[0]]


def _less(ours: Values, theirs: Values) -> Values:
    return [one - other for one, other in zip(ours, theirs, strict=True)]


# ---- claims --------------------------------------------------------------------------------------------------------


def _table_2(name: str) -> str:
    return f"{disparity_average(TABLE_2[name], TABLE_3['random, dense'][0]):.2f}"


def _table_3(scenario: str) -> str:
    dense, sparse = (TABLE_3[f"{scenario}, {kind}"][1] for kind in ("dense", "sparse"))
    return ", ".join(f"{name} {dense[name][1]:.2f} to {sparse[name][1]:.2f}" for name in METHODS)


AS_A_PLOT, NOT_ASKED = "a plot, no figures", "not asked"
CLAIMS = {
    "table 2": Asked(
        "of the schedules of l1-sparse the decaying one comes closest to retraining",
        schedules,
        f"disparity {_table_2('decaying')}; constant {_table_2('constant')}, growing {_table_2('growing')}",
    ),
    "table 3, class": Asked(
        "a class forgotten, every method comes closer to retraining on 95 % sparse nets than on dense ones",
        lambda rows, setting: sparser(rows, setting, "class"),
        f"disparity {_table_3('class')}",
    ),
    "table 3, random": Asked(
        "random images forgotten, every method comes closer to retraining on 95 % sparse nets than on dense ones",
        lambda rows, setting: sparser(rows, setting, "random"),
        f"disparity {_table_3('random')}",
    ),
    "control, class": Asked(
        "a class forgotten, every method comes closer to retraining on 95 % sparse nets than doing nothing does",
        lambda rows, setting: beside_nothing(rows, setting, "class"),
        NOT_ASKED,
    ),
    "control, random": Asked(
        "random images forgotten, every method comes closer to retraining on 95 % sparse nets than doing nothing does",
        lambda rows, setting: beside_nothing(rows, setting, "random"),
        NOT_ASKED,
    ),
    "figure 4, imp": Asked(
        "fine-tuning forgets less on nets pruned by IMP than by OMP or SynFlow", forgotten_by_imp, AS_A_PLOT
    ),
    "figure 4, omp": Asked("fine-tuning comes closest to retraining on nets pruned by OMP", closest_by_omp, AS_A_PLOT),
    "figure 5": Asked(
        "on dense nets l1-sparse is closer to retraining than fine-tuning is, in UA and MIA-Efficacy",
        l1_beside_fine_tuning,
        AS_A_PLOT,
    ),
    "figure a1, slope": Asked(
        "the sparser the net, the less of the retain set leaks (MIA-Privacy), retrained or unlearned",
        leakage_slopes,
        AS_A_PLOT,
    ),
    "figure a1, methods": Asked(
        "after every method less of the retain set leaks than after retraining", leakage_beside_retraining, AS_A_PLOT
    ),
}
SAID = {"published": "at the paper's settings", "tuned": "at tuned settings"}


def findings(rows: Rows) -> dict[str, Any]:
    """Return the gate, what is found of each claim at each setting, and the claims as all studies store them."""
    passed = gate(rows)
    tested = {
        setting: {name: _tested(asked, rows, setting, passed) for name, asked in CLAIMS.items()} for setting in SETTINGS
    }
    claims = [
        Claim(f"{CLAIMS[name].sentence}, {SAID[setting]}", found["verdict"], _in_words(found)).to_json()
        for name in CLAIMS
        for setting, found in ((setting, tested[setting][name]) for setting in SETTINGS)
    ]
    return {"gate": passed, "tested": tested, "claims": claims}


def gate(rows: Rows) -> dict[str, Any]:
    """Return whether there is something to test.

    Doing nothing has to be further from a retrained model than another one is, so that forgetting can be seen at all;
    and sparse originals must have lost few points of TA.
    """
    models = ("original", "retrained again")
    unlike = t_interval(_less(*(disparities(rows, DENSE["random"], model) for model in models)))
    lost = t_interval(_less(*(values(rows, cell, "original", "ta") for cell in (DENSE["random"], PRUNED["omp"]))))
    is_passed = unlike.low > 0 and lost.mean < MOST_LOST
    return {"unlike": asdict(unlike), "lost": asdict(lost), "most_lost": MOST_LOST, "passed": is_passed}


def _tested(asked: Asked, rows: Rows, setting: str, gate: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict on a claim and on each of its differences, with their intervals."""
    differences = asked.differences(rows, setting)
    intervals = dict(zip(differences, holm_intervals(list(differences.values())), strict=True))
    cells = {what: {**asdict(one), "verdict": below(one)} for what, one in intervals.items()}
    verdict = all_of(cell["verdict"] for cell in cells.values()) if gate["passed"] else Verdict.UNDECIDED
    return {"verdict": verdict, "cells": cells}


def _in_words(found: dict[str, Any]) -> str:
    """Return the intervals behind a verdict."""
    return "; ".join(f"{what} {Interval.of(cell).text()}" for what, cell in found["cells"].items())


# ---- values of the seeds -------------------------------------------------------------------------------------------


def values(rows: Rows, cell: Cell, model: str, metric: str) -> Values:
    """Return a metric of a model in the order of the seeds."""
    return [models[model][metric] for models in _models(rows, cell)]


def disparities(rows: Rows, cell: Cell, model: str) -> Values:
    """Return the disparity average of a model and the seed's retrained one, in points."""
    return [disparity(models[model], models["retrained"]) for models in _models(rows, cell)]


def gaps(rows: Rows, cell: Cell, model: str, metric: str) -> Values:
    """Return how far a model is from the seed's retrained one in a metric, in points."""
    return [abs(models[model][metric] - models["retrained"][metric]) for models in _models(rows, cell)]


def _models(rows: Rows, cell: Cell) -> list[dict[str, Any]]:
    place = (cell.scenario, cell.pruner, cell.sparsity)
    return [row["models"] for row in rows if (row["scenario"], row["pruner"], row["sparsity"]) == place]
