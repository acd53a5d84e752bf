"""A leaderboard as text: on the terminal, as CSV, JSON and Markdown.

Names are a participant's: they must not steer a terminal, become a formula in a spreadsheet, or markup on a page.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.evaluation.figures import Figures, round_off
from harness.leaderboard.board.rows import Leaderboard, Row
from harness.leaderboard.pages.columns import Column, columns, facts, reason
from harness.report.escaping import escaped
from harness.report.score_columns import SCORE_COLUMNS

__all__ = ["UNBOUNDED", "as_csv", "as_json", "as_markdown", "as_table", "row_values"]


FORMULA = ("=", "+", "-", "@")  # after blanks and in any width of letter
DISPENSABLE = ("scorer", "isolation", "device", "runs", "F", "retain", "test", "of ceiling", "time", "official")
UNBOUNDED = 10_000  # letters in a line of what is no terminal
WIDEST = 28  # letters of a column of text; more are folded
MARKUP = re.compile(r"[!#$&()*:<>@\[\\\]^_`{|}~]|(?<=www)\.")  # what Markdown reads; with its point, www is a link


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
    return Group(_table(board, shown), *map(Text, [*facts(board), *said, *_failures(board)]))


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
    return json.dumps([row_values(row, board.rounded) for row in board.rows], indent=2, allow_nan=False) + "\n"


def row_values(row: Row, rounded: int | None) -> dict[str, Any]:
    """Return a row as plain values: of its figures those that have a column, each with its interval."""
    values: dict[str, Any] = {}
    for field in fields(row):
        if field.name != "figures":
            values[field.name] = getattr(row, field.name)
            continue
        for column in SCORE_COLUMNS:
            digits = None if column.field in Figures.NEVER_ROUNDED else rounded
            values[column.field] = round_off(column.value(row.figures), digits)
            if column.interval is not None:
                values[column.interval] = column.ends(row.figures)
    return values


def as_csv(board: Leaderboard) -> str:
    """Return a leaderboard as CSV: the rows of `as_json`, flat, no cell of which a spreadsheet takes for a formula."""
    file = io.StringIO()
    rows = [_flat(row, board.rounded) for row in board.rows]
    writer = csv.DictWriter(file, _flat(Row(submission="", kind="", figures=Figures.of({})), None))
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _flat(row: Row, rounded: int | None) -> dict[str, Any]:
    """Return a row with intervals as two columns and lists as text."""
    flat: dict[str, Any] = {}
    for name, value in row_values(row, rounded).items():
        if name.endswith("_interval"):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or (None, None)
        elif name in ("alarms", "same_code"):
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
    return table + "".join(f"\n{_plain(fact)}\n" for fact in (*facts(board), *_failures(board)))


def _failures(board: Leaderboard) -> list[str]:
    """Return a line on each submission that failed."""
    return [f"{escaped(row.submission)}: {why}" for row in board.rows if (why := reason(row))]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _plain(text: str) -> str:
    """Return a text without markup: punctuation escaped."""
    return MARKUP.sub(r"\\\g<0>", text)
