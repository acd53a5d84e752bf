"""Two samples of models: how every estimator checks them, splits them and counts them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["PooledCounts", "Samples", "check_samples", "fold_count", "fold_labels", "pooled_counts", "random_halves"]

MOST_FOLDS = 5
MODELS_PER_FOLD = 4  # fewer would make an accuracy or an AUC of one fold a coin toss


class Samples(NamedTuple):
    """Two arrays whose rows are models."""

    unlearned: np.ndarray
    retrained: np.ndarray


def check_samples(unlearned: np.ndarray, retrained: np.ndarray, *, fewest: int = 1) -> Samples:
    """Return both sides as float64 arrays (n_models, n_examples), after checking that they fit each other.

    The two sides may differ in models, not in examples. Raises ValueError on another shape, on a value that is not
    finite (naming the model), and on fewer models than `fewest`.
    """
    unlearned, retrained = np.asarray(unlearned, np.float64), np.asarray(retrained, np.float64)
    shapes = f"not {unlearned.shape} and {retrained.shape}"
    if unlearned.ndim != 2 or retrained.ndim != 2 or unlearned.shape[1] != retrained.shape[1]:
        raise ValueError(f"two arrays (n_models, n_examples) with the same examples are needed, {shapes}")
    if min(len(unlearned), len(retrained)) < fewest or unlearned.shape[1] == 0:
        raise ValueError(f"at least {fewest} models on each side and one example are needed, {shapes}")
    for name, array in (("unlearned", unlearned), ("retrained", retrained)):
        if not np.isfinite(array).all():
            model = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise ValueError(f"{name} model {model} has a value that is not finite")
    return Samples(unlearned, retrained)


@dataclass(frozen=True)
class PooledCounts:
    """How many models of each side lie below every cut of the pooled sample.

    Cuts 0 .. n_pooled lie before, between and after the sorted models. Within a tie every cut is that after the tie, so
    that no half-line or interval between two cuts splits one.
    """

    values: np.ndarray  # (n_examples, n_pooled), sorted
    unlearned: np.ndarray  # (n_examples, n_pooled + 1)
    retrained: np.ndarray  # (n_examples, n_pooled + 1)

    def thresholds(self, cuts: np.ndarray) -> np.ndarray:
        """Return where one cut per example lies, (n_examples,): midway between two models, infinite at the ends.

        The models below the cut are those at or below the threshold.
        """
        examples = np.arange(len(cuts))
        n_below = self.unlearned[examples, cuts] + self.retrained[examples, cuts]
        ends = np.full((len(cuts), 1), np.inf)
        padded = np.concatenate([-ends, self.values, ends], axis=1)
        low, high = padded[examples, n_below], padded[examples, n_below + 1]
        middle = low / 2 + high / 2
        adjacent = (middle == high) & np.isfinite(high)  # floats with nothing between them
        return np.asarray(np.where(adjacent, low, middle))


def pooled_counts(unlearned: np.ndarray, retrained: np.ndarray) -> PooledCounts:
    """Sort the two samples (n_models, n_examples) together and count both up to every cut."""
    n_examples, n_unlearned, n_pooled = unlearned.shape[1], len(unlearned), len(unlearned) + len(retrained)
    pooled = np.ascontiguousarray(np.concatenate([unlearned, retrained]).T)
    order = np.argsort(pooled, axis=1)
    values = np.sort(pooled, axis=1)  # faster than to take them in their order
    below = np.zeros((n_examples, n_pooled + 1), np.int32)
    np.cumsum(order < n_unlearned, axis=1, dtype=np.int32, out=below[:, 1:])
    tied = values[:, :-1] == values[:, 1:]
    cuts = np.broadcast_to(np.arange(n_pooled + 1), below.shape)
    if tied.any():
        cuts = _ends_of_ties(tied)
        below = np.take_along_axis(below, cuts, axis=1)
    return PooledCounts(values, below, (cuts - below).astype(np.int32))


def _ends_of_ties(tied: np.ndarray) -> np.ndarray:
    """Return for every cut the next one that splits no tie; tied: (n_examples, n_pooled - 1), at cuts 1 and on."""
    n_examples, n_pooled = tied.shape[0], tied.shape[1] + 1
    cuts = np.tile(np.arange(n_pooled + 1), (n_examples, 1))
    cuts[:, 1:-1][tied] = n_pooled
    ends: np.ndarray = np.minimum.accumulate(cuts[:, ::-1], axis=1)[:, ::-1]
    return ends


def random_halves(
    unlearned: np.ndarray, retrained: np.ndarray, generator: np.random.Generator
) -> tuple[Samples, Samples]:
    """Split the models of either side into random halves; of an odd number the second half is the larger one."""
    ours, theirs = (
        np.array_split(generator.permutation(len(side)), [len(side) // 2]) for side in (unlearned, retrained)
    )
    return Samples(unlearned[ours[0]], retrained[theirs[0]]), Samples(unlearned[ours[1]], retrained[theirs[1]])


def fold_count(n_models: int) -> int:
    """Return the number of folds for the smaller side's number of models: 5, or as many as have 4 models, or 2."""
    return max(2, min(MOST_FOLDS, n_models // MODELS_PER_FOLD))


def fold_labels(n_models: int, folds: int, generator: np.random.Generator) -> np.ndarray:
    """Return the fold (n_models,) of every row, 0 .. folds - 1, random and of equal size to within one."""
    return generator.permutation(np.arange(n_models) % folds)
