"""How the figures of a learner are shown beside its score, each declared once: tables and pages derive from this."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.evaluation.learner_figures import NOTHING_TO_FORGET, LearnerFigures
from harness.report.numbers import UNKNOWN, number

__all__ = ["LEARNER_COLUMNS", "LearnerColumn"]


@dataclass(frozen=True)
class LearnerColumn:
    """One figure of a learner: what it is called, the fields it is made of, what it says, and how it is written."""

    name: str  # in the head of a wide table
    title: str  # where there is room
    fields: tuple[str, ...]  # of `LearnerFigures`; by the first a table is sorted
    meaning: str
    written: Callable[[LearnerFigures], str]
    is_figure: bool = True  # no word

    def is_known_of(self, figures: LearnerFigures | None) -> bool:
        """Whether there is something to show."""
        return figures is not None and getattr(figures, self.fields[0]) is not None

    def value(self, figures: LearnerFigures | None) -> float | None:
        """Return what a table is sorted by."""
        value: float | None = None if figures is None else getattr(figures, self.fields[0])
        return value

    def text(self, figures: LearnerFigures | None, unknown: str = UNKNOWN) -> str:
        """Return the figure as text."""
        return self.written(figures) if figures is not None and self.is_known_of(figures) else unknown


def _certificate(figures: LearnerFigures) -> str:
    assert figures.certificate is not None
    epsilon, delta = figures.certificate
    return f"({epsilon:g}, {delta:g}) {'refuted' if figures.certificate_refuted else 'claimed'}"


LEARNER_COLUMNS = (
    LearnerColumn(
        "own floor",
        "own floor",
        ("own_floor", "nothing_to_forget"),
        f"calibrated score of its originals left as they are; above {NOTHING_TO_FORGET:g} there is nothing to forget",
        lambda figures: number(figures.own_floor, 2),
    ),
    LearnerColumn(
        "train",
        "training cost",
        ("training_share", "training_seconds"),
        "mean seconds of its training, over those of one by the track's recipe",
        lambda figures: f"{number(figures.training_share, 1)} x",
    ),
    LearnerColumn(
        "state MB",
        "state",
        ("state_mb",),
        "the largest state that a training left, in MB",
        lambda figures: number(figures.state_mb, 2),
    ),
    LearnerColumn(
        "unlearn",
        "unlearning time",
        ("unlearning_share",),
        "mean seconds of its unlearning, of those of a training by the track's recipe",
        lambda figures: f"{number(100 * (figures.unlearning_share or 0.0), 1)} %",
    ),
    LearnerColumn(
        "speed-up",
        "speed-up",
        ("speed_up",),
        "mean seconds of its training over those of its unlearning",
        lambda figures: f"{number(figures.speed_up, 1)} x",
    ),
    LearnerColumn(
        "exact",
        "exact",
        ("exact", "twins"),
        "unlearned models whose weights are, bit for bit, those of their twins trained without the forget set",
        lambda figures: f"{figures.exact}/{figures.twins}",
    ),
    LearnerColumn(
        "certificate",
        "certificate",
        ("certificate", "certificate_bound", "certificate_refuted"),
        "epsilon and delta that it claims, which these runs may refute and never prove",
        _certificate,
        is_figure=False,
    ),
)
