"""Ranks as ranges: submissions that these runs cannot tell apart share their places.

Comparing all K(K-1)/2 pairs would cost more power than it gains. The top is compared in full; any other submission with
those 1, 2, 3, 5, 8, ... places away, and Holm's correction is over those pairs. Two that were not compared are told
apart if two between them are, since scores fall with the place.
"""

from dataclasses import dataclass

import numpy as np

from harness.scoring.uncertainty import CONFIDENCE, difference, holm

__all__ = ["Places", "rank_ranges"]

TOP = 20  # each of whom is compared with every other of them


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
    order = np.argsort(-np.asarray(scores), kind="stable")
    better = _better(np.asarray(scores)[order], np.asarray(half_samples)[order])
    best, worst = 1 + better.sum(axis=0), len(order) - better.sum(axis=1)
    return [Places(int(best[place]), int(worst[place])) for place in np.argsort(order)]


def _better(scores: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return whether submission i is significantly better than j, (k, k); both are sorted, the best one first."""
    pairs = _pairs(len(scores))
    p_values = [difference(scores[i], scores[j], halves[i], halves[j]).p_value for i, j in pairs]
    better = np.zeros((len(scores), len(scores)), bool)
    compared = np.zeros_like(better)
    for (i, j), p_value in zip(pairs, holm(p_values), strict=True):
        compared[i, j], better[i, j] = True, p_value < 1 - CONFIDENCE
    # If i is better than j, then all above i are better than all below j: running maxima along both axes.
    implied = np.maximum.accumulate(np.maximum.accumulate(better[::-1], axis=0)[::-1], axis=1)
    return np.where(compared, better, implied)


def _pairs(k: int) -> list[tuple[int, int]]:
    distances, following = [1], 2
    while following < k:
        distances, following = [*distances, following], following + distances[-1]
    return [(i, j) for i in range(k) for j in range(i + 1, k) if j < TOP or j - i in distances]
