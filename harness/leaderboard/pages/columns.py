"""What people see of a row: columns with their names, meanings and texts, for terminal, Markdown and page alike."""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.leaderboard.board.known_code import told_of_shared
from harness.leaderboard.board.ranking import Boundary
from harness.leaderboard.board.rows import Leaderboard, Row
from harness.report.escaping import escaped
from harness.report.score_columns import SCORE_COLUMNS, ScoreColumn
from harness.runner.outcome import Outcome

__all__ = ["COLUMNS", "Column", "columns", "facts", "reason"]

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


def _words(field: str) -> CellText:
    return lambda row, _: getattr(row, field) or ""


def _remark(row: Row, _: int | None) -> str:
    """Return what keeps a row from being ranked, or that it is no submission."""
    if row.kind != "submission":
        what = row.kind if row.baseline is None else f"{row.kind} {row.baseline}"
        return what if row.unranked_because is None else f"{what}, {row.unranked_because}"
    if row.outcome not in (None, Outcome.OK):
        return str(row.outcome)
    return row.unranked_because or ""


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


def columns(board: Leaderboard) -> list[Column]:
    """Return the columns to show: those that are the same all the way down are left to `facts`, empty ones left out."""
    shown = []
    for column in COLUMNS:
        texts = {column.text(row, board.rounded) for row in board.rows} - {""}
        if len(texts) > (1 if column.if_varied else 0):
            shown.append(column)
    return shown


def facts(board: Leaderboard) -> list[str]:
    """Return what holds for all rows, how it stands about the prizes, and whose code is the same."""
    terms, rows = board.board.terms, board.rows
    said = [f"ranked by {terms.rank_by} score"]
    for column in COLUMNS:
        texts = {column.text(row, board.rounded) for row in rows} - {""}
        if column.if_varied and len(texts) == 1:
            said.append(f"{column.name} {texts.pop()}")
    if board.rounded is not None:
        said.append(f"rounded to {board.rounded} digits")
    return [", ".join(said), *(_prize(boundary, board) for boundary in board.boundaries), *_shared(board)]


def reason(row: Row) -> str:
    """Return why a submission failed, in one line; nothing for others."""
    if row.outcome in (None, Outcome.OK):
        return ""
    return textwrap.shorten(escaped(row.message or ""), MAX_REASON, placeholder=" …")


def _shared(board: Leaderboard) -> Iterator[str]:
    """Yield a sentence on each code that several teams handed in."""
    by_code: dict[str | None, set[str]] = {}
    for row in board.rows:
        if row.same_code:
            by_code.setdefault(row.code_hash, set()).update([row.submission, *row.same_code])
    yield from (told_of_shared(sorted(names)) for names in by_code.values())


def _prize(boundary: Boundary, board: Leaderboard) -> str:
    if not boundary.tied:
        return f"prize boundary after place {boundary.place}: decided"
    names = ", ".join(escaped(one.entry.submission) for one in boundary.tied)
    tested = "not tested exactly" if board.rounded is not None else "tied in the exact test too: more runs decide"
    return f"prize boundary after place {boundary.place}: {names} are tied across it, {tested}"
