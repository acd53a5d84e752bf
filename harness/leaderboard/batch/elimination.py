"""Which submissions can still reach a rank, by the noise of their scores: the others need no more runs."""

from collections.abc import Sequence

import numpy as np

__all__ = ["in_reach"]


def in_reach(intervals: Sequence[tuple[float, float]], rank: int) -> list[bool]:
    """Return for each submission whether it may be among the first `rank`.

    intervals: 95 % interval of each score. A submission is out of reach once `rank` others lie surely above it, their
    intervals not touching its own.
    """
    low = np.sort([interval[0] for interval in intervals])
    high = np.array([interval[1] for interval in intervals])
    surely_above = len(low) - np.searchsorted(low, high, side="right")
    return [bool(count < rank) for count in surely_above]
