"""The size of the batches that submissions get: many nets cannot be trained on a last batch of one example."""

import itertools
from collections.abc import Collection

__all__ = ["without_single"]


def without_single(batch_size: int, sizes: Collection[int]) -> int:
    """Return the nearest size from this one on that leaves no last batch of one in sets of several examples."""
    several = [size for size in sizes if size > 1]
    return next(each for each in itertools.count(batch_size) if all(size % each != 1 for size in several))
