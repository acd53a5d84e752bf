"""What the page with the table shows: cells, small scales, badges, and what its script compares."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from harness.evaluation.figures import RANKING, Figures
from harness.leaderboard.board.rows import Leaderboard, Row
from harness.leaderboard.pages.columns import COLUMNS, Column, Division, divisions, reason
from harness.leaderboard.pages.submission_page import page_of
from harness.report.escaping import escaped
from harness.report.numbers import UNKNOWN, number
from harness.report.score_columns import score_column
from harness.scoring.uncertainty import CONFIDENCE, INFLATION, NORMAL_REACH

__all__ = ["IndexPage", "index_page"]

AXIS = 120  # pixels of the small scale beside a calibrated score
UNIT = 10_000  # half-samples are given in such parts: their spread is a hundred times as large
IN_NOTES = ("alarms", "review", "remark")  # columns that stand as badges below the name


@dataclass(frozen=True)
class Scale:
    """Where a calibrated score, the ends of its interval and 1 lie on a small scale, in pixels."""

    value: float
    low: float | None
    high: float | None
    one: float


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    text: str
    kind: str  # its class in the style sheet
    value: float | None  # what the table is sorted by
    is_name: bool
    scale: Scale | None


@dataclass(frozen=True)
class TableRow:
    """One row of the table."""

    kind: str  # its class in the style sheet
    page: str | None
    sha256: str  # of the file: appeals name it
    badges: list[tuple[str, str]]  # kind and text
    reason: str  # why it failed
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """The table of one division."""

    name: str  # empty for that of ordinary submissions
    facts: list[str]
    columns: list[tuple[Column, str]]  # each with its class in the style sheet
    rows: list[TableRow]
    explained: list[Column]  # those whose meaning no table before has told


@dataclass(frozen=True)
class IndexPage:
    """What the template `index.html` shows."""

    tiles: list[tuple[str, str, str]]
    tables: list[Table]
    data: dict[str, Any]  # JSON: what the script compares


def index_page(shown: Leaderboard) -> IndexPage:
    """Return the page of a leaderboard."""
    told: set[str] = set()
    tables = [_table(division, shown, told) for division in divisions(shown)]
    of_ranked = [column for table in tables for column, _ in table.columns if not table.name]
    return IndexPage(tiles=_tiles(shown), tables=tables, data=_data(shown, of_ranked))


def _table(division: Division, shown: Leaderboard, told: set[str]) -> Table:
    """Return the table of a division; the meanings that it tells are added to those told."""
    in_table = [column for column in division.columns if column.name not in IN_NOTES]
    explained = [column for column in in_table if column.meaning not in told]
    told.update(column.meaning for column in explained)
    most = _end_of_scale(division.rows)
    return Table(
        name=division.name,
        facts=division.facts,
        columns=[(column, _class(column)) for column in in_table],
        rows=[_row(row, shown, in_table, most) for row in division.rows],
        explained=explained,
    )


def _tiles(shown: Leaderboard) -> list[tuple[str, str, str]]:
    ends = {row.kind: row for row in shown.rows if row.kind in ("ceiling", "floor")}
    digits = 3 if shown.rounded is None else shown.rounded
    entered = [row for row in shown.rows if row.kind == "submission"]
    ranked = sum(row.rank is not None for row in entered)
    tiles = [("submissions", str(len(entered)), f"{ranked} ranked")]
    if shown.learners:
        tiles.append(("learners", str(len(shown.learners)), "in a table of their own"))
    newest = max((entry.entered for entry in shown.board.current), default=None)
    if newest is not None:
        tiles.append(("newest", f"{newest.day} {newest:%b}", f"{newest:%Y, %H:%M %Z}"))
    if "ceiling" in ends:
        tiles.append(("ceiling", number(ends["ceiling"].figures.score, digits), "official score of retrained models"))
        tiles.append(("floor", number(ends["floor"].figures.score, digits), "official score of doing nothing"))
    return tiles


def _class(column: Column) -> str:
    important = column.name in ("rank", "submission", "calibrated")
    names = {"rank": "rank", "submission": "name"}
    kind = names.get(column.name, "figure" if column.is_figure else "")
    return kind if important else f"{kind} detail".strip()


def _row(row: Row, shown: Leaderboard, in_table: list[Column], most: float) -> TableRow:
    beside = row.kind != "submission"
    return TableRow(
        kind=f"{row.kind} beside" if beside else "" if row.is_in_place else "unranked",
        page=None if row.key is None else page_of(row.key),
        sha256=row.sha256 or "",
        badges=_badges(row),
        reason=reason(row),
        cells=[
            Cell(
                text=_cell(column, row, shown),
                kind=_class(column),
                value=None if column.value is None else column.value(row),
                is_name=column.name == "submission",
                scale=_scale(row.figures, most) if column.name == "calibrated" else None,
            )
            for column in in_table
        ],
    )


def _cell(column: Column, row: Row, shown: Leaderboard) -> str:
    """Return the text of a cell: a rank with a real dash, a name that may break after its team, nothing for unknown."""
    text = column.text(row, shown.rounded)
    if column.name == "submission":
        return escape(text).replace("/", Markup("/<wbr>"))
    if column.name == "rank":
        return text.replace("-", "\N{EN DASH}")
    return "" if text == UNKNOWN and row.figures.calibrated_score is None else text


def _badges(row: Row) -> list[tuple[str, str]]:
    texts = {column.name: column.text(row, None) for column in COLUMNS if column.name in IN_NOTES}
    failed = row.state == "failed"
    badges = [("fail" if failed else "", texts["remark"]), *(("warn", f"alarm: {name}") for name in row.alarms)]
    return [(kind, text) for kind, text in badges if text] + ([("", f"review {row.review}")] if row.review else [])


def _end_of_scale(rows: Iterable[Row]) -> float:
    """Return the calibrated score at the right end of every small scale of a table."""
    all_figures = [row.figures for row in rows]
    ends = [figures.calibrated_interval[1] for figures in all_figures if figures.calibrated_interval is not None]
    scores = [figures.calibrated_score for figures in all_figures if figures.calibrated_score is not None]
    return max([1.1, *ends, *scores])


def _scale(figures: Figures, most: float) -> Scale | None:
    """Return where a calibrated score lies on a small scale that goes up to `most`."""
    if figures.calibrated_score is None:
        return None

    def pixel(value: float) -> float:
        return round(AXIS * min(max(value, 0.0), most) / most, 1)

    low, high = figures.calibrated_interval or (None, None)
    return Scale(
        value=pixel(figures.calibrated_score),
        low=None if low is None else pixel(low),
        high=None if high is None else pixel(high),
        one=pixel(1.0),
    )


def _data(shown: Leaderboard, in_table: list[Column]) -> dict[str, Any]:
    """Return what the script reads as JSON: scores, half-samples about their mean, and the cells to show."""
    ranked_by = score_column(RANKING[shown.board.terms.rank_by])
    compared = [row for row in shown.rows if row.key is not None and ranked_by.value(row.figures) is not None]
    figures = [column for column in in_table if column.name != "submission"]
    return {
        "columns": [column.name for column in figures] + ["remark"],
        "order": [row.key for row in compared],
        "compared": {
            row.key: {
                "name": escaped(row.submission),
                "value": ranked_by.value(row.figures),
                "runs": row.runs,
                "halves": _parts(shown.half_samples.get(row.key or "", ())),
                "cells": [column.text(row, shown.rounded) for column in figures]
                + [", ".join(text for _, text in _badges(row))],
            }
            for row in compared
        },
        "rounded": shown.rounded is not None,
        "unit": UNIT,
        "inflation": INFLATION,
        "reach": NORMAL_REACH,
        "digits": ranked_by.digits,
        "level": round(1 - CONFIDENCE, 10),
    }


def _parts(half_samples: tuple[float, ...]) -> list[int] | None:
    mean = math.fsum(half_samples) / max(1, len(half_samples))
    return [round(UNIT * (value - mean)) for value in half_samples] or None
