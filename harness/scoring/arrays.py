"""The official metric on arrays from anywhere: what `harness score` computes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from harness.scoring.official import example_epsilons, final_score, published_quality
from harness.scoring.sides import ACCURACIES, Side, confidences, read_side

__all__ = ["confidences", "score_arrays"]

LARGEST_RATIO = 2.0  # of accuracies; above it the retrained models hardly know the data
INSTEAD = {"logits": "their logarithms, which are logits", "confidence": "log p - log(1 - p)"}  # of probabilities


def score_arrays(
    unlearned: Mapping[str, np.ndarray],
    retrained: Mapping[str, np.ndarray],
    *,
    names: tuple[str, str] = ("unlearned", "retrained"),
    announce: Callable[[str], object] = lambda sentence: None,
) -> dict[str, float | None]:
    """Return forgetting quality, epsilons and, where both sides give accuracies, the final score.

    names: of the sides, in messages. announce: hears of what looks wrong, and may be right. Raises ValueError if the
    arrays are not what they are called, or do not fit each other.
    """
    ours, theirs = read_side(unlearned, names[0]), read_side(retrained, names[1])
    _check_comparable(ours, theirs)
    ratios = _ratios(ours, theirs)
    for doubt in (*ours.doubts, *theirs.doubts, *_doubts(ours, theirs, ratios)):
        announce(doubt)
    epsilons = example_epsilons(ours.confidences, theirs.confidences)
    quality = published_quality(epsilons, len(ours.confidences))
    is_whole = quality is not None and len(ratios) == len(ACCURACIES)
    return {
        "n_models": len(ours.confidences),
        "n_examples": len(epsilons),
        "unresolved": int(np.isnan(epsilons).sum()),
        "median_epsilon": None if np.isnan(epsilons).all() else float(np.nanmedian(epsilons)),
        "forgetting_quality": quality,
        "retain_ratio": ratios.get("retain_accuracy"),
        "test_ratio": ratios.get("test_accuracy"),
        "score": final_score(quality or 0.0, *ratios.values()) if is_whole else None,
    }


def _ratios(ours: Side, theirs: Side) -> dict[str, float]:
    """Return the ratios of the accuracies that both sides have. Raises ValueError if there is none."""
    ratios = {}
    for name in ACCURACIES:
        if name in ours.accuracies and name in theirs.accuracies:
            whole = float(np.mean(theirs.accuracies[name]))
            if not whole:
                raise ValueError(f"{theirs.name}: `{name}` is 0 throughout; there is no ratio to retrained models")
            ratios[name] = float(np.mean(ours.accuracies[name]) / whole)
    return ratios


def _check_comparable(ours: Side, theirs: Side) -> None:
    """Raise ValueError if two sides are not of the same examples, of as many models, in the same units."""
    both = f"{ours.name} and {theirs.name}"
    shapes = ours.confidences.shape, theirs.confidences.shape
    if shapes[0] != shapes[1]:
        swapped = "; in one of them models and examples are swapped" if shapes[0] == shapes[1][::-1] else ""
        raise ValueError(
            f"{both}: the official metric needs two arrays (n_models, n_examples) of one shape, "
            f"not {shapes[0]} and {shapes[1]}{swapped or '; give as many models, of the same examples'}"
        )
    if None not in (ours.n_classes, theirs.n_classes) and ours.n_classes != theirs.n_classes:
        raise ValueError(f"{both}: `logits` are of {ours.n_classes} and of {theirs.n_classes} classes, not of the same")
    if ours.labels is not None and theirs.labels is not None and (ours.labels != theirs.labels).any():
        example = int(np.argmax(ours.labels != theirs.labels))
        reordered = Counter(ours.labels.tolist()) == Counter(theirs.labels.tolist())
        raise ValueError(
            f"{both}: `labels` of example {example} are {ours.labels[example]} and {theirs.labels[example]}; "
            f"{'put the examples of both in one order' if reordered else 'give the same examples on both sides'}"
        )
    for side, other in ((ours, theirs), (theirs, ours)):
        if side.probabilities is not None and other.probabilities is None:
            raise ValueError(
                f"{side.name}: `{side.probabilities}` holds probabilities, and {other.name} does not; "
                f"give {INSTEAD[side.probabilities]}"
            )


def _doubts(ours: Side, theirs: Side, ratios: Mapping[str, float]) -> Iterator[str]:
    """Yield what looks wrong with two sides that can be compared, in sentences."""
    both = f"{ours.name} and {theirs.name}"
    if ours.probabilities is not None and theirs.probabilities is not None:
        held = " and ".join(sorted({ours.probabilities, theirs.probabilities}))
        remedy = " or ".join(INSTEAD[each] for each in sorted({ours.probabilities, theirs.probabilities}))
        yield f"{both}: `{held}` holds probabilities, and is scored as if it did not; give {remedy}"
    shared = {model.tobytes() for model in ours.confidences} & {model.tobytes() for model in theirs.confidences}
    if shared:
        yield f"{both}: {len(shared)} models are on both sides; models that are compared with themselves show nothing"
    for name in ACCURACIES:
        if (name in ours.accuracies) != (name in theirs.accuracies):
            yield f"{both}: `{name}` is on one side only, and without it on both there is no final score"
    for name, ratio in ratios.items():
        if ratio > LARGEST_RATIO:
            yield f"{both}: `{name}` is {ratio:.3g} times that of retrained models; is it of the same set, in one unit?"
