"""The metric of the 2023 NeurIPS Machine Unlearning Challenge, equal to its released code and far faster.

Source: "Evaluation for the NeurIPS Machine Unlearning Competition" (technical report, 2023) and the released
scoring code, google-deepmind/unlearning_evaluation, `metric.py`, with its array assertion replaced by a size check.
Where the two differ the code is followed: what participants were scored with is what is reproduced here.

The released code compares every model with every threshold. Here many examples are sorted and counted at once, and
thresholds between the same models are one. Grids are the same, rounded in the same places: epsilons are equal bit for
bit.
"""

import numpy as np

from harness.scoring.double_threshold import raise_by_intervals
from harness.scoring.pooled import DELTA, EPSILON_CAP, NONE, Pooled
from harness.scoring.single_threshold import single_threshold_epsilons

__all__ = [
    "BUCKET",
    "DELTA",
    "EPSILON_CAP",
    "bucket_count",
    "example_credits",
    "example_epsilons",
    "final_score",
    "forgetting_quality",
    "logit_scaled_confidence",
    "published_quality",
]

BUCKET = 0.5  # width of an epsilon bucket; each further bucket halves the credit
PEAKY_RATIO = 0.01  # one sample's range under 1 % of the other's: told apart at sight
LOG_FLOOR = 1e-45
CONFIDENCES_AT_ONCE = 50_000  # few enough for the processor's cache
MAX_UNRESOLVED = 0.01  # above this share F is withheld


def logit_scaled_confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return log p_y - log(1 - p_y) per example, in nats.

    logits: (n_examples, n_classes) float32 or float64, left unchanged. labels: (n_examples,) integers.
    Returns a float64 array (n_examples,) within +-103.6163. Raises ValueError on a non-finite logit.
    Source: Carlini et al. 2022 (LiRA, arXiv 2112.03570), with the rounding of the released code.
    """
    logits = np.asarray(logits)
    if logits.dtype == np.float16:
        logits = logits.astype(np.float32)
    if not np.isfinite(logits).all():
        raise ValueError(f"example {int(np.argwhere(~np.isfinite(logits))[0, 0])} has a logit that is not finite")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted).astype(np.float64)
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    rows = np.arange(len(logits))
    true_class = probabilities[rows, labels]
    probabilities[rows, labels] = 0.0
    confidence: np.ndarray = np.log(true_class + LOG_FLOOR) - np.log(probabilities.sum(axis=-1) + LOG_FLOOR)
    return confidence


def example_epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return the epsilon of every forget example: how well thresholds tell unlearned from retrained models.

    unlearned, retrained: confidences (n_models, n_examples), float64, finite, equally many models.
    Returns (n_examples,) in [0, 50]; NaN = unresolved, where the released code stops because every threshold was
    discarded. Two equal distributions give 1.4-1.6 at the median, not 0: a maximum over many thresholds.
    Raises ValueError on another shape or on a confidence that is not finite.
    """
    unlearned, retrained = np.asarray(unlearned, np.float64), np.asarray(retrained, np.float64)
    if unlearned.ndim != 2 or unlearned.shape != retrained.shape or 0 in unlearned.shape:
        raise ValueError(
            "the official metric needs two arrays (n_models, n_examples) of one shape, "
            f"not {unlearned.shape} and {retrained.shape}"
        )
    for name, array in (("unlearned", unlearned), ("retrained", retrained)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} model {int(np.argwhere(~np.isfinite(array))[0, 0])} has a non-finite confidence")
    n_models, n_examples = unlearned.shape
    n_parts = min(n_examples, 1 + 2 * n_models * n_examples // CONFIDENCES_AT_ONCE)
    parts = np.array_split(np.arange(n_examples), n_parts)
    return np.concatenate([_epsilons(*(np.sort(side[:, part].T) for side in (unlearned, retrained))) for part in parts])


def example_credits(epsilons: np.ndarray, n_models: int) -> np.ndarray:
    """Return the credit of every example in [0, 1]: 1, 1/2, 1/4, ... per half unit of epsilon; NaN stays NaN."""
    epsilons = np.asarray(epsilons, np.float64)
    bucket = np.floor(epsilons / BUCKET)
    return np.where(np.isnan(epsilons), np.nan, np.where(bucket < bucket_count(n_models), 2.0**-bucket, 0.0))


def bucket_count(n_models: int) -> int:
    """Return how many buckets of epsilon give credit: they end at ceil(log(n_models - 1)), as in the released code.

    The technical report prints 13 buckets for any N.
    """
    return 2 * int(np.ceil(np.log(n_models - 1))) if n_models > 1 else 0


def forgetting_quality(epsilons: np.ndarray, n_models: int) -> float:
    """Return F, the mean credit of the resolved examples, in [0, 1]; NaN if none is resolved.

    epsilons: (n_examples,). n_models: of each side. A perfect unlearner scores about 0.1-0.2, not 1: read F
    beside its ceiling.
    """
    credits_ = example_credits(epsilons, n_models)
    resolved = credits_[~np.isnan(credits_)]
    return float(resolved.mean()) if len(resolved) else float("nan")


def published_quality(epsilons: np.ndarray, n_models: int) -> float | None:
    """Return F, or None where more than 1 % of the examples are unresolved: then it is withheld."""
    unresolved = np.isnan(epsilons).sum()
    return None if unresolved > MAX_UNRESOLVED * len(epsilons) else forgetting_quality(epsilons, n_models)


def final_score(quality: float, retain_ratio: float, test_ratio: float) -> float:
    """Return F x retain ratio x test ratio, the ratios not clipped, as in 2023."""
    return quality * retain_ratio * test_ratio


def _epsilons(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return the epsilons of examples, (n_examples,), from sorted confidences (n_examples, n_models)."""
    swap = (_medians(retrained) > _medians(unlearned))[:, None]
    positive, negative = np.where(swap, retrained, unlearned), np.where(swap, unlearned, retrained)
    positive_range, negative_range = (side[:, -1] - side[:, 0] for side in (positive, negative))
    narrower, wider = np.minimum(positive_range, negative_range), np.maximum(positive_range, negative_range)
    epsilons = np.full(len(positive), EPSILON_CAP)
    compared = (wider == 0) | (narrower / np.where(wider > 0, wider, 1.0) >= PEAKY_RATIO)
    pooled = Pooled.of(positive[compared], negative[compared])
    found = single_threshold_epsilons(pooled)
    raise_by_intervals(pooled.exchanged((positive_range >= negative_range)[compared]), found)
    epsilons[compared] = np.where(found == NONE, np.nan, found)
    return epsilons


def _medians(values: np.ndarray) -> np.ndarray:
    """Return the medians (n_examples,) of sorted values (n_examples, n)."""
    n = values.shape[1]
    return np.asarray((values[:, (n - 1) // 2] + values[:, n // 2]) / 2)
