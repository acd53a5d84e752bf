"""Ranks as ranges: submissions that these runs cannot tell apart share their places.

Comparing all K(K-1)/2 pairs would cost more power than it gains. The top is compared in full; any other submission with
those 1, 2, 3, 5, 8, ... places away, and Holm's correction is over those pairs. Two that were not compared are told
apart if two between them are, since scores fall with the place.
"""

from dataclasses import dataclass

import numpy as np

from harness.scoring.uncertainty import CONFIDENCE, difference_p_values, holm, standard_errors

__all__ = ["Places", "better_than", "places", "rank_ranges"]

TOP = 20  # each of whom is compared with every other of them
PAIRS_AT_ONCE = 10_000  # bounds memory: a pair is a row of half-samples


@dataclass(frozen=True)
class Places:
    """The places a submission may hold, 1 being the best."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_ranges(scores: np.ndarray, half_samples: np.ndarray) -> list[Places]:
    """Return every submission's places, from its score (k,) and the half-samples of it (k, n_samples).

    The half-samples are on common half-samples of the reference, so that its noise cancels in differences.
    """
    return places(better_than(scores, half_samples))


def better_than(scores: np.ndarray, half_samples: np.ndarray) -> np.ndarray:
    """Return whether submission i is significantly better than j, (k, k) bool; arguments as of `rank_ranges`."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    back = np.argsort(order)
    return _better_in_order(np.asarray(scores)[order], np.asarray(half_samples)[order])[np.ix_(back, back)]


def places(better: np.ndarray) -> list[Places]:
    """Return every submission's places, from whether submission i is better than j, (k, k) bool."""
    best, worst = 1 + better.sum(axis=0), len(better) - better.sum(axis=1)
    return [Places(int(low), int(high)) for low, high in zip(best, worst, strict=True)]


def _better_in_order(scores: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return what `better_than` does of submissions that are sorted, the best one first."""
    pairs = np.array(_pairs(len(scores)), int).reshape(-1, 2)
    blocks = np.array_split(pairs, len(pairs) // PAIRS_AT_ONCE + 1)
    errors = np.concatenate([standard_errors(halves[i] - halves[j]) for i, j in (block.T for block in blocks)])
    i, j = pairs.T
    better = np.zeros((len(scores), len(scores)), bool)
    compared = np.zeros_like(better)
    compared[i, j] = True
    better[i, j] = holm(difference_p_values(scores[i] - scores[j], errors)) < 1 - CONFIDENCE
    # If i is better than j, then all above i are better than all below j: running maxima along both axes.
    implied = np.maximum.accumulate(np.maximum.accumulate(better[::-1], axis=0)[::-1], axis=1)
    return np.where(compared, better, implied)


def _pairs(k: int) -> list[tuple[int, int]]:
    distances, following = [1], 2
    while following < k:
        distances, following = [*distances, following], following + distances[-1]
    return [(i, j) for i in range(k) for j in range(i + 1, k) if j < TOP or j - i in distances]
