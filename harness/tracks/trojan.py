"""The trigger of a poisoned track, as it is put onto images."""

import numpy as np

from harness.tracks.declaration import Trojan

__all__ = ["fits", "with_trigger"]


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
