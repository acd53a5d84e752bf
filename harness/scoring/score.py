"""From stored outputs to a score: forgetting quality x utility, between its floor and its ceiling.

The official score does not run from 0 to 1: models retrained without the forget set, scored as if they were a
submission, get 0.1-0.2 (the ceiling), and the original model left as it is gets the floor. The calibrated score
divides the ceiling out: a smooth forgetting quality Q over that of retrained models, times the two accuracy ratios
clipped at 1.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from harness.scoring.epsilons import min_count_epsilons, smooth_quality
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
    "SCORER_VERSION",
    "HalfSamples",
    "Outputs",
    "Score",
    "calibrated_quality",
    "calibrated_score",
    "half_sample_scores",
    "score",
]

SCORER_VERSION = "2"
MIN_HALVED = 4


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
        smooth_quality=smooth_quality(min_count_epsilons(unlearned.confidences, retrained.confidences)),
        retain_ratio=retain_ratio,
        test_ratio=test_ratio,
        median_epsilon=float(np.median(resolved)) if len(resolved) else None,
        unresolved=len(epsilons) - len(resolved),
        perfectly_separated=int((resolved == EPSILON_CAP).sum()),
        n_models=len(unlearned),
    )


def calibrated_score(score: Score, ceiling: Score) -> float:
    """Return Q / Q* x min(1, retain ratio) x min(1, test ratio).

    1 is what retraining gets, up to noise; the first factor is not clipped, so that a value above 1 shows.
    """
    return float(_calibrated(score.smooth_quality, ceiling.smooth_quality, score.retain_ratio, score.test_ratio))


def calibrated_quality(unlearned: Outputs, retrained: Outputs, ceiling_quality: float) -> float:
    """Return the calibrated score alone, without the official one; ceiling_quality: Q of the ceiling."""
    quality = smooth_quality(min_count_epsilons(unlearned.confidences, retrained.confidences))
    return float(_calibrated(quality, ceiling_quality, *_ratios(unlearned, retrained)))


@dataclass(frozen=True)
class HalfSamples:
    """A submission's scores on half-samples of its models and of the reference, each (n_samples,)."""

    score: np.ndarray
    smooth_quality: np.ndarray
    calibrated_score: np.ndarray


def half_sample_scores(
    unlearned: Outputs, retrained: Outputs, *, ceiling_quality: np.ndarray | None = None, seed: int = 0
) -> HalfSamples | None:
    """Score half-samples of both sides, stratified by original; for the spread only, never for a score.

    None below 4 models: there is no spread to speak of.

    The half-samples of the reference depend on the seed and on n alone, so that two submissions are compared on the
    same ones. ceiling_quality: Q of the ceiling on these half-samples, (n_samples,); None for the ceiling itself.
    """
    if len(unlearned) < MIN_HALVED:
        return None
    ours = half_samples(unlearned.original, seed=seed)
    theirs = half_samples(np.zeros(len(retrained), int), seed=seed)[:, : ours.shape[1]]
    values = []
    for rows, reference_rows in zip(ours, theirs, strict=True):
        u, r = unlearned[rows], retrained[reference_rows]
        official = forgetting_quality(example_epsilons(u.confidences, r.confidences, exact=False), len(u))
        smooth = smooth_quality(min_count_epsilons(u.confidences, r.confidences))
        values.append((official, smooth, *_ratios(u, r)))
    official, smooth, retain_ratio, test_ratio = np.array(values).T
    base = smooth if ceiling_quality is None else ceiling_quality
    calibrated = _calibrated(smooth, base, retain_ratio, test_ratio)
    return HalfSamples(np.nan_to_num(official) * retain_ratio * test_ratio, smooth, calibrated)


def _calibrated(quality: Any, ceiling_quality: Any, retain_ratio: Any, test_ratio: Any) -> Any:
    """Return the calibrated score of numbers, or of arrays of them."""
    return quality / ceiling_quality * np.minimum(1, retain_ratio) * np.minimum(1, test_ratio)


def _ratios(unlearned: Outputs, retrained: Outputs) -> tuple[float, float]:
    """Return retain ratio and test ratio."""
    return (
        float(unlearned.retain_accuracy.mean() / retrained.retain_accuracy.mean()),
        float(unlearned.test_accuracy.mean() / retrained.test_accuracy.mean()),
    )
