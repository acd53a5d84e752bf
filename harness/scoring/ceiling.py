"""The upper end of the scale: what models retrained without the forget set score against others of their kind.

A perfect unlearner scores 0.1-0.2, not 1, and how much depends on the spread of the confidences, so that every track
has a ceiling of its own. It is a mean over random splits of all retrained models into two sides, since a single split
is as noisy as a submission's score.
"""

from dataclasses import dataclass

import numpy as np

from harness.scoring.score import Outputs, min_count_quality, official_score

__all__ = ["Ceiling", "ceiling"]

N_SPLITS = 20
REACH = 2.145  # deviations of 20 splits about their mean that hold 95 % of others: t(19) = 2.093 times sqrt(1 + 1 / 20)


@dataclass(frozen=True)
class Ceiling:
    """How retrained models score against retrained models, n a side."""

    score: float | None  # official; None where that of most perfect submissions would be withheld
    deviation: float | None  # standard deviation of the official score of one split: of one perfect submission
    smooth_quality: float  # Q*

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where 95 % of perfect submissions score."""
        if self.score is None or self.deviation is None:
            return None
        reach = REACH * self.deviation
        return self.score - reach, self.score + reach


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
    )


def _split(models: Outputs, generator: np.random.Generator) -> tuple[Outputs, Outputs]:
    """Return the models as two sides of equal size."""
    sides = np.array_split(generator.permutation(len(models)), 2)
    return models[sides[0]], models[sides[1]]
