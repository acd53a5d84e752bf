"""Bounds on epsilon that hold with a stated probability: Bonferroni, cross-fitted, Bayesian.

A lower bound certifies a difference; no finite family of attacks bounds epsilon from above, so there is no upper bound
here except the Bayesian one, of one fixed rule. Rates are bounded after Clopper and Pearson (1934), each direction by
itself: taking |isf(FPR bound) - ppf(FNR bound)| of one rule for a two-sided bound is invalid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from harness.scoring.official import DELTA
from harness.scoring.samples import Samples, check_samples, pooled_counts, random_halves

__all__ = [
    "Bounds",
    "bayesian_interval",
    "bonferroni_bounds",
    "cross_fitted_bounds",
    "cross_fitted_value",
    "epsilon_value",
    "held_out_value",
    "rate_lower",
    "rate_upper",
]

Value = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of a true positive rate's lower, a false one's upper bound

QUADRATURE_NODES = 256
RATES_BOUNDED = 4  # two folds, two rates each


@lru_cache(maxsize=64)
def rate_upper(n: int, alpha: float) -> np.ndarray:
    """Return the Clopper-Pearson upper bound of a rate for every count 0 .. n of n, (n + 1,), at one-sided level alpha.

    The bound after n of n is 1. The array is shared between callers and read-only.
    """
    counts = np.arange(n)
    upper = np.append(scipy.special.betaincinv(counts + 1.0, n - counts, 1 - alpha), 1.0)
    upper.flags.writeable = False
    return upper


def rate_lower(n: int, alpha: float) -> np.ndarray:
    """Return the Clopper-Pearson lower bound of a rate for every count 0 .. n of n, (n + 1,); that of 0 is 0."""
    return np.asarray(1 - rate_upper(n, alpha)[::-1])


def epsilon_value(true_positive: np.ndarray, false_positive: np.ndarray) -> np.ndarray:
    """Return log((TPR - delta) / FPR) in nats, -inf where the true positive rate is not above delta."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.maximum(true_positive - DELTA, 0.0)) - np.log(false_positive))


def bonferroni_bounds(unlearned: np.ndarray, retrained: np.ndarray, *, alpha: float = 0.05) -> np.ndarray:
    """Return a lower bound of epsilon per example, (n_examples,), in nats: of the best half-line, Bonferroni-corrected.

    unlearned, retrained: (n_models, n_examples), finite; the sides may differ in models. Every rate of the 4 forms at
    each of the N + M - 1 cuts is bounded at alpha / (2 x 4 (N + M - 1)); 0 where nothing is certified.
    Null: false alarms at most alpha, in practice none. Power at N = 512: 2 / 87 / 100 % at a shift of .25 / .5 / 1 sd,
    but a bound of only .73 at a shift of 1. Source: Jagielski et al. 2020 (arXiv 2006.07709), Nasr et al. 2021
    (arXiv 2101.04535).
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    n, m = len(unlearned), len(retrained)
    level = alpha / (8 * (n + m - 1))
    counts = pooled_counts(unlearned, retrained)
    values = _values(counts.unlearned, counts.retrained, n, m, epsilon_value, level)
    return np.asarray(np.maximum(values.max(axis=(0, 2)), 0.0))


def cross_fitted_bounds(
    unlearned: np.ndarray, retrained: np.ndarray, *, generator: np.random.Generator, alpha: float = 0.05
) -> np.ndarray:
    """Return a lower bound of epsilon per example, (n_examples,), in nats: the cross-fitted certificate.

    unlearned, retrained: any score that does not depend on which side a model is on, (n_models, n_examples), finite,
    at least 2 models a side. On one random half of the models the half-line and form with the largest bound are
    chosen, on the other they are judged, and the other way round; 0 where nothing is certified.
    Null: false alarms at most alpha, in practice 0 of 200. Power at N = 512: 12 / 83 / 99 % at a shift of
    .25 / .5 / 1 sd, median bound .16 / .87 / 2.30 at .5 / 1 / 2; std .8 7 %, std .5 or 2 100 % (median .97).
    """
    values = cross_fitted_value(unlearned, retrained, epsilon_value, generator=generator, alpha=alpha)
    return np.asarray(np.maximum(values, 0.0))


def cross_fitted_value(
    unlearned: np.ndarray, retrained: np.ndarray, value: Value, *, generator: np.random.Generator, alpha: float = 0.05
) -> np.ndarray:
    """Return the larger of the held-out values of two random halves, (n_examples,): at least it at level 1 - alpha.

    value(true positive rate, false positive rate) grows with the first and falls with the second. All examples share
    the halves, since what is drawn is models.
    """
    unlearned, retrained = check_samples(unlearned, retrained, fewest=2)
    first, second = random_halves(unlearned, retrained, generator)
    level = alpha / RATES_BOUNDED
    folds = [held_out_value(*halves, value, level=level) for halves in ((first, second), (second, first))]
    return np.asarray(np.max(folds, axis=0))


def held_out_value(choose: Samples, judge: Samples, value: Value, *, level: float) -> np.ndarray:
    """Return the value, (n_examples,), on one pair of samples of the half-line and form that did best on another.

    choose, judge: samples (n_models, n_examples). level: one-sided, of each of the two Clopper-Pearson bounds.
    """
    counts = pooled_counts(*choose)
    values = _values(counts.unlearned, counts.retrained, len(choose.unlearned), len(choose.retrained), value, level)
    examples, n_cuts = np.arange(values.shape[1]), values.shape[2]
    form, cut = np.divmod(values.transpose(1, 0, 2).reshape(len(examples), -1).argmax(axis=1), n_cuts)
    threshold = counts.thresholds(cut)
    ours, theirs = ((side <= threshold).sum(axis=0)[:, None] for side in judge)
    judged = _values(ours, theirs, len(judge.unlearned), len(judge.retrained), value, level)
    return np.asarray(judged[form, examples, 0])


def _values(unlearned: np.ndarray, retrained: np.ndarray, n: int, m: int, value: Value, level: float) -> np.ndarray:
    """Return the value of the 4 forms, (4, n_examples, n_cuts), from counts of n and m at or below each cut."""
    sides = ((unlearned, n, retrained, m), (retrained, m, unlearned, n))
    forms = []
    for ours, n_ours, theirs, n_theirs in sides:
        lower, upper = rate_lower(n_ours, level), rate_upper(n_theirs, level)
        forms.append(value(lower[ours], upper[theirs]))
        forms.append(value(lower[n_ours - ours], upper[n_theirs - theirs]))
    return np.stack(forms)


@dataclass(frozen=True)
class Bounds:
    """Lower and upper end of an interval."""

    low: float
    high: float


def bayesian_interval(
    false_negatives: int, true_positives: int, false_positives: int, true_negatives: int, *, alpha: float = 0.05
) -> Bounds:
    """Return the smallest epsilons, in nats, whose regions hold alpha and 1 - alpha of the posterior of a rule.

    The counts must be of a rule that was fixed without these models. Rates have independent Beta posteriors with
    Jeffreys' prior; 256 x 256 nodes of equal mass carry them.
    Null: nominal for fixed rules only. Power: up to 40 % narrower than Clopper-Pearson (the paper's abstract).
    Source: Zanella-Beguelin et al. 2023 (arXiv 2206.05199).
    """
    nodes = (np.arange(QUADRATURE_NODES) + 0.5) / QUADRATURE_NODES
    fnr = scipy.special.betaincinv(0.5 + false_negatives, 0.5 + true_positives, nodes)[:, None]
    fpr = scipy.special.betaincinv(0.5 + false_positives, 0.5 + true_negatives, nodes)[None, :]
    # Complements from the other tail: 1 - rate loses all digits of a rate near 1.
    tpr = scipy.special.betaincinv(0.5 + true_positives, 0.5 + false_negatives, 1 - nodes)[:, None]
    tnr = scipy.special.betaincinv(0.5 + true_negatives, 0.5 + false_positives, 1 - nodes)[None, :]
    forms = [epsilon_value(*pair) for pair in ((tpr, fpr), (tnr, fnr), (fnr, tnr), (fpr, tpr))]
    low, high = np.quantile(np.maximum(np.max(forms, axis=0), 0.0), [alpha, 1 - alpha])
    return Bounds(float(low), float(high))
