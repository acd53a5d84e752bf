"""How far two preparations of one track differ: the same seeds on another machine round differently."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.record import Records
from harness.scoring.official import logit_scaled_confidence

__all__ = ["Drift", "drift"]


@dataclass(frozen=True)
class Drift:
    """Differences between two references."""

    n_models: int
    identical: int  # models with the same weights, bit for bit
    confidence_shift: float  # largest change of a forget example's mean confidence, in standard deviations over models
    test_accuracy: float  # change of the mean
    is_same_size: bool = True  # of the pools; scores are against all of a pool

    def __str__(self) -> str:
        if self.identical == self.n_models:
            return (
                f"all {self.n_models} retrained models are the same as before, and stored scores still hold"
                if self.is_same_size
                else f"the {self.n_models} retrained models of both preparations are the same, but the pools have "
                "another size now, so submissions are scored anew"
            )
        return (
            f"{self.n_models - self.identical} of {self.n_models} retrained models differ from those before (mean "
            f"confidences of forget examples by up to {self.confidence_shift:.2f} standard deviations, mean test "
            f"accuracy by {self.test_accuracy:+.4f}), so stored scores are out of date; make them anew: "
            "harness evaluate FILE, or harness leaderboard run FOLDER"
        )


def drift(before: Sequence[Records], after: Sequence[Records], forget_labels: np.ndarray) -> Drift:
    """Return how retrained models differ from those of an earlier preparation of the same data and split.

    before, after: the models of each pool. The pools may have other sizes now: what both preparations made is compared.
    """
    n_models = min(len(pool) for pool in (*before, *after))
    old, new = (Records.concatenate(pool[:n_models] for pool in pools) for pools in (before, after))
    confidences = [
        np.stack([logit_scaled_confidence(logits, forget_labels) for logits in records.forget_logits])
        for records in (old, new)
    ]
    shift = np.abs(confidences[0].mean(0) - confidences[1].mean(0)) / confidences[0].std(0)
    return Drift(
        n_models=len(new),
        identical=int(np.isin(new.weights_sha256, old.weights_sha256).sum()),
        confidence_shift=float(shift.max()),
        test_accuracy=float(new.accuracy_on("test").mean() - old.accuracy_on("test").mean()),
        is_same_size=len(before[0]) == len(after[0]),
    )
