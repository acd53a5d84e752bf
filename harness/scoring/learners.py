"""What scoring looks at of learners alone: whether their own models are what they should be, and what they claim.

A learner makes the reference that it is scored against. So its originals are compared with what they should know of the
forget set, and its retrained models with its originals where the forget set should hardly matter, on the test set.
"""

import math

import numpy as np

from harness.scoring.alarms import Alarm
from harness.scoring.bounds import cross_fitted_value

__all__ = ["certificate_bound", "of_originals", "of_reference"]

N_SUBSETS = 4000  # of retain and forget set together
OUTSIDE = 0.0025  # share of the subsets beyond the two bounds together
N_PERMUTATIONS = 1999
LEVEL = 0.005  # of the permutation test
SPREAD_RATIOS = (0.5, 2.0)
NO_SPREAD = 1e-9  # equal numbers have one of their last digits
LARGEST_RATIO = 1e6  # said where one side has no spread at all: a score file holds finite numbers
EXPECTED_REACH = 3.0  # standard errors of the recipe's own difference


def of_originals(forget: np.ndarray, retain: np.ndarray, *, seed: int = 0) -> list[Alarm]:
    """Return an alarm if originals treat the forget set otherwise than as many random examples of all they learned.

    forget, retain: confidences (n_models, n_examples) of original models. The forget set has to be a random one.
    """
    generator, size = np.random.default_rng(seed), forget.shape[1]
    by_example = np.concatenate([forget, retain], axis=1).mean(axis=0)
    subsets = [generator.choice(by_example, size, replace=False).mean() for _ in range(N_SUBSETS)]
    low, high = np.quantile(subsets, [OUTSIDE / 2, 1 - OUTSIDE / 2])
    value = float(forget.mean())
    if low <= value <= high:
        return []
    bound = float(low if value < low else high)
    message = "original models treat the forget set otherwise than what else they learned: does train know of it?"
    return [Alarm("blind original", message, value, bound)]


def of_reference(
    originals: np.ndarray, retrained: np.ndarray, expected: tuple[np.ndarray, np.ndarray], *, seed: int = 0
) -> list[Alarm]:
    """Return an alarm if retrained models do otherwise on the test set than a smaller training set explains.

    originals, retrained: what each model says of the test set, (n_models, 1 + n_examples): its accuracy, then its
    confidences. expected: accuracies of the originals and of the retrained models of the track's own recipe. Learning
    from less costs accuracy, so a difference that the recipe has as well is none.
    """
    shift = _within(expected, originals[:, 0].mean() - retrained[:, 0].mean())
    p_value = _p_value(originals[:, 0] - shift, retrained[:, 0], seed)
    ratio = _ratio_of_spreads(retrained[:, 1:], originals[:, 1:])
    message = "retrained models differ from the originals on the test set by more than what they lack: two trainings?"
    found = [Alarm("odd reference", message, p_value, LEVEL)] if p_value <= LEVEL else []
    low, high = SPREAD_RATIOS
    if not found and not low <= ratio <= high:
        found = [Alarm("odd reference", message, ratio, low if ratio < low else high)]
    return found


def _ratio_of_spreads(first: np.ndarray, second: np.ndarray) -> float:
    """Return the ratio of two sides' mean spreads; where a side has none, as trainings without chance, 1 or an end."""
    spreads = [float(np.mean(side.std(axis=0, ddof=1))) for side in (first, second)]
    if min(spreads) > NO_SPREAD:
        return spreads[0] / spreads[1]
    return 1.0 if max(spreads) <= NO_SPREAD else 0.0 if spreads[0] <= NO_SPREAD else LARGEST_RATIO


def _within(expected: tuple[np.ndarray, np.ndarray], difference: float) -> float:
    """Return a difference of accuracies as far as the recipe's own one, with its noise, explains it: or none at all."""
    first, second = expected
    centre = float(first.mean() - second.mean())
    variances = [float(side.var(ddof=1)) / len(side) if len(side) > 1 else 0.0 for side in expected]
    reach = EXPECTED_REACH * math.sqrt(sum(variances))
    return min(max(difference, min(0.0, centre - reach)), max(0.0, centre + reach))


def _p_value(first: np.ndarray, second: np.ndarray, seed: int) -> float:
    """Return the two-sided p-value of a difference of means under exchange of the models."""
    generator, together = np.random.default_rng(seed), np.concatenate([first, second])

    def gap(values: np.ndarray) -> float:
        return abs(float(values[: len(first)].mean() - values[len(first) :].mean()))

    observed = gap(together)
    larger = sum(gap(generator.permutation(together)) >= observed - 1e-12 for _ in range(N_PERMUTATIONS))
    return (1 + larger) / (1 + N_PERMUTATIONS)


def certificate_bound(unlearned: np.ndarray, retrained: np.ndarray, delta: float, *, seed: int = 0) -> float:
    """Return a 95 % lower bound of epsilon at this delta, in nats, of models as wholes; 0 where nothing is certified.

    unlearned, retrained: confidences (n_models, n_examples). A certificate holds for all that is computed from a model,
    so for its mean confidence too: one number per model, and no correction for many examples.
    """

    def value(true_positive: np.ndarray, false_positive: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.maximum(true_positive - delta, 0.0)) - np.log(false_positive))

    ours, theirs = (side.mean(axis=1, keepdims=True) for side in (unlearned, retrained))
    bounds = cross_fitted_value(ours, theirs, value, generator=np.random.default_rng(seed))
    return max(0.0, float(bounds[0]))
