"""From stored outputs to a score: forgetting quality x utility, between its floor and its ceiling.

The score is the official one of 2023. It does not run from 0 to 1: models retrained without the forget set, scored as
if they were a submission, get 0.1-0.2 (the ceiling), and the original model left as it is gets the floor. Both are
computed from the reference with the same number of models as the submission has runs.
"""

from dataclasses import dataclass

import numpy as np

from harness.scoring.official import (
    EPSILON_CAP,
    example_epsilons,
    final_score,
    forgetting_quality,
    logit_scaled_confidence,
)

__all__ = ["SCORER_VERSION", "Outputs", "Score", "score"]

SCORER_VERSION = "1"
MAX_UNRESOLVED = 0.01  # above this share F is withheld


@dataclass(frozen=True)
class Outputs:
    """What is scored of n models."""

    forget_logits: np.ndarray  # (n, n_forget, n_classes)
    retain_accuracy: np.ndarray  # (n,)
    test_accuracy: np.ndarray  # (n,)

    def __len__(self) -> int:
        return len(self.retain_accuracy)


@dataclass(frozen=True)
class Score:
    """The official score and its parts; None where too many examples are unresolved."""

    score: float | None
    forgetting_quality: float | None
    retain_ratio: float
    test_ratio: float
    median_epsilon: float | None
    unresolved: int  # examples every threshold of which was discarded
    perfectly_separated: int  # examples that tell the two sides apart without error
    n_models: int


def score(unlearned: Outputs, retrained: Outputs, forget_labels: np.ndarray) -> Score:
    """Score n unlearned models against n retrained ones.

    forget_labels: (n_forget,). Raises ValueError if the two sides differ in number.
    """
    epsilons = example_epsilons(_confidences(unlearned, forget_labels), _confidences(retrained, forget_labels))
    resolved = epsilons[~np.isnan(epsilons)]
    withheld = len(epsilons) - len(resolved) > MAX_UNRESOLVED * len(epsilons)
    quality = None if withheld else forgetting_quality(epsilons, len(unlearned))
    retain_ratio = float(unlearned.retain_accuracy.mean() / retrained.retain_accuracy.mean())
    test_ratio = float(unlearned.test_accuracy.mean() / retrained.test_accuracy.mean())
    return Score(
        score=None if quality is None else final_score(quality, retain_ratio, test_ratio),
        forgetting_quality=quality,
        retain_ratio=retain_ratio,
        test_ratio=test_ratio,
        median_epsilon=float(np.median(resolved)) if len(resolved) else None,
        unresolved=len(epsilons) - len(resolved),
        perfectly_separated=int((resolved == EPSILON_CAP).sum()),
        n_models=len(unlearned),
    )


def _confidences(outputs: Outputs, labels: np.ndarray) -> np.ndarray:
    """Return confidences (n_models, n_forget)."""
    return np.stack([logit_scaled_confidence(logits, labels) for logits in outputs.forget_logits])
