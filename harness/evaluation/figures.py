"""The figures of a score: what scoring says of a set of models, beside the ends of its scale."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

__all__ = ["RANKING", "Figures", "Interval", "Part", "round_off"]

Interval = tuple[float, float]
RANKING = {"calibrated": "calibrated_score", "official": "score"}  # the figure that ranks, by what a track says


class Part(BaseModel):
    """A part of a score file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figures(Part):
    """What is known of a score; None for the rest. `harness.report.score_columns` says how each is shown."""

    calibrated_score: float | None
    calibrated_interval: Interval | None
    score: float | None  # official, of 2023
    score_interval: Interval | None
    forgetting_quality: float | None
    retain_ratio: float | None
    test_ratio: float | None
    ceiling: float | None  # official score of retrained models
    ceiling_interval: Interval | None
    floor: float | None  # official score of original models left as they are
    share_of_limit: float | None  # mean of seconds over the time limit, of several requests that of the slowest

    MIDDLES: ClassVar[Mapping[str, str]] = {
        "calibrated_interval": "calibrated_score",
        "score_interval": "score",
        "ceiling_interval": "ceiling",
    }
    NEVER_ROUNDED: ClassVar = ("share_of_limit",)  # it says nothing of the forget set

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> "Figures":
        """Return the figures among some values, by their names; those that are not there are unknown."""
        return Figures(**{name: known.get(name) for name in Figures.model_fields})

    @classmethod
    def single(cls) -> list[str]:
        """Return the names of all that are no intervals."""
        return [name for name in Figures.model_fields if name not in cls.MIDDLES]

    @property
    def share_of_ceiling(self) -> float | None:
        """The official score over that of retrained models."""
        return None if self.score is None or not self.ceiling else self.score / self.ceiling

    def rounded(self, digits: int) -> Self:
        """Return figures that say no more than so many digits.

        Intervals are those of the rounded figure, their width rounded up: their ends would say more than their middle.
        """
        values: dict[str, object] = {}
        for name in set(self.single()) - set(self.NEVER_ROUNDED):
            values[name] = round_off(getattr(self, name), digits)
        for name, middle in self.MIDDLES.items():
            ends, value = getattr(self, name), round_off(getattr(self, middle), digits)
            if ends is not None and value is not None:
                reach = math.ceil((ends[1] - ends[0]) / 2 * 10**digits) / 10**digits
                values[name] = (round_off(value - reach, digits), round_off(value + reach, digits))
        return self.model_copy(update=values)


def round_off(value: float | None, digits: int | None) -> float | None:
    """Return a value with so many digits; None for either leaves it."""
    return value if value is None or digits is None else round(value, digits) + 0.0  # without the sign of -0.0
