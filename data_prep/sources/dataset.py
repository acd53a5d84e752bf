"""A whole data set, whatever it was read from."""

from dataclasses import dataclass

import numpy as np

from harness.tracks.track import Examples

__all__ = ["Dataset"]


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
