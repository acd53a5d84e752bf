"""How much a score would move with other runs: half-samples of models, and what they say of differences.

The unit is the model, jointly for all forget examples and for the accuracies, since examples share models. Half-samples
are drawn without replacement: a bootstrap repeats models, and repeated confidences are ties that every threshold of the
official metric separates or keeps together at once, which lowers F by a quarter.

Sources: half-sample jackknife, Shao and Wu 1989; Holm 1979 for many comparisons.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "CONFIDENCE",
    "NORMAL_REACH",
    "N_HALF_SAMPLES",
    "Difference",
    "cluster_error",
    "difference",
    "difference_p_values",
    "half_samples",
    "holm",
    "interval",
    "permutation_p_value",
    "standard_error",
    "standard_errors",
]

N_HALF_SAMPLES = 200
INFLATION = 1.4  # so widened, the spread over half-samples is about that over fresh models; `benchmarks.tables` checks
CONFIDENCE = 0.95
ERFC = np.frompyfunc(math.erfc, 1, 1)  # scipy.special takes longer to load than a leaderboard to show
NORMAL_REACH = 1.959963984540054  # standard errors either side of an estimate that its 95 % interval reaches


def half_samples(strata: np.ndarray, *, n_samples: int = N_HALF_SAMPLES, seed: int) -> np.ndarray:
    """Return rows of half-samples without replacement, (n_samples, n // 2) int64: half of every stratum.

    strata: (n,) integers, the original each model started from; zeros where there is one stratum. Of odd strata half
    are rounded up and half down, the same ones in every sample: new runs have the same originals too. Where some
    stratum has one model alone, strata are left aside.
    """
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    if min(map(len, groups)) < 2:
        groups = [np.arange(len(strata))]
    sizes = [len(group) for group in groups]
    odd = [place for place, size in enumerate(sizes) if size % 2]
    rounded_up = odd[: len(odd) // 2]
    halves = [
        np.stack([generator.permutation(group)[: size // 2 + (place in rounded_up)] for _ in range(n_samples)])
        for place, (group, size) in enumerate(zip(groups, sizes, strict=True))
    ]
    return np.concatenate(halves, axis=1)


def standard_error(half_sample_values: np.ndarray) -> float:
    """Return the standard error of a statistic of n models from its values on half-samples (n_samples,)."""
    return float(standard_errors(half_sample_values))


def standard_errors(half_sample_values: np.ndarray) -> np.ndarray:
    """Return the standard errors of several statistics from their values on half-samples (..., n_samples)."""
    return np.asarray(INFLATION * np.std(half_sample_values, axis=-1))


def interval(value: float, half_sample_values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a statistic, centred at its value on all models."""
    reach = NORMAL_REACH * standard_error(half_sample_values)
    return value - reach, value + reach


def cluster_error(values: np.ndarray, clusters: np.ndarray, *, n_samples: int = 1000, seed: int = 0) -> float | None:
    """Return the standard error of the mean of values (n_examples,) over other clusters of examples, such as subjects.

    clusters: (n_examples,) which one each example belongs to. Clusters are drawn with replacement and come whole, since
    the images of one person are forgotten alike. It says how far a result carries to other people, not how it would
    move with other runs. None where there is one cluster, which says nothing of others.
    """
    generator = np.random.default_rng(seed)
    _, member = np.unique(clusters, return_inverse=True)
    k = int(member.max()) + 1
    if k < 2:
        return None
    sums, sizes = np.bincount(member, weights=values), np.bincount(member)
    drawn = generator.integers(k, size=(n_samples, k))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return math.sqrt(k / (k - 1)) * float(np.std(means))  # draws from k clusters spread less than those of all


@dataclass(frozen=True)
class Difference:
    """How two scores differ, against the noise of their difference."""

    value: float  # first minus second
    standard_error: float
    p_value: float  # two-sided, under no difference
    visible: float  # the smallest difference that would have been called one (95 %)

    @property
    def is_significant(self) -> bool:
        """Whether the two differ at the 95 % level."""
        return self.p_value < 1 - CONFIDENCE


def difference(first: float, second: float, first_halves: np.ndarray, second_halves: np.ndarray) -> Difference:
    """Compare two scores by the spread of their difference over common half-samples of the reference.

    first_halves, second_halves: (n_samples,), on the same half-samples of the reference, so that its noise cancels.
    """
    error = standard_error(np.asarray(first_halves) - np.asarray(second_halves))
    value = first - second
    return Difference(value, error, float(difference_p_values(value, error)), NORMAL_REACH * error)


def difference_p_values(values: ArrayLike, standard_errors: ArrayLike) -> np.ndarray:
    """Return the two-sided p-values of differences, under none; 1 where two scores are the same."""
    values, standard_errors = np.asarray(values, np.float64), np.asarray(standard_errors, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = np.asarray(ERFC(np.abs(values) / standard_errors / math.sqrt(2)), np.float64)
    return np.where(values == 0, 1.0, p_values)


def permutation_p_value(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    strata: np.ndarray,
    *,
    n_permutations: int = 999,
    seed: int = 0,
) -> float:
    """Return the p-value of |statistic| under exchange of the two sides' models within strata.

    statistic(rows of side one, rows of side two): rows count both sides' models together, the first half being side
    one's. strata: (2n,) of all of them. Exact under equal distributions, whatever the statistic.
    """
    generator = np.random.default_rng(seed)
    n = len(strata) // 2
    first = np.arange(2 * n) < n
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    observed = abs(statistic(np.flatnonzero(first), np.flatnonzero(~first)))
    at_least = 1
    for _ in range(n_permutations):
        side = first.copy()
        for group in groups:
            side[group] = first[generator.permutation(group)]
        at_least += abs(statistic(np.flatnonzero(side), np.flatnonzero(~side))) >= observed
    return at_least / (n_permutations + 1)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values adjusted for being many (Holm), in their order: (n,)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order]))
    back = np.empty_like(adjusted)
    back[order] = adjusted
    return back
