"""The whole trade-off between the two errors instead of one epsilon: the curve, mu, and divergences.

mu is that of Gaussian differential privacy: telling the sides apart is as hard as telling N(0, 1) from N(mu, 1). It is
unbiased at the null and for differences in location and in spread, which no plug-in epsilon is.
Source: Dong, Roth and Su, Gaussian Differential Privacy (arXiv 1905.02383).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from harness.scoring.attacks import gaussian_log_ratios
from harness.scoring.bounds import cross_fitted_value
from harness.scoring.samples import PooledCounts, Samples, check_samples, pooled_counts, random_halves

__all__ = [
    "ALPHAS",
    "PROFILE_EPSILONS",
    "TradeOff",
    "divergences",
    "gaussian_delta",
    "gaussian_epsilon",
    "mu_from_auc",
    "mu_lower_bounds",
    "mu_value",
    "mus",
    "plug_in_divergences",
    "trade_off",
]

ALPHAS = (0.01, 0.05, 0.1, 0.25)
PROFILE_EPSILONS = (0.0, 0.5, 1.0, 2.0, 4.0)
BISECTIONS = 100  # more than a float64 has bits


@dataclass(frozen=True)
class TradeOff:
    """Smallest false negative rate at each false positive rate, with a band: arrays (n_alphas, n_examples)."""

    false_negative: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def trade_off(
    unlearned: np.ndarray, retrained: np.ndarray, *, alphas: Sequence[float] = ALPHAS, alpha: float = 0.05
) -> TradeOff:
    """Return T(a), the least false negative rate of "unlearned above t" at a false positive rate of at most a.

    unlearned, retrained: scores (n_models, n_examples), larger for unlearned, fixed without these models. The band
    holds at all a at once with probability 1 - alpha (Dvoretzky-Kiefer-Wolfowitz, half of alpha for each side): +- .065
    in either rate at N = 512, so that it says little at a = .01. Null: 1 - a. Power: Phi(Phi^-1(1 - a) - mu).
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    ours, theirs = np.sort(unlearned, axis=0), np.sort(retrained, axis=0)
    rates = np.asarray(alphas, np.float64)
    margin_ours, margin_theirs = (np.sqrt(np.log(4 / alpha) / (2 * len(side))) for side in (ours, theirs))
    lower = _false_negative(ours, theirs, rates + margin_theirs) - margin_ours
    upper = _false_negative(ours, theirs, rates - margin_theirs) + margin_ours
    return TradeOff(_false_negative(ours, theirs, rates), np.maximum(lower, 0.0), np.minimum(upper, 1.0))


def mus(unlearned: np.ndarray, retrained: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
    """Return mu per example, (n_examples,): sqrt 2 Phi^-1(AUC) of a cross-fitted Gaussian likelihood ratio.

    unlearned, retrained: confidences (n_models, n_examples), finite, at least 4 models a side. May be negative by
    chance. Null at N = 512: 0.00 +- .09. Power: .25 +- .08, .50 +- .07, .99 +- .07, 2.01 +- .09 at a shift of .25 /
    .5 / 1 / 2 sd, .24 +- .07 at std .8, .76 +- .07 at std .5 or 2.
    """
    scores = gaussian_log_ratios(unlearned, retrained, generator=generator)
    return mu_from_auc(scores.mean_auc(), n_pairs=scores.n_pairs)


def mu_from_auc(aucs: np.ndarray, *, n_pairs: float) -> np.ndarray:
    """Return sqrt 2 Phi^-1(AUC), of the shape of `aucs`, each a mean over n_pairs comparisons of two models.

    An AUC of 1 counts as half a pair short of it, so that mu ends at 6.0 for N = 512 and at 3.4 for N = 16.
    """
    aucs = np.clip(aucs, 0.5 / n_pairs, 1 - 0.5 / n_pairs)
    return np.asarray(np.sqrt(2.0) * scipy.special.ndtri(aucs))


def mu_value(true_positive: np.ndarray, false_positive: np.ndarray) -> np.ndarray:
    """Return Phi^-1(TPR) - Phi^-1(FPR), the mu of one rule; -inf at a true positive rate of 0."""
    return np.asarray(scipy.special.ndtri(true_positive) - scipy.special.ndtri(false_positive))


def mu_lower_bounds(
    unlearned: np.ndarray, retrained: np.ndarray, *, generator: np.random.Generator, alpha: float = 0.05
) -> np.ndarray:
    """Return mu_L per example, (n_examples,): a lower bound of mu at level 1 - alpha, at least 0.

    unlearned, retrained: any score (n_models, n_examples), at least 2 models a side. Rules are half-lines chosen on the
    other half, both rates Clopper-Pearson at alpha / 4. Null: 0 but for at most alpha. Source: Nasr et al. 2023
    (arXiv 2302.07956).
    """
    values = cross_fitted_value(unlearned, retrained, mu_value, generator=generator, alpha=alpha)
    return np.asarray(np.maximum(values, 0.0))


def gaussian_delta(epsilon: np.ndarray | float, mu: np.ndarray | float) -> np.ndarray:
    """Return the smallest delta at which mu-Gaussian privacy is (epsilon, delta)-privacy; arguments broadcast.

    delta = Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2), mu > 0. Source: arXiv 1905.02383, corollary 1.
    """
    epsilon, mu = np.asarray(epsilon, np.float64), np.asarray(mu, np.float64)
    far = np.exp(epsilon + scipy.special.log_ndtr(-epsilon / mu - mu / 2))  # e^epsilon alone overflows at 710
    return np.asarray(scipy.special.ndtr(-epsilon / mu + mu / 2) - far)


def gaussian_epsilon(delta: np.ndarray | float, mu: np.ndarray | float) -> np.ndarray:
    """Return the smallest epsilon, in nats, at which mu-Gaussian privacy is (epsilon, delta)-privacy; broadcasts.

    0 < delta < 1; 0 where mu is at most 0 or small enough for delta alone. True epsilons at delta 1e-5: .34 / .93 /
    1.99 / 4.38 for mu .1 / .25 / .5 / 1.
    """
    delta, mu = np.broadcast_arrays(np.asarray(delta, np.float64), np.asarray(mu, np.float64))
    positive = np.maximum(mu, 1e-9)
    low = np.zeros(mu.shape)
    first_term_alone = positive * (positive / 2 - scipy.special.ndtri(delta))  # of delta, at the upper end
    high = np.maximum(first_term_alone, 0.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_small = gaussian_delta(middle, positive) > delta
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    return np.where(gaussian_delta(0.0, positive) > delta, high, 0.0)


def divergences(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    generator: np.random.Generator,
    epsilons: Sequence[float] = PROFILE_EPSILONS,
) -> np.ndarray:
    """Return the cross-fitted hockey-stick divergence at each epsilon, (n_epsilons, n_examples), at most 1.

    D = P(unlearned in G) - e^epsilon P(retrained in G), the interval G chosen on one half of the models and D taken on
    the other, averaged over both ways; the larger of the two directions. Not clipped: clip at 0 for display only.
    A direction alone is biased downwards; where both are equally large, the larger one is up to .02 above the truth.
    unlearned, retrained: (n_models, n_examples), finite, at least 2 models a side.
    Null at N = 512: .011 +- .032, -.021 +- .018, -.026 +- .020, -.066 +- .037, -.61 +- .27 at epsilon 0, .5, 1, 2, 4:
    report the last, do not score it. Power (truth): .184 (.197) at epsilon 0 for a shift of .5 sd, .371 (.383) at 0 and
    .129 (.127) at 1 for a shift of 1, .342 (.332) at 2 for a shift of 2.
    """
    unlearned, retrained = check_samples(unlearned, retrained, fewest=2)
    first, second = random_halves(unlearned, retrained, generator)
    ways = [_divergences(choose, judge, epsilons) for choose, judge in ((first, second), (second, first))]
    return np.asarray(np.mean(ways, axis=0).max(axis=0))


def plug_in_divergences(
    unlearned: np.ndarray, retrained: np.ndarray, *, epsilons: Sequence[float] = PROFILE_EPSILONS
) -> np.ndarray:
    """Return the same with G chosen and judged on all models, (n_epsilons, n_examples): biased upwards, for comparison.

    Null at N = 512: .075 / .028 / .022 / .020 / .020.
    """
    both = check_samples(unlearned, retrained)
    return np.asarray(_divergences(both, both, epsilons).max(axis=0))


def _false_negative(ours: np.ndarray, theirs: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the share of ours at or below the lowest threshold that at most that share of theirs exceed.

    ours, theirs: sorted (n_models, n_examples). 1 at a rate below 0, where no threshold will do.
    """
    allowed = np.floor(rates * len(theirs) + 1e-9).astype(int)
    thresholds = theirs[np.clip(len(theirs) - 1 - allowed, 0, len(theirs) - 1)]
    missed = np.array([(ours <= threshold).mean(axis=0) for threshold in thresholds])
    missed[allowed >= len(theirs)] = 0.0
    missed[allowed < 0] = 1.0
    return missed


def _divergences(choose: Samples, judge: Samples, epsilons: Sequence[float]) -> np.ndarray:
    """Return D of both directions, (2, n_epsilons, n_examples), with intervals of `choose` taken on `judge`."""
    counts = pooled_counts(*choose)
    ours, theirs = counts.unlearned / len(choose.unlearned), counts.retrained / len(choose.retrained)
    forwards = [_judged(counts, ours - np.exp(e) * theirs, *judge, e) for e in epsilons]
    backwards = [_judged(counts, theirs - np.exp(e) * ours, *judge[::-1], e) for e in epsilons]
    return np.array([forwards, backwards])


def _judged(
    counts: PooledCounts, gains: np.ndarray, ours: np.ndarray, theirs: np.ndarray, epsilon: float
) -> np.ndarray:
    """Return D, (n_examples,), on ours and theirs of the interval (low, high] with the largest gain between its ends.

    gains: (n_examples, n_cuts), cumulative. Kadane's algorithm: the best start for every end is the lowest gain so far.
    """
    rows = np.arange(len(gains))
    lowest = np.minimum.accumulate(gains, axis=1)
    end = (gains - lowest).argmax(axis=1)
    start = (gains == lowest[rows, end][:, None]).argmax(axis=1)
    low, high = counts.thresholds(start), counts.thresholds(end)
    ours_inside, theirs_inside = (((low < side) & (side <= high)).mean(axis=0) for side in (ours, theirs))
    return np.asarray(ours_inside - np.exp(epsilon) * theirs_inside)
