"""A whole data set, whatever it was read from."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from harness.errors import UsageError
from harness.tracks.track import Examples

__all__ = ["Dataset", "natural_order"]


@dataclass(frozen=True)
class Dataset:
    """All examples of a source; those of its own test set, if it has one, come last."""

    examples: Examples
    n_test: int = 0
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()  # sentences on what was passed over, or may not be meant

    @property
    def n_classes(self) -> int:
        """How many classes there are; some may have no example."""
        return max(int(self.examples.labels.max()) + 1, len(self.class_names or ()))

    @classmethod
    def joined(
        cls,
        train: Examples,
        test: Examples,
        class_names: tuple[str, ...] | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Dataset":
        """Return the data set of a training and a test set."""
        arrays = {name: np.concatenate([array, test.arrays()[name]]) for name, array in train.arrays().items()}
        return cls(Examples(**arrays), len(test), class_names, notes)

    def downscaled(self, factor: int) -> "Dataset":
        """Return the data set with each square of factor x factor pixels as one: their mean, a half rounded up.

        Raises UsageError if the images do not divide into such squares.
        """
        if factor == 1:
            return self
        n, height, width, channels = self.examples.images.shape
        if height % factor or width % factor:
            fit = ", ".join(str(one) for one in range(1, min(height, width) + 1) if not (height % one or width % one))
            raise UsageError(
                f"data.downscale = {factor} does not divide images of {height}x{width} pixels; one of these does: {fit}"
            )
        squares = self.examples.images.reshape(n, height // factor, factor, width // factor, factor, channels)
        area = factor * factor
        means = (squares.sum((2, 4), dtype=np.uint32) + area // 2) // area
        return replace(self, examples=replace(self.examples, images=means.astype(np.uint8)))


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in the order in which people count: 1, 2, 10 and not 1, 10, 2."""

    def key(name: str) -> tuple[list[tuple[str, int]], str]:
        parts = re.split(r"(\d+)", name)  # text and digits by turns
        return [(text, int(digits)) for text, digits in zip(parts[::2], [*parts[1::2], "-1"], strict=True)], name

    return tuple(sorted(names, key=key))
