"""What the seeds of a study say of a claim: intervals by Student's t, Holm's correction, and one of three verdicts.

A value is what one seed found: a paired difference, a slope over cells. A claim is that the mean is above a threshold,
below it, or close to 0. Its interval decides: the claim holds if the whole interval agrees with it, is refuted if none
of it does, and is undecided if it has values of both kinds. Claims on several cells take intervals that are wide enough
for all of them (`holm_intervals`). Thresholds are fixed in the study's code before its result is looked at.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Self

import numpy as np
from scipy import stats

__all__ = [
    "Interval",
    "Verdict",
    "above",
    "all_of",
    "below",
    "holm",
    "holm_intervals",
    "p_value",
    "t_interval",
    "within",
]


class Verdict(StrEnum):
    HOLDS = "holds"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Interval:
    """A mean and where it lies at a level of confidence; `dataclasses.asdict` gives what a result stores."""

    mean: float
    low: float
    high: float
    level: float  # 0.95: two-sided, 2.5 % on either side
    n: int  # values behind the mean

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Return a stored interval; what else stands beside it is passed over."""
        return cls(*(stored[one.name] for one in fields(cls)))

    def text(self, digits: int = 2) -> str:
        """Return the interval as a table shows it."""
        return f"{self.mean:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def t_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the interval of the mean of independent values, such as differences within pairs.

    A TOST at 5 % is `within` of an interval at 0.9. Raises ValueError for fewer than two values.
    """
    mean, error = _mean_and_error(values)
    reach = error * float(stats.t.isf((1 - level) / 2, len(values) - 1))
    return Interval(mean, mean - reach, mean + reach, level, len(values))


def p_value(values: Sequence[float], *, threshold: float = 0.0) -> float:
    """Return the two-sided p of the t-test that the mean is the threshold; values all alike are taken at their word."""
    mean, error = _mean_and_error(values)
    if error == 0:
        return 1.0 if mean == threshold else 0.0
    return 2 * float(stats.t.sf(abs(mean - threshold) / error, len(values) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted by Holm's method, in their order: below 0.05 they are significant together."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    return [float(value) for value in adjusted]


def holm_intervals(cells: Sequence[Sequence[float]], *, threshold: float = 0.0, level: float = 0.95) -> list[Interval]:
    """Return the interval of each cell at its level by Holm's method: it leaves the threshold out if `holm` says so."""
    p_values = [p_value(values, threshold=threshold) for values in cells]
    alpha, levels = 1 - level, [level] * len(cells)
    left, is_stopped = len(cells), False
    for cell in np.argsort(p_values, kind="stable"):
        levels[cell] = 1 - alpha / left
        is_stopped = is_stopped or p_values[cell] > alpha / left
        left -= not is_stopped
    return [t_interval(values, level=of_cell) for values, of_cell in zip(cells, levels, strict=True)]


# ---- verdicts -----------------------------------------------------------------------------------------------------


def above(interval: Interval, threshold: float = 0.0) -> Verdict:
    """Return the verdict on the claim that the mean is above the threshold."""
    return _verdict(holds=interval.low > threshold, refuted=interval.high <= threshold)


def below(interval: Interval, threshold: float = 0.0) -> Verdict:
    """Return the verdict on the claim that the mean is below the threshold."""
    return _verdict(holds=interval.high < threshold, refuted=interval.low >= threshold)


def within(interval: Interval, margin: float) -> Verdict:
    """Return the verdict on the claim that the mean is less than the margin away from 0."""
    is_outside = interval.low >= margin or interval.high <= -margin
    return _verdict(holds=-margin < interval.low and interval.high < margin, refuted=is_outside)


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a claim on all cells: one refuted cell refutes it, else one undecided leaves it open."""
    found = set(verdicts)
    return _verdict(holds=found == {Verdict.HOLDS}, refuted=Verdict.REFUTED in found)


def _verdict(*, holds: bool, refuted: bool) -> Verdict:
    return Verdict.HOLDS if holds else Verdict.REFUTED if refuted else Verdict.UNDECIDED


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, which is 0 for values that are all alike."""
    if len(values) < 2:
        raise ValueError(f"an interval needs two values or more, not {len(values)}")
    spread = 0.0 if len(set(values)) == 1 else float(np.std(values, ddof=1))
    mean = float(values[0]) if spread == 0 else float(np.mean(values))
    return mean, spread / len(values) ** 0.5
