"""The official metric on arrays from anywhere: what `harness score` computes."""

from collections.abc import Mapping

import numpy as np

from harness.scoring.official import example_epsilons, final_score, logit_scaled_confidence, published_quality

__all__ = ["confidences", "score_arrays"]


def confidences(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return confidences (n_models, n_examples) from `confidence`, or from `logits` and `labels`.

    Raises ValueError if there are neither.
    """
    if "confidence" in arrays:
        return np.asarray(arrays["confidence"], np.float64)
    if "logits" in arrays and "labels" in arrays:
        logits, labels = arrays["logits"], arrays["labels"]
        if logits.ndim != 3 or labels.shape != logits.shape[1:2]:
            raise ValueError(
                f"logits must be (n_models, n_examples, n_classes) and labels (n_examples,), "
                f"not {logits.shape} and {labels.shape}"
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[2]:
            raise ValueError(f"labels must be integers from 0 to {logits.shape[2] - 1}")
        return np.stack([logit_scaled_confidence(model, labels) for model in logits])
    raise ValueError("it holds neither `confidence` nor `logits` and `labels`")


def score_arrays(unlearned: Mapping[str, np.ndarray], retrained: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return forgetting quality, epsilons and, where both sides give accuracies, the final score.

    Raises ValueError if the arrays do not fit each other.
    """
    ours, theirs = confidences(unlearned), confidences(retrained)
    epsilons = example_epsilons(ours, theirs)
    quality = published_quality(epsilons, len(ours))
    ratios = {
        f"{name}_ratio": float(np.mean(unlearned[f"{name}_accuracy"]) / np.mean(retrained[f"{name}_accuracy"]))
        for name in ("retain", "test")
        if f"{name}_accuracy" in unlearned and f"{name}_accuracy" in retrained
    }
    both = len(ratios) == 2
    return {
        "n_models": len(ours),
        "n_examples": len(epsilons),
        "unresolved": int(np.isnan(epsilons).sum()),
        "median_epsilon": None if np.isnan(epsilons).all() else float(np.nanmedian(epsilons)),
        "forgetting_quality": quality,
        "retain_ratio": ratios.get("retain_ratio"),
        "test_ratio": ratios.get("test_ratio"),
        "score": final_score(quality, ratios["retain_ratio"], ratios["test_ratio"])
        if both and quality is not None
        else None,
    }
