"""Where runs differ: by what they forget, by the original model they start from, or from run to run."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Spread", "spread"]


@dataclass(frozen=True)
class Spread:
    """Standard deviations of three independent effects whose sum is a run's value; None where the runs cannot tell."""

    forget_sets: float | None
    originals: float | None
    runs: float | None


def spread(values: np.ndarray, forget_sets: np.ndarray, originals: np.ndarray) -> Spread:
    """Take apart the variance of values (n,), one per run, of tracks that share their original models.

    forget_sets, originals: (n,) integers, what each run forgets and where it starts; all forget sets have the same
    originals. Estimates are those of the analysis of variance without interaction, from means of cells; below 0, which
    is noise, they are 0. To tell the effects of originals from runs, some original needs two runs of a forget set.
    """
    names = np.unique(forget_sets)
    cells = [
        [
            values[(forget_sets == name) & (originals == original)]
            for original in np.unique(originals[forget_sets == name])
        ]
        for name in names
    ]
    every = [cell for row in cells for cell in row]
    freedom = len(values) - len(every)
    if freedom == 0:
        return Spread(None, None, None)
    of_runs = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in every) / freedom
    noise = [[of_runs / len(cell) for cell in row] for row in cells]  # of the cells' means
    means = [[float(cell.mean()) for cell in row] for row in cells]
    of_originals = [
        np.var(row, ddof=1) - np.mean(noisy) for row, noisy in zip(means, noise, strict=True) if len(row) > 1
    ]
    of_sets = None
    if len(names) > 1:
        of_sets = np.var([np.mean(row) for row in means], ddof=1) - np.mean([np.mean(row) / len(row) for row in noise])
    return Spread(_root(of_sets), _root(np.mean(of_originals) if of_originals else None), _root(of_runs))


def _root(variance: float | np.floating | None) -> float | None:
    return None if variance is None else float(np.sqrt(max(variance, 0.0)))
