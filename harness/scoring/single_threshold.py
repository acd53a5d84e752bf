"""The single thresholds of the official metric, "positive at or above t", on a float32 grid of every example's own."""

from typing import Any, NamedTuple

import numpy as np

from harness.scoring.pooled import NONE, Pooled, epsilons_of_errors, positions

__all__ = ["Float32Grid", "single_threshold_epsilons"]

THRESHOLDS_PER_UNIT = 100
COARSE = 1e3  # beyond, float32 rounds by more than a hundredth of a step
UNSURE = 0.05  # of a step, more than rounding makes up for below


def single_threshold_epsilons(pooled: Pooled) -> np.ndarray:
    """Return the largest epsilon of any single threshold, (n_examples,) float32; NONE where all are discarded.

    The first sample is the positive one. Of thresholds between the same two models, which make the same errors, the
    highest stands for all.
    """
    n = pooled.n_models
    reached = Float32Grid.over(pooled.values).last_reached(pooled.values)
    epsilons = epsilons_of_errors(pooled.first_below[:, :-1], n - pooled.second_below[:, :-1], n)
    has_threshold = np.diff(reached, axis=1, prepend=-1) > 0  # the cut before a model
    return np.asarray(np.where(has_threshold, epsilons, np.float32(NONE)).max(axis=1))


class Float32Grid(NamedTuple):
    """Thresholds from the lowest to the highest value of every example, rounded as the released code's framework does.

    The step is rounded to float32 first; each point is computed from the nearer end in float64 and rounded once.
    """

    first: np.ndarray  # (n_examples, 1), like the rest
    last: np.ndarray
    step: np.ndarray
    n_points: np.ndarray

    @classmethod
    def over(cls, values: np.ndarray) -> "Float32Grid":
        """Lay grids over values (n_examples, n), sorted."""
        low, high = values[:, :1], values[:, -1:]
        count = np.ceil(THRESHOLDS_PER_UNIT * (high - low))
        first, last = low.astype(np.float32), high.astype(np.float32)
        last = np.where(count < 2, first, last)
        step = (last - first) / np.maximum(count - 1, 1).astype(np.float32)
        return cls(*(part.astype(np.float64) for part in (first, last, step, count)))

    def of(self, example: np.ndarray | np.integer[Any]) -> "Float32Grid":
        """Return the grids of some examples, (m,) each."""
        return Float32Grid(*(part[example, 0] for part in self))

    def points(self, index: np.ndarray) -> np.ndarray:
        """Return points of the grids."""
        from_first, from_last = self.first + self.step * index, self.last - self.step * (self.n_points - 1 - index)
        exact = np.where(index < self.n_points // 2, from_first, from_last)
        return np.asarray(exact.astype(np.float32), np.float64)

    def last_reached(self, values: np.ndarray) -> np.ndarray:
        """Return the last point at or below each of the sorted values (n_examples, n); below 0 where there is none."""
        steps = (values - self.first) / np.where(self.step > 0, self.step, 1.0)
        nearest = np.rint(steps)
        reached = np.floor(steps)
        unsure = positions(np.abs(steps - nearest) < UNSURE)
        nearest = nearest[unsure]
        reached[unsure] = nearest - (self.of(unsure[0]).points(nearest) > values[unsure])
        reached = np.minimum(np.maximum(reached, -1), self.n_points - 1)
        for row in np.flatnonzero(np.abs(values[:, [0, -1]]).max(axis=1) > COARSE):
            points = self.of(row).points(np.arange(int(self.n_points[row, 0])))
            reached[row] = points.searchsorted(values[row], "right") - 1
        return np.asarray(reached)
