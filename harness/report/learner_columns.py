"""How the figures of a learner are shown beside its score, each declared once: tables and pages derive from this."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.evaluation.learner_figures import NOTHING_TO_FORGET, LearnerFigures
from harness.report.numbers import UNKNOWN, number

__all__ = ["LEARNER_COLUMNS", "LearnerColumn", "notes_on_learner"]


@dataclass(frozen=True)
class LearnerColumn:
    """One figure of a learner: what it is called, the fields it is made of, what it says, and how it is written."""

    name: str  # in the head of a wide table
    title: str  # where there is room
    fields: tuple[str, ...]  # of `LearnerFigures`; a table is sorted by the first that is known
    meaning: str
    written: Callable[[LearnerFigures], str]
    is_figure: bool = True  # no words

    def value(self, figures: LearnerFigures | None) -> float | None:
        """Return what a table is sorted by."""
        values = (getattr(figures, field, None) for field in self.fields)
        return next((value for value in values if value is not None), None)

    def text(self, figures: LearnerFigures | None, unknown: str = UNKNOWN) -> str:
        """Return the figure as text."""
        return unknown if figures is None or self.value(figures) is None else self.written(figures)


def _training(figures: LearnerFigures) -> str:
    share = figures.training_share
    return f"{number(figures.training_seconds, 2)} s" if share is None else f"{number(share, 1)} x"


def _unlearning(figures: LearnerFigures) -> str:
    share = figures.unlearning_share
    return f"{number(figures.unlearning_seconds, 2)} s" if share is None else f"{number(100 * share, 1)} %"


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
        "mean time of its training, over that of one by the track's recipe; in seconds where none is timed",
        _training,
    ),
    LearnerColumn(
        "state MB",
        "state in MB",
        ("state_mb",),
        "the largest state that a training left, in MB",
        lambda figures: number(figures.state_mb, 2),
    ),
    LearnerColumn(
        "unlearn",
        "unlearning time",
        ("unlearning_share", "unlearning_seconds"),
        "mean time of its unlearning, of that of a training by the track's recipe; in seconds where none is timed",
        _unlearning,
    ),
    LearnerColumn(
        "speed-up",
        "speed-up",
        ("speed_up",),
        "mean time of its training over that of its unlearning",
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


def notes_on_learner(figures: LearnerFigures | None) -> list[str]:
    """Return what makes a score say little, and a claim that does not hold, in words."""
    if figures is None:
        return []
    notes = []
    if figures.nothing_to_forget:
        notes.append(f"nothing to forget: its originals left as they are get {number(figures.own_floor, 2)}")
    if figures.certificate_refuted:
        bound = number(figures.certificate_bound, 2)
        notes.append(f"the certificate that it claims is refuted: epsilon is at least {bound}, at 95 %")
    return notes
