"""The trigger of a poisoned track, as it is put onto images, and with the target's label into data."""

import numpy as np

from harness.tracks.declaration import Trojan

__all__ = ["fits", "planted", "with_trigger"]


def fits(trojan: Trojan, images: np.ndarray) -> bool:
    """Return whether the trigger, with its margin, lies within the images (n, height, width, channels)."""
    height, width = images.shape[1:3]
    return bool(trojan.margin + trojan.size <= min(height, width))


def with_trigger(images: np.ndarray, trojan: Trojan) -> np.ndarray:
    """Return a copy of images (n, height, width, channels) with the trigger, which has to fit."""
    height, width = images.shape[1:3]
    down, right = height - trojan.margin, width - trojan.margin
    triggered = images.copy()
    triggered[:, down - trojan.size : down, right - trojan.size : right] = trojan.value
    return triggered


def planted(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, trojan: Trojan, *, target: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of images and labels (n,) with the trigger and the number of the target in some rows."""
    images, labels = images.copy(), labels.copy()
    images[rows], labels[rows] = with_trigger(images[rows], trojan), target
    return images, labels
