"""One side of a comparison, read from anyone's arrays: what cannot be scored is refused, what looks wrong is doubted.

Whoever saves arrays by hand mixes up percent and share, probability and logit, models and examples. The metric would
give a number all the same, so the bounds that every array has to keep are here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.scoring.official import logit_scaled_confidence
from harness.scoring.thresholds import FEWEST_RANKED

__all__ = ["ACCURACIES", "Side", "confidences", "read_side"]

ACCURACIES = ("retain_accuracy", "test_accuracy")
ARRAYS = ("confidence", "logits", "labels", *ACCURACIES)
ROUNDING = 0.02  # by which probabilities of float16, or of two decimals, may miss their sum
FEWEST_MODELS = 3  # with fewer there is no bucket of epsilon that gives credit: F is 0 whatever they are


@dataclass(frozen=True)
class Side:
    """The models of one side, each array of them checked by itself."""

    name: str  # in messages
    confidences: np.ndarray  # (n_models, n_examples) float64, finite
    labels: np.ndarray | None  # (n_examples,)
    n_classes: int | None  # None where there are no logits
    accuracies: dict[str, np.ndarray]  # shares (n_models,), by the names of their arrays
    probabilities: str | None  # the array that holds probabilities instead of what it is called
    doubts: tuple[str, ...]  # a sentence on each thing that looks wrong, and may be right


def read_side(arrays: Mapping[str, np.ndarray], name: str) -> Side:
    """Return one side of a comparison. Raises ValueError that names the side, the array and what to do."""
    arrays = {each: np.asarray(array) for each, array in arrays.items()}
    try:
        found = confidences(arrays)
        if len(found) < FEWEST_MODELS:
            raise ValueError(
                f"it is of {len(found)} models; the metric needs {FEWEST_MODELS}, and is noise below {FEWEST_RANKED}"
            )
        labels, logits = arrays.get("labels"), arrays.get("logits")
        if labels is not None:
            _check_labels(labels, found.shape[1])
        return Side(
            name,
            found,
            labels,
            None if logits is None or logits.ndim != 3 else logits.shape[2],
            {each: _shares(arrays, each, found.shape) for each in ACCURACIES if each in arrays},
            _probabilities(arrays),
            tuple(f"{name}: {doubt}" for doubt in _doubts(arrays, found)),
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def confidences(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return confidences (n_models, n_examples) from `confidence`, or from `logits` and `labels`.

    Raises ValueError if there are neither, or if they are not of real numbers.
    """
    if "confidence" in arrays:
        return np.asarray(_numbers(arrays, "confidence", ("n_models", "n_examples")), np.float64)
    if "logits" not in arrays or "labels" not in arrays:
        held = ", ".join(f"`{each}`" for each in arrays) or "nothing"
        raise ValueError(
            f"it holds neither `confidence` nor `logits` and `labels`, but {held}; save arrays by their names, "
            "as in np.savez(file, logits=logits, labels=labels)"
        )
    labels = arrays["labels"]
    if arrays["logits"].ndim != 3 or labels.shape != arrays["logits"].shape[1:2]:
        raise ValueError(_misfit(arrays["logits"].shape, labels.shape))
    logits = _numbers(arrays, "logits", ("n_models", "n_examples", "n_classes"))
    if logits.shape[2] < 2:
        raise ValueError("`logits` has a single class; give one logit for each class, or `confidence`")
    _check_labels(labels, logits.shape[1], logits.shape[2])
    if _is_one_hot(logits):
        raise ValueError("`logits` holds decisions, one 1 in each row; give the outputs of the models before argmax")
    return np.stack([logit_scaled_confidence(model, labels) for model in logits])


# ---- what is refused -----------------------------------------------------------------------------------------------


def _numbers(arrays: Mapping[str, np.ndarray], name: str, axes: tuple[str, ...]) -> np.ndarray:
    """Return an array of finite numbers with these axes. Raises ValueError."""
    array = arrays[name]
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` is of type {array.dtype}; give real numbers")
    if array.ndim != len(axes) or 0 in array.shape:
        raise ValueError(f"`{name}` has to be ({', '.join(axes)}), not {array.shape}")
    if not np.isfinite(array).all():
        model, example = np.argwhere(~np.isfinite(array))[0, :2]
        largest = ", the largest number of float16 being 65504" if array.dtype == np.float16 else ""
        raise ValueError(f"`{name}` of model {model}, example {example} is not finite{largest}; leave that model out")
    return array


def _misfit(logits: tuple[int, ...], labels: tuple[int, ...]) -> str:
    """Return what is wrong with shapes that do not fit each other."""
    hint = ""
    if len(logits) == 3 and labels == logits[:1]:
        hint = "; the first two axes of logits seem to be swapped"
    elif len(logits) == 3 and labels == logits[1:]:
        hint = "; of labels in one-hot rows give the argmax"
    return f"logits must be (n_models, n_examples, n_classes) and labels (n_examples,), not {logits} and {labels}{hint}"


def _check_labels(labels: np.ndarray, n_examples: int, n_classes: int | None = None) -> None:
    """Raise ValueError if labels are not the numbers of the examples' classes."""
    if labels.shape != (n_examples,):
        raise ValueError(f"`labels` has to be one for each of the {n_examples} examples, not {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, not {labels.dtype}; give labels.astype(int)")
    if n_classes is not None and (labels.min() < 0 or labels.max() >= n_classes):
        raise ValueError(
            f"labels must be integers from 0 to {n_classes - 1}, and are {labels.min()} to {labels.max()}; "
            "count classes from 0"
        )


def _shares(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the accuracies of all models. Raises ValueError if they are not shares from 0 to 1, one for each."""
    array, n_models = arrays[name], shape[0]
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` is of type {array.dtype}; accuracies have to be shares from 0 to 1")
    if array.shape != (n_models,):
        swapped = "; are models and examples swapped?" if array.shape == shape[1:] else ""
        raise ValueError(f"`{name}` has to be one share for each of the {n_models} models, not {array.shape}{swapped}")
    unfit = array[~((array >= 0) & (array <= 1))]
    if len(unfit):
        remedy = "; divide percent by 100" if (unfit > 1).any() else ""
        raise ValueError(f"`{name}` holds {unfit[0]:.4g}; accuracies have to be shares from 0 to 1{remedy}")
    return array


# ---- what is doubted -----------------------------------------------------------------------------------------------


def _probabilities(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Return the name of the array that is scored if it holds probabilities, which it is not to."""
    if "confidence" in arrays:
        return "confidence" if _is_share(arrays["confidence"]) else None
    return "logits" if _is_distribution(arrays["logits"]) else None


def _is_share(array: np.ndarray) -> bool:
    return bool(((array >= 0) & (array <= 1)).all())


def _is_distribution(logits: np.ndarray) -> bool:
    """Whether all rows are probabilities of classes, as shares or in percent."""
    if (logits < 0).any():
        return False
    sums = logits.sum(axis=-1, dtype=np.float64)
    return any(bool((np.abs(sums / whole - 1) <= ROUNDING).all()) for whole in (1, 100))


def _is_one_hot(logits: np.ndarray) -> bool:
    return bool(np.isin(logits, (0, 1)).all() and (logits.sum(axis=-1, dtype=np.float64) == 1).all())


def _doubts(arrays: Mapping[str, np.ndarray], found: np.ndarray) -> list[str]:
    """Return what looks wrong with one side, in sentences."""
    doubts = []
    if unused := [f"`{each}`" for each in arrays if each not in ARRAYS]:
        doubts.append(f"{', '.join(unused)} is not used; the names that are: {', '.join(ARRAYS)}")
    n_models = len(found)
    if n_models < FEWEST_RANKED:
        doubts.append(f"{n_models} models; with fewer than {FEWEST_RANKED} the score is mostly noise")
    different = len(np.unique(found, axis=0))
    if different < n_models:
        doubts.append(f"its {n_models} models are copies: only {different} of them differ")
    scored = "confidence" if "confidence" in arrays else "logits"
    if (arrays[scored] == np.round(arrays[scored])).all():
        doubts.append(f"`{scored}` holds whole numbers only; rounded outputs tie, and the score is of the ties")
    elif scored == "logits" and _is_share(arrays[scored]) and not _is_distribution(arrays[scored]):
        doubts.append("all of `logits` lie from 0 to 1, as after a sigmoid; give what the models put out before it")
    return doubts
