"""Point estimates of epsilon per forget example: the exact suprema and the min-count estimate.

For a region G that holds a of N unlearned and b of M retrained models, epsilon(G) = log((a/N - delta) / (b/M)). Both
sides take either place and every region comes with its complement, so no direction of difference is invisible.
Sources: Kairouz et al. 2015 (arXiv 1311.0776) for the region form; `epsilon_raw_counts` of jax_privacy's auditing
module for the floor under the denominator. docs/scoring.md says how the score uses the min-count estimate.
"""

from typing import NamedTuple

import numpy as np

from harness.scoring.official import DELTA
from harness.scoring.samples import check_samples, pooled_counts

__all__ = [
    "default_min_count",
    "half_line_epsilons",
    "interval_epsilons",
    "min_count_epsilons",
    "smooth_credits",
    "smooth_quality",
]

MIN_COUNT_AT_512 = 25
SMALLEST_MIN_COUNT = 5


def half_line_epsilons(unlearned: np.ndarray, retrained: np.ndarray, *, discard_zeros: bool = False) -> np.ndarray:
    """Return the exact supremum of epsilon over all half-lines, (n_examples,), in nats, at least 0.

    unlearned, retrained: (n_models, n_examples), finite; the sides may differ in models. A region without any model
    of the other side gives inf, or is left out with `discard_zeros`; a region that holds all of one side and none of
    the other is inf either way. In 2023 a region with all of one side was left out too, however many it held of the
    other, which differs only where the sides hardly overlap.
    Null: median 1.39 with discard_zeros at N = 512 and no smaller at any N: a diagnostic, never a headline.
    Power: median 2.3 at a shift of half a standard deviation.
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    return _supremum(_half_lines(unlearned, retrained), discard_zeros=discard_zeros)


def interval_epsilons(unlearned: np.ndarray, retrained: np.ndarray, *, discard_zeros: bool = False) -> np.ndarray:
    """Return the exact supremum of epsilon over all intervals and their complements, (n_examples,), in nats.

    Arguments and zeros as in `half_line_epsilons`, which it never falls below. Without `discard_zeros` it is inf for
    nearly every pair of samples: some interval always holds models of one side only.
    Null: median 2.5-2.6 at N = 512, 95 % quantile 2.84. Power: comb 4.3, bump 6.1, winsorised at 1.5 sd 3.7.
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    return _supremum(_intervals(unlearned, retrained), discard_zeros=discard_zeros)


def default_min_count(n_models: int) -> int:
    """Return k = max(5, round(25 n / 512)): the count below which a denominator is not believed."""
    return max(SMALLEST_MIN_COUNT, round(MIN_COUNT_AT_512 * n_models / 512))


def min_count_epsilons(
    unlearned: np.ndarray, retrained: np.ndarray, *, min_count: float | None = None, interval: bool = False
) -> np.ndarray:
    """Return epsilon_k per example, (n_examples,), in [0, log(N / k)] nats: no denominator counts for less than k.

    unlearned, retrained: (n_models, n_examples), finite; the sides may differ in models. min_count: k, for either
    side, whole or not; None takes `default_min_count` of the side that is the denominator. interval: regions are all
    intervals and their complements instead of half-lines. With 5 models a side or fewer k is all of them and every
    epsilon 0: too few to say anything.
    Null at N = 512, k = 25: median .36 (intervals .67). Power: median .67 / 1.06 / 1.74 / 2.60 at a shift of
    .25 / .5 / 1 / 2 sd; .77 at std .8, 1.5 at std .5 or 2. Raises ValueError if k is below 1 or above a side's models.
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    if min_count is not None and not 1 <= min_count <= min(len(unlearned), len(retrained)):
        raise ValueError(f"min_count must be from 1 to the number of models of the smaller side, not {min_count}")
    ratios = []
    for ours, n, theirs, m in _intervals(unlearned, retrained) if interval else _half_lines(unlearned, retrained):
        k = min(min_count or default_min_count(m), m)
        numerators, denominators = np.arange(n + 1) / n - DELTA, np.maximum(np.arange(m + 1), k) / m
        ratios.append((numerators[ours] / denominators[theirs]).max(axis=1))
    return _epsilons(ratios)


def smooth_quality(epsilons: np.ndarray) -> float:
    """Return Q, the mean of 2^(-2 epsilon), in (0, 1]: the official credit without its steps.

    epsilons: (n_examples,), as a rule of `min_count_epsilons`; a NaN makes Q NaN.
    Null at N = 512, k = 25: .62. Power: .39 / .23 / .092 at a shift of .25 / .5 / 1 sd, .36 / .13 at std .8 / .5.
    """
    return float(np.mean(smooth_credits(epsilons)))


def smooth_credits(epsilons: np.ndarray) -> np.ndarray:
    """Return 2^(-2 epsilon) of every example, (n_examples,) in (0, 1]."""
    return np.asarray(np.exp2(-2.0 * np.asarray(epsilons, np.float64)))


class Regions(NamedTuple):
    """What every region of a family holds of either side, one side being in the numerator."""

    ours: np.ndarray  # counts, (n_examples, n_regions)
    n_ours: int
    theirs: np.ndarray  # counts, (n_examples, n_regions) or (n_regions,)
    n_theirs: int


def _half_lines(unlearned: np.ndarray, retrained: np.ndarray) -> list[Regions]:
    """Return all lower and all upper half-lines, in both orders of the sides."""
    counts = pooled_counts(unlearned, retrained)
    n, m = len(unlearned), len(retrained)
    lower, upper = (counts.unlearned, counts.retrained), (n - counts.unlearned, m - counts.retrained)
    forwards = [Regions(ours, n, theirs, m) for ours, theirs in (lower, upper)]
    return forwards + [Regions(theirs, m, ours, n) for ours, n, theirs, m in forwards]


def _intervals(unlearned: np.ndarray, retrained: np.ndarray) -> list[Regions]:
    """Return, in both orders, the best of all intervals and complements for every count of theirs."""
    return [
        Regions(_most_inside(ours, theirs), len(ours), np.arange(len(theirs) + 1), len(theirs))
        for ours, theirs in ((unlearned, retrained), (retrained, unlearned))
    ]


def _most_inside(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the largest count of ours in any interval or complement with b of theirs, (n_examples, b = 0 .. m).

    A best region ends just short of one of theirs, so the m^2 pairs of those are all there is to enumerate, for all
    examples at once. 0 where ties of theirs leave no region with b.
    """
    n, m = len(ours), len(theirs)
    less, up_to = _ranks(ours, theirs)
    most = np.empty((ours.shape[1], m + 1), np.int32)
    for b in range(m + 1):
        counts = less[:, b:] - up_to[:, : m + 1 - b]  # between two of theirs that have b between them
        if b < m:  # before one of theirs and after another, with b beyond them; all of theirs is the whole line
            counts = np.concatenate([counts, n + less[:, : b + 1] - up_to[:, m - b :]], axis=1)
        most[:, b] = counts.max(axis=1, initial=0)
    return most


def _ranks(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count ours below each of theirs and +inf, and ours at or below -inf and each of theirs, (n_examples, m + 1).

    A region that ends within a tie of theirs would split it: there the counts are so bad that none is the largest.
    """
    n, m = len(ours), len(theirs)
    less, up_to = np.full((ours.shape[1], m + 1), n, np.int32), np.zeros((ours.shape[1], m + 1), np.int32)
    for example, (mine, other) in enumerate(zip(np.sort(ours.T), np.sort(theirs.T), strict=True)):
        tied = other[1:] == other[:-1]
        less[example, :-1] = np.searchsorted(mine, other, side="left")
        less[example, 1:-1][tied] = -3 * n
        up_to[example, 1:] = np.searchsorted(mine, other, side="right")
        up_to[example, 1:-1][tied] = 3 * n
    return less, up_to


def _supremum(families: list[Regions], *, discard_zeros: bool) -> np.ndarray:
    """Return the largest epsilon of all regions of every example; see `half_line_epsilons` for zeros."""
    ratios = []
    for ours, n, theirs, m in families:
        with np.errstate(divide="ignore"):
            ratio = (ours / n - DELTA) / (theirs / m)
        if discard_zeros:
            ratio = np.where((theirs == 0) & (ours < n), 0.0, ratio)
        ratios.append(ratio.max(axis=1))
    return _epsilons(ratios)


def _epsilons(ratios: list[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the largest of several ratios of probabilities (n_examples,), at least 0."""
    return np.asarray(np.log(np.maximum(np.max(ratios, axis=0), 1.0)))
