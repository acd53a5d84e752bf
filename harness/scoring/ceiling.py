"""The upper end of the scale: what models retrained without the forget set score against others of their kind.

A perfect unlearner scores 0.1-0.2, not 1, and how much depends on the spread of the confidences, so that every track
has a ceiling of its own. It is a mean over random splits of all retrained models into two sides, since a single split
is as noisy as a submission's score.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.scoring.score import (
    MIN_HALVED,
    Outputs,
    half_sample_min_count,
    min_count_quality,
    official_score,
    reference_halves,
)

__all__ = ["Ceiling", "ceiling"]

N_SPLITS = 20
REACH = 2.145  # deviations of 20 splits about their mean that hold 95 % of others: t(19) = 2.093 times sqrt(1 + 1 / 20)
N_HALF_SAMPLE_SPLITS = 4  # of every half-sample: there are 200 of them


@dataclass(frozen=True)
class Ceiling:
    """How retrained models score against retrained models, n a side."""

    score: float | None  # official; None where that of most perfect submissions would be withheld
    deviation: float | None  # standard deviation of the official score of one split: of one perfect submission
    smooth_quality: float  # Q*
    half_sample_qualities: np.ndarray | None  # Q* on the common half-samples, (n_samples,); None with too few models

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where 95 % of perfect submissions score."""
        if self.score is None or self.deviation is None:
            return None
        reach = REACH * self.deviation
        return self.score - reach, self.score + reach

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        qualities = self.half_sample_qualities
        return {**vars(self), "half_sample_qualities": None if qualities is None else qualities.tolist()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Ceiling":
        """Return what `to_json` returned. Raises KeyError or TypeError if it is something else."""
        qualities = stored["half_sample_qualities"]
        return cls(**{**stored, "half_sample_qualities": None if qualities is None else np.array(qualities)})


def ceiling(first_pool: Outputs, second_pool: Outputs, *, seed: int = 0) -> Ceiling:
    """Return the ceiling of two pools of n retrained models each; the first is what submissions are scored against."""
    generator = np.random.default_rng(seed)
    together = Outputs.concatenate(first_pool, second_pool)
    splits = [_split(together, generator) for _ in range(N_SPLITS)]
    official = [official_score(*split) for split in splits]
    scores = [one.score for one in official]
    withheld = np.mean([one.withheld for one in official]) > 0.5
    return Ceiling(
        score=None if withheld else float(np.mean(scores)),
        deviation=None if withheld else float(np.std(scores, ddof=1)),
        smooth_quality=float(np.mean([min_count_quality(*split) for split in splits])),
        half_sample_qualities=_half_sample_qualities(first_pool, second_pool, generator),
    )


def _half_sample_qualities(
    first_pool: Outputs, second_pool: Outputs, generator: np.random.Generator
) -> np.ndarray | None:
    """Return Q* from half of either pool: of the first one the halves that submissions are scored against."""
    if len(first_pool) < MIN_HALVED:
        return None
    halves = reference_halves(len(first_pool))
    others = [generator.permutation(len(second_pool))[: halves.shape[1]] for _ in halves]
    min_count = half_sample_min_count(len(first_pool))
    qualities = []
    for rows, other_rows in zip(halves, others, strict=True):
        half = Outputs.concatenate(first_pool[rows], second_pool[other_rows])
        splits = (_split(half, generator) for _ in range(N_HALF_SAMPLE_SPLITS))
        qualities.append(np.mean([min_count_quality(*split, min_count=min_count) for split in splits]))
    return np.array(qualities)


def _split(models: Outputs, generator: np.random.Generator) -> tuple[Outputs, Outputs]:
    """Return the models as two sides of equal size."""
    sides = np.array_split(generator.permutation(len(models)), 2)
    return models[sides[0]], models[sides[1]]
