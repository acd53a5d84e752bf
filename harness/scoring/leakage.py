"""Statistics that show how a sample was made rather than how far it is off: the material of the alarms.

Winsorising, rejection, combs and coordinated runs score well on half-lines and leave a trace here.
"""

from dataclasses import dataclass

import numpy as np

from harness.scoring.bounds import rate_lower, rate_upper
from harness.scoring.samples import check_samples, pooled_counts

__all__ = ["Leak", "SupportLeak", "cramer_von_mises", "support_leak", "tie_fraction", "window_mass"]

SATURATION = 103.616  # the largest confidence there is is 103.6163: models that reach it tie for no one's fault
WINDOW_PER_IQR = 0.02


@dataclass(frozen=True)
class Leak:
    """The share of one side outside the other's range, with bounds: arrays (n_examples,)."""

    share: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True)
class SupportLeak:
    """What lies outside in either direction."""

    retrained_outside: Leak  # retrained models where no unlearned one goes: tails that were cut
    unlearned_outside: Leak  # unlearned models where no retrained one goes


def support_leak(unlearned: np.ndarray, retrained: np.ndarray, *, alpha: float = 0.05) -> SupportLeak:
    """Return the share of each side outside the other's [min, max], with one-sided Clopper-Pearson bounds.

    unlearned, retrained: (n_models, n_examples), finite; the sides may differ in models. alpha: of each bound.
    Null: mean 2 / (N + 1), N models making the range: .0039 at 512, 99 % quantile .0165 against 1024. Power: .045 /
    .136 / .317 for winsorising at 2 / 1.5 / 1 sd.
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    return SupportLeak(_leak(retrained, unlearned, alpha), _leak(unlearned, retrained, alpha))


def tie_fraction(values: np.ndarray) -> np.ndarray:
    """Return 1 - distinct / N of every example, (n_examples,), without saturated values; NaN if all are saturated.

    values: confidences (n_models, n_examples). Null: 0 for continuous confidences. Power: .041 / .132 / .314 for
    winsorising at 2 / 1.5 / 1 sd, .964 for a comb of sd / 3.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=0)
    free = np.abs(ordered) < SATURATION
    repeated = (ordered[1:] == ordered[:-1]) & free[1:]
    n_free = free.sum(axis=0)
    return np.where(n_free > 0, repeated.sum(axis=0) / np.maximum(n_free, 1), np.nan)


def window_mass(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return the largest share of unlearned models in any window of .02 x IQR(retrained), (n_examples,).

    unlearned, retrained: (n_models, n_examples), finite. Atoms that were jittered show here and not among ties.
    Null at N = 512: .025, 99 % quantile .035. Power: .077 / .176 for winsorising at
    1.5 / 1 sd, .90 for a bump that holds 90 %.
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    widths = WINDOW_PER_IQR * np.subtract(*np.quantile(retrained, [0.75, 0.25], axis=0))
    heaviest = [
        (np.searchsorted(values, values + width, side="right") - np.arange(len(values))).max()
        for values, width in zip(np.sort(unlearned.T), widths, strict=True)
    ]
    return np.array(heaviest) / len(unlearned)


def cramer_von_mises(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return the two-sample Cramer-von Mises statistic of every example, (n_examples,), without unit.

    N M / (N + M)^2 times the sum over the pooled sample of the squared difference of the two distribution functions.
    unlearned, retrained: (n_models, n_examples), finite; the sides may differ in models.
    Null: mean (1 + 1 / (N + M)) / 6. Power: 1.25 for winsorising at 1 sd, 22.7 for a bump; runs coordinated to fit
    too well fall *below* the null: .055 for stratified quantiles against twice as many. Source: Anderson 1962.
    """
    unlearned, retrained = check_samples(unlearned, retrained)
    n, m = len(unlearned), len(retrained)
    counts = pooled_counts(unlearned, retrained)
    difference = counts.unlearned[:, 1:] / n - counts.retrained[:, 1:] / m
    return np.asarray(n * m / (n + m) ** 2 * (difference**2).sum(axis=1))


def _leak(values: np.ndarray, reference: np.ndarray, alpha: float) -> Leak:
    """Return the share of values outside the range of reference, example by example."""
    outside = ((values < reference.min(axis=0)) | (values > reference.max(axis=0))).sum(axis=0)
    n = len(values)
    return Leak(outside / n, rate_lower(n, alpha)[outside], rate_upper(n, alpha)[outside])
