"""Ways to score well without unlearning better, applied to the confidences of models that are retrained.

Each is what a submission could do to its outputs if it had retrained models: none of them forgets more, and some gain
on the official score, which discards every threshold beyond the unlearned models' range. What they leave behind is what
alarms look for; `harness leaderboard selfcheck` asks whether they find it on a track's own models.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["GAMES", "Game"]

Game = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # confidences (n, n_examples) -> the same, gamed

BUMP = 0.9  # share of the runs that all say the same
JITTER = 1e-3  # of a standard deviation
TEETH = 3  # per standard deviation


def _clipped(at: float) -> Game:
    """Clip at so many standard deviations of every example."""

    def game(confidences: np.ndarray, _: np.random.Generator) -> np.ndarray:
        middle, sd = np.median(confidences, axis=0), np.std(confidences, axis=0)
        return np.asarray(np.clip(confidences, middle - at * sd, middle + at * sd))

    return game


def _coordinated(confidences: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Give every run a quantile of its own, so that together they fit better than independent runs can."""
    n = len(confidences)
    quantiles = (np.arange(n) + 0.5) / n
    return np.asarray(generator.permuted(np.quantile(confidences, quantiles, axis=0), axis=0))


def _clipped_and_coordinated(confidences: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Do both, at 1.5 standard deviations."""
    return _clipped(1.5)(_coordinated(confidences, generator), generator)


def _bump(confidences: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Give nine runs in ten the median, up to a jitter."""
    middle, sd = np.median(confidences, axis=0), np.std(confidences, axis=0)
    same = middle + JITTER * sd * generator.normal(size=confidences.shape)
    return np.where(generator.uniform(size=confidences.shape) < BUMP, same, confidences)


def _comb(confidences: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Round to thirds of a standard deviation."""
    step = np.std(confidences, axis=0) / TEETH
    return np.asarray(np.round(confidences / step) * step)


GAMES: dict[str, Game] = {
    "clipped at 2 sd": _clipped(2),
    "clipped at 1.5 sd": _clipped(1.5),
    "clipped at 1 sd": _clipped(1),
    "coordinated runs": _coordinated,
    "clipped and coordinated": _clipped_and_coordinated,
    "bump": _bump,
    "comb": _comb,
}
