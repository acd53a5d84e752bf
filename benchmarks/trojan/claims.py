"""What the seeds say of the paper's claims on trojans. All thresholds were fixed before anything was measured."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.claims import Claim
from benchmarks.trojan.models import ARMS
from benchmarks.verdicts import Interval, Verdict, above, all_of, below, holm_intervals, t_interval

__all__ = ["CLAIMS", "METHODS", "SPARSITIES", "Rows", "difference", "findings", "values"]

SPARSITIES = (0.0, 0.5, 0.75, 0.9, 0.95)
METHODS = {
    "l1-sparse": [arm for arm in ARMS if arm.startswith("l1-sparse")],
    "fine-tuning": [arm for arm in ARMS if arm.startswith("fine-tuning")],
}
GATE = 80.0  # percent: with a lower ASR of the originals the trigger is too weak, and nothing is tested
MOST_LOST = 2.0  # percentage points of SA
CLAIMS = {
    "falls": "ASR falls at every sparsity",
    "keeps": f"SA falls by less than {MOST_LOST:g} points at every sparsity",
    "sparsity": "the sparser the original, the lower ASR afterwards",
}

Rows = list[dict[str, Any]]  # one for every sparsity of every seed, seeds in their order


def findings(rows: Rows) -> dict[str, Any]:
    """Return the gate and, if it is passed, what is found of the claims of either method, in whole and in short."""
    asr_before = {f"{sparsity:g}": t_interval(values(rows, "before", "asr", sparsity)).mean for sparsity in SPARSITIES}
    is_passed = min(asr_before.values()) >= GATE
    tested = {method: verdicts(rows, arms) for method, arms in METHODS.items()} if is_passed else {}
    claims = [
        Claim(f"{method}: {CLAIMS[name]}", found["verdict"], _in_words(found)).to_json()
        for method, of_method in tested.items()
        for name, found in of_method.items()
    ]
    gate = {"asr_before": asr_before, "least": GATE, "passed": is_passed}
    return {"gate": gate, "tested": tested, "claims": claims}


def _in_words(found: dict[str, Any]) -> str:
    """Return how many cells hold, and between what their differences are."""
    cells = found["cells"]
    holding = sum(cell["verdict"] == Verdict.HOLDS for cell in cells)
    means = [cell["mean"] for cell in cells]
    return f"{holding} of {len(cells)} cells hold; means {min(means):.1f} to {max(means):.1f} points"


def verdicts(rows: Rows, arms: Sequence[str]) -> dict[str, Any]:
    """Return what is found of each claim: the verdict on a method, those on its arms, and the intervals behind them.

    Intervals hold at 95 % for all cells of a claim together (Holm).
    """
    places = [(arm, sparsity) for arm in arms for sparsity in SPARSITIES]
    fall, loss = ([difference(rows, "before", *place, rate) for place in places] for rate in ("asr", "sa"))
    falls = [(one, above(one)) for one in holm_intervals(fall)]
    keeps = [(one, below(one, MOST_LOST)) for one in holm_intervals(loss, threshold=MOST_LOST)]
    slope = [(one, below(one)) for one in holm_intervals([slopes(rows, arm) for arm in arms])]
    return {
        "falls": _claim(arms, places, falls),
        "keeps": _claim(arms, places, keeps),
        "sparsity": _claim(arms, [(arm, None) for arm in arms], slope),
    }


def _claim(
    arms: Sequence[str], places: Sequence[tuple[str, float | None]], tested: Sequence[tuple[Interval, Verdict]]
) -> dict[str, Any]:
    cells = [
        {"arm": arm, "sparsity": sparsity, **asdict(interval), "verdict": verdict}
        for (arm, sparsity), (interval, verdict) in zip(places, tested, strict=True)
    ]
    of_arms = {arm: all_of(cell["verdict"] for cell in cells if cell["arm"] == arm) for arm in arms}
    return {"verdict": all_of(of_arms.values()), "arms": of_arms, "cells": cells}


def values(rows: Rows, model: str, rate: str, sparsity: float) -> list[float]:
    """Return ASR or SA of a model in the order of the seeds, in percent."""
    return [row["models"][model][rate] for row in rows if row["sparsity"] == sparsity]


def difference(rows: Rows, model: str, other: str, sparsity: float, rate: str) -> list[float]:
    """Return by how many points ASR or SA of a model is above that of another, seed by seed."""
    pairs = zip(*(values(rows, one, rate, sparsity) for one in (model, other)), strict=True)
    return [ours - theirs for ours, theirs in pairs]


def slopes(rows: Rows, arm: str) -> list[float]:
    """Return for each seed the slope of ASR afterwards on sparsity, in points from 0 to 100 %."""
    after = np.array([values(rows, arm, "asr", sparsity) for sparsity in SPARSITIES])
    return [float(slope) for slope in np.polyfit(SPARSITIES, after, 1)[0]]
