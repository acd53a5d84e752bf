"""A leaderboard as text: on the terminal, as CSV, JSON and Markdown.

Names are a participant's: they must not steer a terminal, become a formula in a spreadsheet, or markup on a page.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.leaderboard.ranking import Boundary
from harness.leaderboard.rows import Leaderboard, Row
from harness.report.tables import number
from harness.report.terminal import escaped
from harness.runner.outcome import Outcome

__all__ = [
    "COLUMNS",
    "UNBOUNDED",
    "Column",
    "as_csv",
    "as_json",
    "as_markdown",
    "as_table",
    "columns",
    "facts",
]

FORMULA = ("=", "+", "-", "@")  # after blanks and in any width of letter
DISPENSABLE = ("scorer", "isolation", "device", "runs", "F", "retain", "test", "of ceiling", "time", "official")
UNBOUNDED = 10_000  # letters in a line of what is no terminal
WIDEST = 28  # letters of a column of text; more are folded
MARKUP = re.compile(r"[!#$&()*:<>@\[\\\]^_`{|}~]|(?<=www)\.")  # what Markdown reads; with its point, www is a link


@dataclass(frozen=True)
class Column:
    """One column as people see it: its name, what it is, and a row's text in it."""

    name: str
    meaning: str
    text: Callable[[Row, int | None], str]  # the row, and the digits it is rounded to
    is_figure: bool = True
    if_varied: bool = False  # shown where rows differ in it; else said once, below the table


def _remark(row: Row) -> str:
    """Return what keeps a row from being ranked, or that it is no submission."""
    if row.kind != "submission":
        return row.kind if row.unranked_because is None else f"{row.kind}, {row.unranked_because}"
    if row.outcome not in (None, Outcome.OK):
        return str(row.outcome)
    return row.unranked_because or ""


def _reach(value: float | None, interval: tuple[float, float] | None, digits: int) -> str:
    """Return a value with half the width of its 95 % interval."""
    if value is None or interval is None:
        return number(value, digits)
    return f"{number(value, digits)} ± {number((interval[1] - interval[0]) / 2, digits)}"


def _percent(value: float | None) -> str:
    return number(None if value is None else 100 * value, 0) + ("" if value is None else " %")


COLUMNS = (
    Column("rank", "place; a range for those that cannot be told apart", lambda row, _: row.rank or "", False),
    Column("submission", "file", lambda row, _: escaped(row.submission), False),
    Column(
        "calibrated",
        "calibrated score with its 95 % interval; 1.00 is what retraining gets",
        lambda row, digits: _reach(row.calibrated_score, row.calibrated_interval, 2 if digits is None else digits),
    ),
    Column(
        "official",
        "official score of 2023 with its 95 % interval",
        lambda row, digits: _reach(row.score, row.score_interval, 3 if digits is None else digits),
    ),
    Column("of ceiling", "official score over that of retrained models", lambda row, _: _percent(row.share_of_ceiling)),
    Column(
        "F",
        "forgetting quality",
        lambda row, digits: number(row.forgetting_quality, 3 if digits is None else digits),
    ),
    Column(
        "retain",
        "retain accuracy over that of retrained models",
        lambda row, digits: number(row.retain_ratio, 3 if digits is None else digits),
    ),
    Column(
        "test",
        "test accuracy over that of retrained models",
        lambda row, digits: number(row.test_ratio, 3 if digits is None else digits),
    ),
    Column("time", "mean seconds of a run, of the time limit", lambda row, _: _percent(row.share_of_limit)),
    Column("alarms", "signs that the score may mean something else", lambda row, _: ", ".join(row.alarms), False),
    Column("review", "what a person found of the alarms", lambda row, _: row.review or "", False),
    Column("runs", "models scored", lambda row, _: "" if row.calibrated_score is None else str(row.runs), True, True),
    Column("device", "what runs used", lambda row, _: row.device or "", False, True),
    Column("isolation", "what stood between runs and machine", lambda row, _: row.isolation or "", False, True),
    Column("scorer", "version of the scorer", lambda row, _: row.scorer_version or "", True, True),
    Column("remark", "why it is not ranked", lambda row, _: _remark(row), False),
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
    tested = "not tested exactly" if board.rounded is not None else "tied in the exact test too: fresh runs decide"
    return f"prize boundary after place {boundary.place}: {names} are tied across it, {tested}"


# ---- formats -------------------------------------------------------------------------------------------------------


def as_table(board: Leaderboard, console: Console) -> RenderableType:
    """Return a leaderboard for a console; where it is too narrow, columns are left out, which is said."""
    shown, left_out = columns(board), []
    unbounded = console.options.update(max_width=UNBOUNDED)
    while console.measure(_table(board, shown), options=unbounded).maximum > console.width:
        ranks = board.board.terms.rank_by
        spare = [column for column in shown if column.name in DISPENSABLE and column.name != ranks]
        if not spare:
            break
        left_out.append(min(spare, key=lambda column: DISPENSABLE.index(column.name)))
        shown.remove(left_out[-1])
    said = [f"left out for lack of room: {', '.join(column.name for column in left_out)}"] if left_out else []
    return Group(_table(board, shown), *(Text(fact) for fact in facts(board) + said))


def _table(board: Leaderboard, shown: Iterable[Column]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for column in shown:
        justify: Any = "right" if column.is_figure else "left"
        most = WIDEST if column.name in ("submission", "alarms", "review", "remark") else None
        table.add_column(column.name, justify=justify, no_wrap=most is None, max_width=most, overflow="fold")
    for row in board.rows:
        style = "" if row.rank is not None else "cyan" if row.kind != "submission" else "dim"
        table.add_row(*(Text(column.text(row, board.rounded)) for column in shown), style=style)
    return table


def as_json(board: Leaderboard) -> str:
    """Return a leaderboard as a JSON list of rows."""
    return json.dumps([asdict(row) for row in board.rows], indent=2, allow_nan=False) + "\n"


def as_csv(board: Leaderboard) -> str:
    """Return a leaderboard as CSV: the rows of `as_json`, flat, no cell of which a spreadsheet takes for a formula."""
    file = io.StringIO()
    rows = [_flat(row) for row in board.rows]
    writer = csv.DictWriter(file, _flat(Row(submission="", kind="")))
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    """Return a row with intervals as two columns and lists as text."""
    flat: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if name.endswith("_interval"):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or (None, None)
        elif name == "alarms":
            flat[name] = ", ".join(value)
        elif name == "rank":
            flat[name] = value and value.replace("-", " to ")  # a spreadsheet would make a date of 1-3
        else:
            flat[name] = value
    return flat


def _safe(value: Any) -> Any:
    """Return a cell with an apostrophe before what would start a formula."""
    if not isinstance(value, str):
        return value
    text = escaped(value)
    return f"'{text}" if unicodedata.normalize("NFKC", text).lstrip().startswith(FORMULA) else text


def as_markdown(board: Leaderboard) -> str:
    """Return a leaderboard as a Markdown table, with its facts below."""
    shown = columns(board)
    rule = ["---:" if column.is_figure else "---" for column in shown]
    rows = [[_plain(column.text(row, board.rounded)) for column in shown] for row in board.rows]
    lines = [[column.name for column in shown], rule, *rows]
    table = "".join(_line(cells) for cells in lines)
    return table + "".join(f"\n{_plain(fact)}\n" for fact in facts(board))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _plain(text: str) -> str:
    """Return a text without markup: punctuation escaped."""
    return MARKUP.sub(r"\\\g<0>", text)
