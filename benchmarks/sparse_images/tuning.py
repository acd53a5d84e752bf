"""Settings for the small nets: a few values of one constant of each method, tried on images of another seed.

The value is taken whose disparity average is the least; for FT, GA, FF and IU the mean over the dense and the sparse
original, so that neither is favoured.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.sparse_images.methods import METHODS, SCHEDULES, Tuned, arms_of, constants_of, measured
from benchmarks.sparse_images.models import Models, disparity
from benchmarks.sparse_images.protocol import SPARSE, Cell

__all__ = ["TUNING_SEED", "tune"]

TUNING_SEED = 100  # of no images that are measured


def tune(models: Models, scenario: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the chosen value of each method in a scenario, and all trials."""
    sets = models.images.sets(scenario)
    cells = [Cell(scenario, "omp", sparsity) for sparsity in (0.0, SPARSE)]
    originals = [models.original(cell) for cell in cells]
    retrained = [models.measured(models.net(models.retrained(cell, sets)), sets) for cell in cells]
    trials: list[dict[str, Any]] = []
    chosen: Tuned = {}
    for name, method in arms_of(cells[0]).items():
        n_cells = 1 if name in SCHEDULES else len(cells)
        for value in method.values:
            constants = constants_of(name, value, chosen)
            found = [measured(models, original, sets, name, constants) for original in originals[:n_cells]]
            disparities = [disparity(ours, theirs) for ours, theirs in zip(found, retrained, strict=False)]
            trials.append({"method": name, "value": value, "disparities": disparities})
            say(f"tuning, {scenario}, {name}, {method.tuned} {value:g}: {np.mean(disparities):.2f}")
        of_method = [one for one in trials if one["method"] == name]
        chosen[name] = min(of_method, key=lambda one: float(np.mean(one["disparities"])))["value"]
    assert set(METHODS) <= set(chosen)
    return {"chosen": chosen, "trials": trials}
