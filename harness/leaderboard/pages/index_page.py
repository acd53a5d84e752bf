"""What the page with the table shows: cells, small scales, badges, and what its script compares."""

import math
from typing import Any

from markupsafe import Markup, escape

from harness.leaderboard.board.rows import Leaderboard, Row
from harness.leaderboard.pages.columns import COLUMNS, Column, columns, facts
from harness.leaderboard.pages.submission_page import page_of
from harness.report.escaping import escaped
from harness.report.tables import UNKNOWN, number
from harness.scoring.uncertainty import CONFIDENCE, INFLATION, normal_reach

__all__ = ["index_values"]

AXIS = 120  # pixels of the small scale beside a calibrated score
UNIT = 10_000  # half-samples are given in such parts: their spread is a hundred times as large
IN_NOTES = ("alarms", "review", "remark")  # columns that stand as badges below the name


def index_values(shown: Leaderboard) -> dict[str, Any]:
    """Return the values of the template `index.html` for a leaderboard."""
    in_table = [column for column in columns(shown) if column.name not in IN_NOTES]
    most = _end_of_scale(shown)
    return {
        "tiles": _tiles(shown),
        "facts": facts(shown),
        "columns": [(column, _class(column)) for column in in_table],
        "rows": [_row(row, shown, in_table, most) for row in shown.rows],
        "data": _data(shown, in_table),
    }


def _tiles(shown: Leaderboard) -> list[tuple[str, str, str]]:
    ends = {row.kind: row for row in shown.rows if row.kind in ("ceiling", "floor")}
    digits = 3 if shown.rounded is None else shown.rounded
    entered = [row for row in shown.rows if row.kind == "submission"]
    ranked = sum(row.rank is not None for row in entered)
    tiles = [("submissions", str(len(entered)), f"{ranked} ranked")]
    newest = max((entry.entered for entry in shown.board.current), default=None)
    if newest is not None:
        tiles.append(("newest", f"{newest.day} {newest:%b}", f"{newest:%Y, %H:%M %Z}"))
    if "ceiling" in ends:
        tiles.append(("ceiling", number(ends["ceiling"].score, digits), "official score of retrained models"))
        tiles.append(("floor", number(ends["floor"].score, digits), "official score of doing nothing"))
    return tiles


def _class(column: Column) -> str:
    important = column.name in ("rank", "submission", "calibrated")
    names = {"rank": "rank", "submission": "name"}
    kind = names.get(column.name, "figure" if column.is_figure else "")
    return kind if important else f"{kind} detail".strip()


def _row(row: Row, shown: Leaderboard, in_table: list[Column], most: float) -> dict[str, Any]:
    beside = row.kind != "submission"
    return {
        "class": f"{row.kind} beside" if beside else "" if row.rank is not None else "unranked",
        "page": None if row.key is None else page_of(row.key),
        "badges": _badges(row),
        "cells": [
            {
                "text": _cell(column, row, shown),
                "class": _class(column),
                "value": None if column.sorted_by is None else getattr(row, column.sorted_by),
                "is_name": column.name == "submission",
                "scale": _scale(row, most) if column.name == "calibrated" else None,
            }
            for column in in_table
        ],
    }


def _cell(column: Column, row: Row, shown: Leaderboard) -> str:
    """Return the text of a cell: a rank with a real dash, a name that may break after its team, nothing for unknown."""
    text = column.text(row, shown.rounded)
    if column.name == "submission":
        return escape(text).replace("/", Markup("/<wbr>"))
    if column.name == "rank":
        return text.replace("-", "\N{EN DASH}")
    return "" if text == UNKNOWN and row.calibrated_score is None else text


def _badges(row: Row) -> list[tuple[str, str]]:
    texts = {column.name: column.text(row, None) for column in COLUMNS if column.name in IN_NOTES}
    failed = row.state == "failed"
    badges = [("fail" if failed else "", texts["remark"]), *(("warn", f"alarm: {name}") for name in row.alarms)]
    return [(kind, text) for kind, text in badges if text] + ([("", f"review {row.review}")] if row.review else [])


def _end_of_scale(shown: Leaderboard) -> float:
    """Return the calibrated score at the right end of every small scale."""
    ends = [row.calibrated_interval[1] for row in shown.rows if row.calibrated_interval is not None]
    return max([1.1, *ends, *(row.calibrated_score for row in shown.rows if row.calibrated_score is not None)])


def _scale(row: Row, most: float) -> dict[str, float | None] | None:
    """Return where a calibrated score, its interval and 1 lie on a small scale up to `most`, in pixels."""
    if row.calibrated_score is None:
        return None

    def pixel(value: float) -> float:
        return round(AXIS * min(max(value, 0.0), most) / most, 1)

    low, high = row.calibrated_interval or (None, None)
    return {
        "value": pixel(row.calibrated_score),
        "low": None if low is None else pixel(low),
        "high": None if high is None else pixel(high),
        "one": pixel(1.0),
    }


def _data(shown: Leaderboard, in_table: list[Column]) -> dict[str, Any]:
    """Return what the script compares: scores, half-samples about their mean, and the cells to show."""
    by = "score" if shown.board.terms.rank_by == "official" else "calibrated_score"
    compared = [row for row in shown.rows if row.key is not None and getattr(row, by) is not None]
    figures = [column for column in in_table if column.name != "submission"]
    return {
        "columns": [column.name for column in figures] + ["remark"],
        "order": [row.key for row in compared],
        "compared": {
            row.key: {
                "name": escaped(row.submission),
                "value": getattr(row, by),
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
        "reach": normal_reach(),
        "digits": 3 if by == "score" else 2,
        "level": round(1 - CONFIDENCE, 10),
    }


def _parts(half_samples: tuple[float, ...]) -> list[int] | None:
    mean = math.fsum(half_samples) / max(1, len(half_samples))
    return [round(UNIT * (value - mean)) for value in half_samples] or None
