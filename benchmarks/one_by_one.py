"""The official metric one example after the other, as the harness computed it first: what its speed is compared with.

Each sample is sorted once and thresholds are counted by binary search. An interval is looked at by itself only where
the last bit of its end decides who is inside; elsewhere all intervals that hold the same models are taken together.
"""

from typing import Literal, NamedTuple

import numpy as np

from harness.scoring.pooled import DELTA, EPSILON_CAP

PEAKY_RATIO = 0.01
THRESHOLDS_PER_UNIT = 100
BUFFER = 2.0  # how far intervals reach beyond the narrower sample, or fall short of it, in logits
N_LEFT = round(THRESHOLDS_PER_UNIT * 2 * BUFFER)  # left ends to every right end
STEP = 2 * BUFFER / (N_LEFT - 1)
CELLS_AT_ONCE = 100_000  # right ends x models, few enough for the processor's cache


def example_epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return the epsilon of every example, (n_examples,), from confidences (n_models, n_examples)."""
    swap = np.median(retrained, axis=0) > np.median(unlearned, axis=0)
    positive, negative = np.where(swap, retrained, unlearned), np.where(swap, unlearned, retrained)
    pairs = zip(np.sort(positive.T), np.sort(negative.T), strict=True)
    return np.array([_epsilon(*pair) for pair in pairs])


def _epsilon(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return one example's epsilon from two sorted samples of confidences (n_models,), the higher one first."""
    ranges = sorted((positive[-1] - positive[0], negative[-1] - negative[0]))
    if ranges[1] > 0 and ranges[0] / ranges[1] < PEAKY_RATIO:
        return EPSILON_CAP
    false_negatives, false_positives = (
        np.concatenate(counts)
        for counts in zip(_single_threshold(positive, negative), _double_threshold(positive, negative), strict=True)
    )
    return _largest_epsilon(false_negatives, false_positives, len(positive))


def _single_threshold(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count false negatives and false positives of "positive at or above t", t on a float32 grid over both samples."""
    low, high = min(positive[0], negative[0]), max(positive[-1], negative[-1])
    thresholds = _float32_grid(low, high, int(np.ceil(THRESHOLDS_PER_UNIT * (high - low))))
    return np.searchsorted(positive, thresholds), len(negative) - np.searchsorted(negative, thresholds)


def _float32_grid(low: float, high: float, count: int) -> np.ndarray:
    """Return `count` points from low to high, rounded as the released code's framework rounds them.

    The step is rounded to float32 first; each point is computed from the nearer end in float64 and rounded once.
    """
    first, last = np.float32(low), np.float32(high)
    if count < 2:
        return np.full(count, float(first))
    step = float((last - first) / np.float32(count - 1))
    index = np.arange(count)
    from_first, from_last = float(first) + step * index, float(last) - step * (count - 1 - index)
    points: np.ndarray = np.where(index < count // 2, from_first, from_last)
    return np.asarray(points.astype(np.float32), np.float64)


def _largest_epsilon(false_negatives: np.ndarray, false_positives: np.ndarray, n_models: int) -> float:
    """Return the largest epsilon over thresholds, in float32; those with exactly one kind of error are discarded."""
    if not (false_negatives + false_positives).all():
        return EPSILON_CAP
    # Of thresholds with as many false positives, the one with the fewest false negatives has the largest epsilon.
    fewest = np.full(n_models + 1, n_models + 1)
    kept = (false_negatives > 0) & (false_positives > 0)
    np.minimum.at(fewest, false_positives[kept], false_negatives[kept])
    found = np.flatnonzero(fewest <= n_models)
    one, delta = np.float32(1), np.float32(DELTA)
    fnr, fpr = (counts.astype(np.float32) / np.float32(n_models) for counts in (fewest[found], found))
    with np.errstate(invalid="ignore"):
        epsilons = np.fmax(np.log(one - delta - fpr) - np.log(fnr), np.log(one - delta - fnr) - np.log(fpr))
    epsilons = epsilons[~np.isnan(epsilons)]  # where every threshold errs on everything: no evidence either way
    return float(np.clip(epsilons.max(), 0, EPSILON_CAP)) if len(epsilons) else float("nan")


def _double_threshold(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the errors of "narrower sample within [left, right]", both ends on grids about that sample's own.

    positive, negative: sorted confidences (n_models,). Returns false negatives and false positives, (n,) each: every
    pair that some interval has, at least once. Equal to the released code to the last bit of every end.
    """
    swap = positive[-1] - positive[0] >= negative[-1] - negative[0]
    narrow, wide = (negative, positive) if swap else (positive, negative)
    grid = _Grid.around(narrow)
    inside = _by_lattice(narrow, wide, grid) if len(grid.right) == N_LEFT else _by_row(narrow, wide, grid)
    inside_narrow, inside_wide = np.maximum(inside, 0)
    return len(narrow) - inside_narrow, inside_wide


class _Grid(NamedTuple):
    """Ends of intervals, rounded as the released code rounds them."""

    right: np.ndarray  # (400,), or (401,) where 100 times their reach is rounded up
    first_left: np.ndarray  # of the 400 left ends to each right end
    last_left: np.ndarray
    rounding: float  # some 50 times what any of them may be off by

    @classmethod
    def around(cls, narrow: np.ndarray) -> "_Grid":
        width = narrow[-1] - narrow[0]
        start, stop = narrow[0] + width - BUFFER, narrow[-1] + BUFFER
        right = np.linspace(start, stop, int(np.ceil(THRESHOLDS_PER_UNIT * (stop - start))))
        rounding = 1e-13 * (abs(narrow[0]) + abs(narrow[-1]) + 2 * BUFFER)
        return cls(right, (right - width) - BUFFER, (right - width) + BUFFER, rounding)

    def of_rows(self, rows: np.ndarray) -> "_Grid":
        """Return the same with some right ends only."""
        return _Grid(self.right[rows], self.first_left[rows], self.last_left[rows], self.rounding)

    def left(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return left end `column` of right end `row`."""
        step = (self.last_left - self.first_left) / (N_LEFT - 1)
        return np.asarray(
            np.where(column == N_LEFT - 1, self.last_left[row], self.first_left[row] + column * step[row])
        )


def _by_lattice(narrow: np.ndarray, wide: np.ndarray, grid: _Grid) -> np.ndarray:
    """Return the counts inside intervals, (2, n), of 400 right ends: these are as far apart as left ends.

    Left end k of right end j lies, but for rounding, on value j + k of a lattice of 799. Values without a model between
    them make a run, and so do right ends; where two runs meet, one interval stands for all. Where a model lies on the
    value itself, as the smallest of the narrower sample always does, every left end there is looked at.
    """
    up_to_right = _counts(narrow, wide, grid.right, "right")
    lattice = narrow[0] + STEP * np.arange(1 - N_LEFT, N_LEFT)
    below, up_to = (_counts(narrow, wide, lattice + shift, "left") for shift in (-grid.rounding, grid.rounding))
    sure = (below[0] == up_to[0]) & (below[1] == up_to[1])
    first, last = (sure.nonzero()[0][ends] for ends in _runs(below[:, sure]))
    first_right, last_right = _runs(up_to_right)
    right_run, left_run = np.nonzero((first <= last_right[:, None] + N_LEFT - 1) & (last >= first_right[:, None]))
    by_runs = up_to_right[:, first_right[right_run]] - below[:, first[left_run]]
    columns = np.flatnonzero(~sure) - np.arange(N_LEFT)[:, None]
    row, unsure = np.nonzero((columns >= 0) & (columns < N_LEFT))
    one_by_one = up_to_right[:, row] - _counts(narrow, wide, grid.left(row, columns[row, unsure]), "left")
    return np.concatenate([by_runs, one_by_one], axis=1)


def _by_row(narrow: np.ndarray, wide: np.ndarray, grid: _Grid) -> np.ndarray:
    """Return the counts inside intervals, (2, n), of any right ends: one for each run of left ends in each row."""
    n_parts = 1 + len(grid.right) * 2 * len(narrow) // CELLS_AT_ONCE
    parts = np.array_split(np.arange(len(grid.right)), n_parts)
    return np.concatenate([_of_rows(narrow, wide, grid.of_rows(rows)) for rows in parts], axis=1)


def _of_rows(narrow: np.ndarray, wide: np.ndarray, grid: _Grid) -> np.ndarray:
    """Return the counts inside intervals, (2, n), of some neighbouring right ends.

    A run of left ends is over where a model comes to lie below. How many left ends of a row lie at or below a model
    follows from its distance to the first of them, except, for rounding, where that is a whole number of steps.
    """
    models = np.unique(np.concatenate([narrow, wide]))
    models = models[(models >= grid.first_left[0]) & (models <= grid.last_left[-1])]
    steps = (models - grid.first_left[:, None]) / STEP
    nearest = np.rint(steps)
    reached = nearest <= steps  # whether the nearest left end lies at or below the model
    row, model = np.nonzero(np.abs(steps - nearest) * STEP < grid.rounding)
    reached[row, model] = grid.left(row, nearest[row, model]) <= models[model]
    ends = np.empty((len(steps), len(models) + 2))
    ends[:, 0], ends[:, 1:-1], ends[:, -1] = 0, np.clip(nearest + reached, 0, N_LEFT), N_LEFT
    row, run = np.nonzero(ends[:, 1:] > ends[:, :-1])
    none_below = _counts(narrow, wide, grid.first_left[:1], "left")
    below = np.concatenate([none_below, _counts(narrow, wide, models, "right")], axis=1)
    return np.asarray(_counts(narrow, wide, grid.right, "right")[:, row] - below[:, run])


def _counts(narrow: np.ndarray, wide: np.ndarray, thresholds: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """Return how many models of either sample lie below each threshold, (2, n_thresholds); with "right", on it too."""
    return np.array([narrow.searchsorted(thresholds, side), wide.searchsorted(thresholds, side)])


def _runs(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last position of every run of equal columns of counts (2, n), which never decrease."""
    both = counts[0] + counts[1]
    n, last = len(both), (both[1:] != both[:-1]).nonzero()[0]
    return np.concatenate([[0], last + 1])[:n], np.concatenate([last, [n - 1]])[:n]
