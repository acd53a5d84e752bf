"""What people see of a row: columns with their names, meanings and texts, for terminal, Markdown and page alike."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.leaderboard.board.ranking import Boundary
from harness.leaderboard.board.rows import Leaderboard, Row
from harness.report.escaping import escaped
from harness.report.tables import number
from harness.runner.outcome import Outcome

__all__ = ["COLUMNS", "Column", "columns", "facts"]

Text = Callable[[Row, int | None], str]  # the row, and the digits that scores are rounded to


@dataclass(frozen=True)
class Column:
    """One column: its name, what it is, and a row's text in it."""

    name: str
    meaning: str
    text: Text
    sorted_by: str | None = None  # the field of a row that its figures are; None for a column of words
    if_varied: bool = False  # shown where rows differ in it; else said once, below the table

    @property
    def is_figure(self) -> bool:
        """Whether it stands at the right: figures do, but for places."""
        return self.sorted_by is not None and self.name != "rank"


def _figure(field: str, usual_digits: int) -> Text:
    """Return the text of a field, with the digits it is rounded to or those that are usual."""
    return lambda row, digits: number(getattr(row, field), usual_digits if digits is None else digits)


def _score(field: str, interval: str, usual_digits: int) -> Text:
    """Return the text of a score with half the width of its 95 % interval."""

    def text(row: Row, digits: int | None) -> str:
        value, ends = _figure(field, usual_digits)(row, digits), getattr(row, interval)
        reach = None if ends is None else (ends[1] - ends[0]) / 2
        shown = usual_digits if digits is None else digits
        return value if reach is None else f"{value} ± {number(reach, shown)}"

    return text


def _percent(field: str) -> Text:
    def text(row: Row, _: int | None) -> str:
        value = getattr(row, field)
        return number(None, 0) if value is None else f"{number(100 * value, 0)} %"

    return text


def _words(field: str) -> Text:
    return lambda row, _: getattr(row, field) or ""


def _remark(row: Row, _: int | None) -> str:
    """Return what keeps a row from being ranked, or that it is no submission."""
    if row.kind != "submission":
        return row.kind if row.unranked_because is None else f"{row.kind}, {row.unranked_because}"
    if row.outcome not in (None, Outcome.OK):
        return str(row.outcome)
    return row.unranked_because or ""


COLUMNS = (
    Column("rank", "place; a range for those that cannot be told apart", _words("rank"), "rank_best"),
    Column("submission", "file", lambda row, _: escaped(row.submission)),
    Column(
        "calibrated",
        "calibrated score with its 95 % interval; 1.00 is what retraining gets",
        _score("calibrated_score", "calibrated_interval", 2),
        "calibrated_score",
    ),
    Column("official", "official score of 2023 with its 95 % interval", _score("score", "score_interval", 3), "score"),
    Column(
        "of ceiling",
        "official score over that of retrained models",
        _percent("share_of_ceiling"),
        "share_of_ceiling",
    ),
    Column("F", "forgetting quality", _figure("forgetting_quality", 3), "forgetting_quality"),
    Column("retain", "retain accuracy over that of retrained models", _figure("retain_ratio", 3), "retain_ratio"),
    Column("test", "test accuracy over that of retrained models", _figure("test_ratio", 3), "test_ratio"),
    Column("time", "mean seconds of a run, of the time limit", _percent("share_of_limit"), "share_of_limit"),
    Column("alarms", "signs that the score may mean something else", lambda row, _: ", ".join(row.alarms)),
    Column("review", "what a person found of the alarms", _words("review")),
    Column(
        "runs",
        "models scored",
        lambda row, _: "" if row.calibrated_score is None else str(row.runs),
        "runs",
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
    """Return what holds for all rows, and how it stands about the prizes."""
    terms, rows = board.board.terms, board.rows
    said = [f"ranked by {terms.rank_by} score"]
    for column in COLUMNS:
        texts = {column.text(row, board.rounded) for row in rows} - {""}
        if column.if_varied and len(texts) == 1:
            said.append(f"{column.name} {texts.pop()}")
    if board.rounded is not None:
        said.append(f"rounded to {board.rounded} digits")
    return [", ".join(said), *(_prize(boundary, board) for boundary in board.boundaries)]


def _prize(boundary: Boundary, board: Leaderboard) -> str:
    if not boundary.tied:
        return f"prize boundary after place {boundary.place}: decided"
    names = ", ".join(escaped(one.entry.submission) for one in boundary.tied)
    tested = "not tested exactly" if board.rounded is not None else "tied in the exact test too: more runs decide"
    return f"prize boundary after place {boundary.place}: {names} are tied across it, {tested}"
