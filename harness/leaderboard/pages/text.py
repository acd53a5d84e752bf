"""A leaderboard as text: on the terminal, as CSV, JSON and Markdown.

Names are a participant's: they must not steer a terminal, become a formula in a spreadsheet, or markup on a page.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.evaluation.figures import Figures, round_off
from harness.leaderboard.board.rows import Leaderboard, Row
from harness.leaderboard.pages.columns import Column, Division, divisions, reason
from harness.report.escaping import escaped
from harness.report.learner_columns import LEARNER_COLUMNS
from harness.report.score_columns import SCORE_COLUMNS

__all__ = ["UNBOUNDED", "as_csv", "as_json", "as_markdown", "as_table", "row_values"]


FORMULA = ("=", "+", "-", "@")  # after blanks and in any width of letter
DISPENSABLE = (
    *("scorer", "isolation", "device", "runs", "F", "retain", "test", "of ceiling"),
    *("speed-up", "state MB", "unlearn", "time", "official", "train"),
)
UNBOUNDED = 10_000  # letters in a line of what is no terminal
WIDEST = 28  # letters of a column of text; more are folded
MARKUP = re.compile(r"[!#$&()*:<>@\[\\\]^_`{|}~]|(?<=www)\.")  # what Markdown reads; with its point, www is a link


def as_table(board: Leaderboard, console: Console) -> RenderableType:
    """Return a leaderboard for a console; where it is too narrow, columns are left out, which is said."""
    parts: list[RenderableType] = []
    for division in divisions(board):
        if division.name:
            parts.append(Text(f"\n{division.name}" if parts else division.name, style="bold"))
        parts += _division(division, board, console)
    return Group(*parts)


def _division(division: Division, board: Leaderboard, console: Console) -> Iterator[RenderableType]:
    shown, left_out = list(division.columns), []
    unbounded = console.options.update(max_width=UNBOUNDED)
    while console.measure(_table(division.rows, shown, board.rounded), options=unbounded).maximum > console.width:
        ranks = board.board.terms.rank_by
        spare = [column for column in shown if column.name in DISPENSABLE and column.name != ranks]
        if not spare:
            break
        left_out.append(min(spare, key=lambda column: DISPENSABLE.index(column.name)))
        shown.remove(left_out[-1])
    said = [f"left out for lack of room: {', '.join(column.name for column in left_out)}"] if left_out else []
    yield _table(division.rows, shown, board.rounded)
    yield from map(Text, [*division.facts, *said, *_failures(division)])


def _table(rows: Iterable[Row], shown: Iterable[Column], rounded: int | None) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for column in shown:
        justify: Any = "right" if column.is_figure else "left"
        most = WIDEST if column.name in ("submission", "alarms", "review", "remark") else None
        table.add_column(column.name, justify=justify, no_wrap=most is None, max_width=most, overflow="fold")
    for row in rows:
        style = "cyan" if row.kind != "submission" else "" if row.is_in_place else "dim"
        table.add_row(*(Text(column.text(row, rounded)) for column in shown), style=style)
    return table


def as_json(board: Leaderboard) -> str:
    """Return a leaderboard as a JSON list of rows."""
    rows = [row_values(row, board.rounded) for row in (*board.rows, *board.learners)]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def row_values(row: Row, rounded: int | None) -> dict[str, Any]:
    """Return a row as plain values: of its figures those that have a column, each with its interval.

    A learner's also say what division they are of, and what is known of it beside its score.
    """
    values: dict[str, Any] = {}
    for field in fields(row):
        if field.name in ("is_learner", "learner"):
            continue
        if field.name != "figures":
            values[field.name] = getattr(row, field.name)
            continue
        for column in SCORE_COLUMNS:
            digits = None if column.field in Figures.NEVER_ROUNDED else rounded
            values[column.field] = round_off(column.value(row.figures), digits)
            if column.interval is not None:
                values[column.interval] = column.ends(row.figures)
    return values | _values_of_learner(row) if row.is_learner else values


def _values_of_learner(row: Row) -> dict[str, Any]:
    names = [name for column in LEARNER_COLUMNS for name in column.fields]
    return {"division": "learners", **{name: getattr(row.learner, name, None) for name in names}}


def as_csv(board: Leaderboard) -> str:
    """Return a leaderboard as CSV: the rows of `as_json`, flat, no cell of which a spreadsheet takes for a formula."""
    file = io.StringIO()
    rows = [_flat(row, board.rounded) for row in (*board.rows, *board.learners)]
    any_row = Row(submission="", kind="", figures=Figures.of({}), is_learner=bool(board.learners))
    writer = csv.DictWriter(file, _flat(any_row, None))
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _flat(row: Row, rounded: int | None) -> dict[str, Any]:
    """Return a row with intervals as two columns and lists as text."""
    flat: dict[str, Any] = {}
    for name, value in row_values(row, rounded).items():
        if name.endswith("_interval"):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or (None, None)
        elif name == "certificate":
            flat["certificate_epsilon"], flat["certificate_delta"] = value or (None, None)
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
    """Return a leaderboard as Markdown tables, each with its facts below."""
    return "\n".join(_markdown(division, board.rounded) for division in divisions(board))


def _markdown(division: Division, rounded: int | None) -> str:
    shown = division.columns
    rule = ["---:" if column.is_figure else "---" for column in shown]
    rows = [[_plain(column.text(row, rounded)) for column in shown] for row in division.rows]
    lines = [[column.name for column in shown], rule, *rows]
    heading = f"## {division.name.capitalize()}\n\n" if division.name else ""
    table = "".join(_line(cells) for cells in lines)
    return heading + table + "".join(f"\n{_plain(fact)}\n" for fact in (*division.facts, *_failures(division)))


def _failures(division: Division) -> list[str]:
    """Return a line on each submission that failed."""
    return [f"{escaped(row.submission)}: {why}" for row in division.rows if (why := reason(row))]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _plain(text: str) -> str:
    """Return a text without markup: punctuation escaped."""
    return MARKUP.sub(r"\\\g<0>", text)
