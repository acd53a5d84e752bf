"""What people see of a row: columns with their names, meanings and texts, for terminal, Markdown and page alike."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.leaderboard.board.known_code import told_of_shared
from harness.leaderboard.board.ranking import Boundary
from harness.leaderboard.board.rows import Leaderboard, Row
from harness.report.escaping import escaped
from harness.report.learner_columns import LEARNER_COLUMNS, LearnerColumn
from harness.report.score_columns import SCORE_COLUMNS, ScoreColumn
from harness.runner.outcome import Outcome

__all__ = ["COLUMNS", "Column", "Division", "divisions", "reason"]

MAX_REASON = 160  # letters
CellText = Callable[[Row, int | None], str]  # of a row, given the digits that scores are rounded to


@dataclass(frozen=True)
class Column:
    """One column: its name, what it is, and a row's text in it."""

    name: str
    meaning: str
    text: CellText
    value: Callable[[Row], float | None] | None = None  # what it is sorted by; None for a column of words
    if_varied: bool = False  # shown where rows differ in it; else said once, below the table

    @property
    def is_figure(self) -> bool:
        """Whether it stands at the right: figures do, but for places."""
        return self.value is not None and self.name != "rank"

    @classmethod
    def of(cls, column: ScoreColumn) -> "Column":
        """Return the column of a figure of scores."""
        return cls(
            column.name,
            column.meaning,
            lambda row, digits: column.text(row.figures, digits),
            lambda row: column.value(row.figures),
        )

    @classmethod
    def of_learner(cls, column: LearnerColumn) -> "Column":
        """Return the column of a figure of learners."""
        return cls(
            column.name,
            column.meaning,
            lambda row, _: column.text(row.learner, unknown=""),
            (lambda row: column.value(row.learner)) if column.is_figure else None,
        )


def _words(field: str) -> CellText:
    return lambda row, _: getattr(row, field) or ""


def _remark(row: Row, _: int | None) -> str:
    """Return what keeps a row from being ranked, that it is no submission, or that its score says little."""
    is_beside = row.kind != "submission"
    if row.outcome not in (None, Outcome.OK) and not is_beside:
        return str(row.outcome)
    what = None if not is_beside else row.kind if row.baseline is None else f"{row.kind} {row.baseline}"
    little = "nothing to forget" if row.learner is not None and row.learner.nothing_to_forget else None
    return ", ".join(filter(None, (what, row.unranked_because, little)))


COLUMNS = (
    Column("rank", "place; a range for those that cannot be told apart", _words("rank"), lambda row: row.rank_best),
    Column("submission", "file", lambda row, _: escaped(row.submission)),
    *map(Column.of, SCORE_COLUMNS),
    Column("alarms", "signs that the score may mean something else", lambda row, _: ", ".join(row.alarms)),
    Column("review", "what a person found of the alarms", _words("review")),
    Column(
        "runs",
        "models scored",
        lambda row, _: "" if row.figures.calibrated_score is None else str(row.runs),
        lambda row: row.runs,
        if_varied=True,
    ),
    Column("device", "what runs used", _words("device"), if_varied=True),
    Column("isolation", "what stood between runs and machine", _words("isolation"), if_varied=True),
    Column("scorer", "version of the scorer", _words("scorer_version"), if_varied=True),
    Column("remark", "why it is not ranked", _remark),
)


def _columns_of_learners() -> Iterator[Column]:
    """Yield the columns of learners: those of others, but for ranks, and their own after what they stand beside."""
    own = {column.name: Column.of_learner(column) for column in LEARNER_COLUMNS}
    meanings = {
        name: f"{name} accuracy over that of models that the track's recipe trains without the forget set"
        for name in ("retain", "test")
    } | {"remark": "why there is no score, or what makes it say little"}
    for column in COLUMNS:
        if column.name not in ("rank", "of ceiling", "time"):
            yield replace(column, meaning=meanings.get(column.name, column.meaning))
        if column.name == "F":
            yield own.pop("own floor")
        elif column.name == "test":
            yield from own.values()


COLUMNS_OF_LEARNERS = tuple(_columns_of_learners())


@dataclass(frozen=True)
class Division:
    """One table of a leaderboard: what it is called, its columns and rows, and what holds for all of them."""

    name: str  # empty for that of ordinary submissions
    columns: list[Column]
    rows: tuple[Row, ...]
    facts: list[str]


def divisions(board: Leaderboard) -> list[Division]:
    """Return the tables to show: that of ordinary submissions, and one of learners where there are some."""
    digits = board.rounded
    said = [f"ranked by {board.board.terms.rank_by} score", *_alike(COLUMNS, board.rows, digits)]
    facts = [", ".join(said), *(_prize(boundary, board) for boundary in board.boundaries), *_shared(board.rows)]
    ordinary = Division("", _shown(COLUMNS, board.rows, digits), board.rows, facts)
    if not board.learners:
        return [ordinary]
    own = ["each against models of its own training, not ranked", *_alike(COLUMNS_OF_LEARNERS, board.learners, digits)]
    shown = _shown(COLUMNS_OF_LEARNERS, board.learners, digits)
    learners = Division("learners", shown, board.learners, [", ".join(own), *_shared(board.learners)])
    return [ordinary, learners] if board.rows else [learners]


def _shown(columns: Sequence[Column], rows: Sequence[Row], digits: int | None) -> list[Column]:
    """Return the columns to show: those that are the same all the way down are said once, empty ones left out."""
    shown = []
    for column in columns:
        texts = {column.text(row, digits) for row in rows} - {""}
        if len(texts) > (1 if column.if_varied else 0):
            shown.append(column)
    return shown


def _alike(columns: Sequence[Column], rows: Sequence[Row], digits: int | None) -> Iterator[str]:
    """Yield what holds for all rows."""
    for column in columns:
        texts = {column.text(row, digits) for row in rows} - {""}
        if column.if_varied and len(texts) == 1:
            yield f"{column.name} {texts.pop()}"
    if digits is not None:
        yield f"rounded to {digits} digits"


def reason(row: Row) -> str:
    """Return why a submission failed, in one line; nothing for others."""
    if row.outcome in (None, Outcome.OK):
        return ""
    return textwrap.shorten(escaped(row.message or ""), MAX_REASON, placeholder=" …")


def _shared(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence on each code that several teams handed in."""
    by_code: dict[str | None, set[str]] = {}
    for row in rows:
        if row.same_code:
            by_code.setdefault(row.code_hash, set()).update([row.submission, *row.same_code])
    yield from (told_of_shared(sorted(names)) for names in by_code.values())


def _prize(boundary: Boundary, board: Leaderboard) -> str:
    if not boundary.tied:
        return f"prize boundary after place {boundary.place}: decided"
    names = ", ".join(escaped(one.entry.submission) for one in boundary.tied)
    tested = "not tested exactly" if board.rounded is not None else "tied in the exact test too: more runs decide"
    return f"prize boundary after place {boundary.place}: {names} are tied across it, {tested}"
