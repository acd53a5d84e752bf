"""Many examples at once: how the official metric holds their confidences, and what it makes of a threshold's errors."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

__all__ = ["DELTA", "EPSILON_CAP", "NONE", "Pooled", "epsilons_of_errors", "positions"]

DELTA = 1e-5
EPSILON_CAP = 50.0  # given to an example that some threshold separates perfectly
NONE = -1.0  # in place of an epsilon: that of a threshold which is discarded, or of no threshold at all


class Pooled(NamedTuple):
    """Two samples of n confidences of each of several examples, sorted together.

    Cut i lies before the i-th model; the last cut, 2 n, lies after all of them.
    """

    values: np.ndarray  # (n_examples, 2 n)
    is_first: np.ndarray  # (n_examples, 2 n), whether a model is one of the first sample
    first_below: np.ndarray  # (n_examples, 2 n + 1), models of the first sample below every cut
    second_below: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> "Pooled":
        """Pool two sorted samples (n_examples, n)."""
        n_examples, n = first.shape
        values = np.concatenate([first, second], axis=1)
        order = np.argsort(values, axis=1, kind="stable")  # merges them
        is_first = order < n
        below = np.zeros((n_examples, 2 * n + 1), np.int32)
        np.cumsum(is_first, axis=1, dtype=np.int32, out=below[:, 1:])
        cuts = np.arange(2 * n + 1, dtype=np.int32)
        return cls(np.sort(values, axis=1), is_first, below, cuts - below)

    @property
    def n_models(self) -> int:
        """Models of either sample."""
        return int(self.values.shape[1]) // 2

    def exchanged(self, where: np.ndarray) -> "Pooled":
        """Return the same with first and second sample exchanged in some examples; where: (n_examples,) bool."""
        where = where[:, None]
        below = self.first_below, self.second_below
        return Pooled(self.values, self.is_first ^ where, np.where(where, *below[::-1]), np.where(where, *below))


def epsilons_of_errors(false_negatives: np.ndarray, false_positives: np.ndarray, n_models: int) -> np.ndarray:
    """Return the epsilon of thresholds from their errors among n models a side, float32 in the shape of the counts.

    A threshold without error gets the cap, one with a single kind of error NONE, and so does one that errs on
    everything. Whichever errors are called negative makes no difference.
    """
    hits, misses = _logarithms(n_models)
    epsilons = np.fmax(
        hits[false_positives] - misses[false_negatives], hits[false_negatives] - misses[false_positives]
    ).clip(0, EPSILON_CAP)
    errors = (false_negatives > 0).view(np.int8) + (false_positives > 0)  # how many kinds
    discarded = (errors == 1) | np.isnan(epsilons)
    return np.asarray(np.where(discarded, np.float32(NONE), np.where(errors == 0, np.float32(EPSILON_CAP), epsilons)))


def positions(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns of what is true in a matrix: `np.nonzero`, several times as fast."""
    rows, columns = np.divmod(np.flatnonzero(where), where.shape[1])
    return rows, columns


@lru_cache(maxsize=8)
def _logarithms(n_models: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log(1 - delta - k / n) and log(k / n) for k = 0 .. n, in float32 as the released code has them."""
    rates = np.arange(n_models + 1).astype(np.float32) / np.float32(n_models)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.float32(1) - np.float32(DELTA) - rates), np.log(rates)
