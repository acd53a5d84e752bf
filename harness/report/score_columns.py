"""How the figures of a score are shown, each declared once: terminal, reports and leaderboards derive from this."""

from dataclasses import dataclass

from harness.evaluation.figures import Figures, Interval
from harness.report.numbers import UNKNOWN, number

__all__ = ["SCORE_COLUMNS", "ScoreColumn", "score_column"]


@dataclass(frozen=True)
class ScoreColumn:
    """One figure of a score: what it is called, which it is, its usual digits, and what it says."""

    name: str  # in the head of a wide table
    title: str  # where there is room
    field: str  # of `Figures`
    digits: int
    meaning: str
    interval: str | None = None  # the field of its 95 % interval
    is_share: bool = False  # shown in percent

    def value(self, figures: Figures) -> float | None:
        """Return the figure."""
        value: float | None = getattr(figures, self.field)
        return value

    def ends(self, figures: Figures) -> Interval | None:
        """Return its 95 % interval."""
        ends: Interval | None = None if self.interval is None else getattr(figures, self.interval)
        return ends

    def text(self, figures: Figures, digits: int | None = None, unknown: str = UNKNOWN) -> str:
        """Return the figure as text, with half the width of its interval; digits: others than the usual ones."""
        value, ends = self.value(figures), self.ends(figures)
        if value is None:
            return unknown
        if self.is_share:
            return f"{number(100 * value, 0)} %"
        shown = self.digits if digits is None else digits
        reach = "" if ends is None else f" ± {number((ends[1] - ends[0]) / 2, shown)}"
        return number(value, shown) + reach


SCORE_COLUMNS = (
    ScoreColumn(
        "calibrated",
        "calibrated score",
        "calibrated_score",
        2,
        "calibrated score with its 95 % interval; 1.00 is what retraining gets",
        interval="calibrated_interval",
    ),
    ScoreColumn(
        "official",
        "official score",
        "score",
        3,
        "official score of 2023 with its 95 % interval",
        interval="score_interval",
    ),
    ScoreColumn(
        "of ceiling",
        "share of the ceiling",
        "share_of_ceiling",
        0,
        "official score over that of retrained models",
        is_share=True,
    ),
    ScoreColumn("F", "forgetting quality", "forgetting_quality", 3, "forgetting quality"),
    ScoreColumn("retain", "retain ratio", "retain_ratio", 3, "retain accuracy over that of retrained models"),
    ScoreColumn("test", "test ratio", "test_ratio", 3, "test accuracy over that of retrained models"),
    ScoreColumn(
        "time",
        "time",
        "share_of_limit",
        0,
        "mean seconds of a run, or of the slowest of its requests, of the time limit",
        is_share=True,
    ),
)


def score_column(field: str) -> ScoreColumn:
    """Return the column of a field."""
    return next(column for column in SCORE_COLUMNS if column.field == field)
