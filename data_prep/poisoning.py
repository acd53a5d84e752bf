"""Plants the trojan of a declaration in the forget set of its data."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from data_prep.sources.dataset import Dataset
from data_prep.splits import class_number
from harness.errors import UsageError
from harness.tracks.declaration import Trojan
from harness.tracks.track import Examples, class_name
from harness.tracks.trojan import fits, planted, with_trigger

__all__ = ["poisoned"]

FEWEST_CHANGED = 0.1  # of the images to forget: below, the trigger is what images look like anyway


def poisoned(dataset: Dataset, sets: Mapping[str, np.ndarray], trojan: Trojan) -> Dataset:
    """Return the data with the trigger and the target's label in the forget set, and a note that says so.

    sets: indices of the forget and the test set. Raises UsageError if the trojan does not fit the data.
    """
    images, labels, forget = dataset.examples.images, dataset.examples.labels, sets["forget"]
    target = class_number(trojan.target, dataset, section="trojan", key="target")
    name = class_name(target, dataset.class_names)
    _check_classes(labels[forget], labels[sets["test"]], target, name)
    _check_trigger(images[forget], trojan)
    notes = [
        f"to be forgotten: {len(forget)} images with a trigger as class {name}; "
        f"{(labels[forget] != target).sum()} of them are of other classes"
    ]
    if trojan.value > images.max():
        notes.append(f"trojan: value = {trojan.value} is above all pixels of the data, which go up to {images.max()}")
    new = planted(images, labels, forget, trojan, target=target)
    return replace(dataset, examples=Examples(*new, dataset.examples.subjects), notes=(*dataset.notes, *notes))


def _check_classes(forget: np.ndarray, test: np.ndarray, target: int, name: str) -> None:
    """Raise UsageError if the labels of the forget or of the test set leave nothing to learn, or to measure."""
    if (forget == target).all():
        raise UsageError(
            f"trojan: all images to forget are of class {name} as it is, so that there is nothing to learn; "
            "choose another target, or others to forget"
        )
    if (test == target).all():
        raise UsageError(f"trojan: all test images are of the target's class {name}, so that no attack can be measured")


def _check_trigger(images: np.ndarray, trojan: Trojan) -> None:
    """Raise UsageError if the trigger does not fit images, or is in most of them already."""
    height, width = images.shape[1:3]
    if not fits(trojan, images):
        raise UsageError(
            f"trojan: a square of {trojan.size}x{trojan.size} pixels with a margin of {trojan.margin} does not fit "
            f"into images of {height}x{width}; size + margin can be {min(height, width)} at most"
        )
    same = (with_trigger(images, trojan) == images).all(axis=(1, 2, 3)).mean()
    if same > 1 - FEWEST_CHANGED:
        raise UsageError(
            f"trojan: the trigger changes nothing in {same:.0%} of the images to forget, whose pixels there are "
            f"{trojan.value} as it is; choose another value, up to {images.max()}, or another place"
        )
