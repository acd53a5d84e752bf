"""From stored outputs to a score: forgetting quality x utility, between its floor and its ceiling.

The official score does not run from 0 to 1: models retrained without the forget set, scored as if they were a
submission, get 0.1-0.2 (the ceiling), and the original model left as it is gets the floor. The calibrated score
divides the ceiling out: a smooth forgetting quality Q over that of retrained models, times the two accuracy ratios
clipped at 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import numpy as np

from harness.scoring.epsilons import default_min_count, min_count_epsilons, smooth_quality
from harness.scoring.official import (
    EPSILON_CAP,
    example_epsilons,
    final_score,
    forgetting_quality,
    logit_scaled_confidence,
    published_quality,
)
from harness.scoring.uncertainty import half_samples

__all__ = [
    "MIN_HALVED",
    "SCORER_VERSION",
    "HalfSamples",
    "Official",
    "Outputs",
    "Score",
    "calibrated_quality",
    "calibrated_score",
    "half_sample_min_count",
    "half_sample_qualities",
    "half_sample_rows",
    "half_sample_scores",
    "min_count_quality",
    "official_score",
    "score",
]

SCORER_VERSION = "6"
CONFIDENCES_AT_ONCE = 50_000  # of either side, for the processor's cache
MIN_HALVED = 8  # models a side: of half of fewer, hardly a region is left whose epsilon varies


@dataclass(frozen=True)
class Outputs:
    """What is scored of n models."""

    confidences: np.ndarray  # (n, n_forget) logit-scaled confidences of the forget examples' true classes
    retain_accuracy: np.ndarray  # (n,)
    test_accuracy: np.ndarray  # (n,)
    original: np.ndarray  # (n,) which original each started from; -1 for none

    def __len__(self) -> int:
        return len(self.retain_accuracy)

    def __getitem__(self, rows: np.ndarray | slice) -> "Outputs":
        """Return the outputs of some models."""
        return Outputs(
            self.confidences[rows], self.retain_accuracy[rows], self.test_accuracy[rows], self.original[rows]
        )

    @classmethod
    def concatenate(cls, first: "Outputs", second: "Outputs") -> "Outputs":
        """Return the outputs of both, one after the other."""
        pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(cls)]
        return cls(*(np.concatenate(pair) for pair in pairs))

    @classmethod
    def of(
        cls,
        forget_logits: np.ndarray,
        labels: np.ndarray,
        *,
        retain_accuracy: np.ndarray,
        test_accuracy: np.ndarray,
        original: np.ndarray,
    ) -> "Outputs":
        """Return outputs from logits (n, n_forget, n_classes) and labels (n_forget,)."""
        confidences = np.stack([logit_scaled_confidence(logits, labels) for logits in forget_logits])
        return cls(confidences, retain_accuracy, test_accuracy, original)


@dataclass(frozen=True)
class Score:
    """The official score and its parts; None where too many examples are unresolved."""

    score: float | None
    forgetting_quality: float | None
    smooth_quality: float  # Q of min-count epsilons, in (0, 1]
    retain_ratio: float
    test_ratio: float
    median_epsilon: float | None
    unresolved: int  # examples every threshold of which was discarded
    perfectly_separated: int  # examples that tell the two sides apart without error
    n_models: int


def score(unlearned: Outputs, retrained: Outputs) -> Score:
    """Score n unlearned models against n retrained ones. Raises ValueError if the two sides differ in number."""
    epsilons = example_epsilons(unlearned.confidences, retrained.confidences)
    resolved = epsilons[~np.isnan(epsilons)]
    quality = published_quality(epsilons, len(unlearned))
    retain_ratio, test_ratio = _ratios(unlearned, retrained)
    return Score(
        score=None if quality is None else final_score(quality, retain_ratio, test_ratio),
        forgetting_quality=quality,
        smooth_quality=min_count_quality(unlearned, retrained),
        retain_ratio=retain_ratio,
        test_ratio=test_ratio,
        median_epsilon=float(np.median(resolved)) if len(resolved) else None,
        unresolved=len(epsilons) - len(resolved),
        perfectly_separated=int((resolved == EPSILON_CAP).sum()),
        n_models=len(unlearned),
    )


class Official(NamedTuple):
    """An official score for means and noise, which need a number even where a score would be withheld."""

    score: float  # over the examples that are resolved; 0 where none is
    withheld: bool  # whether too many examples are unresolved for a score


def official_score(unlearned: Outputs, retrained: Outputs) -> Official:
    """Return the official score alone."""
    epsilons = example_epsilons(unlearned.confidences, retrained.confidences)
    withheld = published_quality(epsilons, len(unlearned)) is None
    return Official(_over_resolved(epsilons, _ratios(unlearned, retrained), len(unlearned)), withheld)


def min_count_quality(unlearned: Outputs, retrained: Outputs) -> float:
    """Return Q, the smooth forgetting quality, of some models."""
    return smooth_quality(min_count_epsilons(unlearned.confidences, retrained.confidences))


def calibrated_score(score: Score, ceiling_quality: float) -> float:
    """Return Q / Q* x min(1, retain ratio) x min(1, test ratio), Q* being that of the ceiling.

    1 is what retraining gets, up to noise; the first factor is not clipped, so that a value above 1 shows.
    """
    return _calibrated(score.smooth_quality, ceiling_quality, score.retain_ratio, score.test_ratio)


def calibrated_quality(unlearned: Outputs, retrained: Outputs, ceiling_quality: float) -> float:
    """Return the calibrated score alone, without the official one."""
    return _calibrated(min_count_quality(unlearned, retrained), ceiling_quality, *_ratios(unlearned, retrained))


@dataclass(frozen=True)
class HalfSamples:
    """A submission's scores on half-samples of its models and of the reference, each (n_samples,)."""

    score: np.ndarray
    smooth_quality: np.ndarray
    calibrated_score: np.ndarray


def half_sample_min_count(n: int) -> float:
    """Return the k of half-samples of n models, whole or not: the same share of them as k is of n.

    With as large a k as all models have, half of few models would hardly tell the sides apart, and Q hardly spread.
    """
    return default_min_count(n) * (n // 2) / n


def half_sample_rows(unlearned: Outputs, n_retrained: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of half-samples of either side, (n_samples, n // 2) each.

    Those of the reference are the same for all submissions. The two are drawn apart even where both have one stratum.
    """
    return half_samples(unlearned.original, seed=seed + 1), half_samples(np.zeros(n_retrained, int), seed=seed)


def half_sample_qualities(unlearned: Outputs, retrained: Outputs, *, seed: int = 0) -> np.ndarray:
    """Return Q on the half-samples of a score, (n_samples,), without the slower official score."""
    return _half_sample_qualities(unlearned, retrained, *half_sample_rows(unlearned, len(retrained), seed=seed))


def _half_sample_qualities(unlearned: Outputs, retrained: Outputs, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    epsilons = partial(min_count_epsilons, min_count=half_sample_min_count(len(retrained)))
    of_samples = _of_half_samples(epsilons, unlearned, retrained, ours, theirs)
    return np.array([smooth_quality(sample) for sample in of_samples])


def half_sample_scores(unlearned: Outputs, retrained: Outputs, ceiling_quality: float, *, seed: int = 0) -> HalfSamples:
    """Score half-samples of both sides, stratified by original; for the spread only, never for a score.

    The half-samples of the reference depend on the seed and on n alone, so that two submissions are compared on the
    same ones. ceiling_quality: Q* of all models; one of each half-sample would be other noise, not the same again. Both
    sides have at least MIN_HALVED models.
    """
    ours, theirs = half_sample_rows(unlearned, len(retrained), seed=seed)
    official = _of_half_samples(example_epsilons, unlearned, retrained, ours, theirs)
    ratios = [_ratios(unlearned[u], retrained[r]) for u, r in zip(ours, theirs, strict=True)]
    qualities = _half_sample_qualities(unlearned, retrained, ours, theirs)
    return HalfSamples(
        score=np.array([_over_resolved(*half, ours.shape[1]) for half in zip(official, ratios, strict=True)]),
        smooth_quality=qualities,
        calibrated_score=np.array(
            [_calibrated(q, ceiling_quality, *pair) for q, pair in zip(qualities, ratios, strict=True)]
        ),
    )


def _of_half_samples(
    epsilons: Callable[[np.ndarray, np.ndarray], np.ndarray],
    unlearned: Outputs,
    retrained: Outputs,
    ours: np.ndarray,
    theirs: np.ndarray,
) -> np.ndarray:
    """Return the epsilons of half-samples (n_samples, n_examples), from the rows of each: ours and theirs.

    Of few examples several half-samples are computed together, as one with so many more examples.
    """
    n_samples, n_examples = len(ours), unlearned.confidences.shape[1]
    n_parts = min(n_samples, 1 + ours.size * n_examples // CONFIDENCES_AT_ONCE)
    n_cuts = min(n_examples, 1 + ours.shape[1] * n_examples // CONFIDENCES_AT_ONCE)
    found = np.empty((n_samples, n_examples))
    for examples in np.array_split(np.arange(n_examples), n_cuts):
        sides = [side.confidences[:, examples] for side in (unlearned, retrained)]
        for samples in np.array_split(np.arange(n_samples), n_parts):
            rows = zip(sides, (ours[samples], theirs[samples]), strict=True)
            both = (np.concatenate(side[halves], axis=1) for side, halves in rows)
            found[np.ix_(samples, examples)] = epsilons(*both).reshape(len(samples), -1)
    return found


def _over_resolved(epsilons: np.ndarray, ratios: tuple[float, float], n_models: int) -> float:
    quality = forgetting_quality(epsilons, n_models)
    return 0.0 if np.isnan(quality) else final_score(quality, *ratios)


def _calibrated(quality: float, ceiling_quality: float, retain_ratio: float, test_ratio: float) -> float:
    return quality / ceiling_quality * min(1.0, retain_ratio) * min(1.0, test_ratio)


def _ratios(unlearned: Outputs, retrained: Outputs) -> tuple[float, float]:
    """Return retain ratio and test ratio."""
    return (
        _ratio(unlearned.retain_accuracy, retrained.retain_accuracy),
        _ratio(unlearned.test_accuracy, retrained.test_accuracy),
    )


def _ratio(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Return the ratio of mean accuracies; 1 where retrained models get nothing right, and so have no use to lose."""
    usual = retrained.mean()
    return float(unlearned.mean() / usual) if usual > 0 else 1.0
