"""A leaderboard as a static site: one page with the table and a page per submission, none of which needs anything else.

Names and messages are a participant's: templates escape them, and the policy of every page lets no script run but ours.
"""

import base64
import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

import harness
from harness.evaluate import recall
from harness.leaderboard.board import Board, Entry
from harness.leaderboard.rows import SOURCE_KB, Leaderboard, Row
from harness.leaderboard.tables import COLUMNS, Column, columns, facts
from harness.report.page import pages
from harness.report.sections import sections
from harness.report.tables import UNKNOWN, number
from harness.report.terminal import printable
from harness.results import Results
from harness.scoring.uncertainty import CONFIDENCE, INFLATION, normal_reach
from harness.storage import read_json, write_bytes, write_json
from harness.submission import read_submission
from harness.track import Track

__all__ = ["write_site"]

GENERATOR = "unlearning-harness leaderboard"
AXIS = 120  # pixels of the small scale beside a calibrated score
UNIT = 10_000  # half-samples are given in such parts: their spread is a hundred times as large
IN_NOTES = ("alarms", "review", "remark")  # columns that stand as badges below the name


def write_site(
    shown: Leaderboard,
    track: Track,
    reviews: dict[str, Any],
    output: Path,
    *,
    hidden: bool = False,
    on_page: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the site of a leaderboard into a folder and return the number of its pages.

    hidden: no forget example and nothing a run says is shown; rounded scores hide them and every plot as well. Pages of
    submissions that are gone are removed; other files in the folder are left alone.
    """
    package = files("harness.leaderboard")
    style, script = (package.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    templates = pages("harness.leaderboard", "harness.report")
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": True}
    common = {"track": track.name, "style": Markup(style), "generator": GENERATOR}
    in_site = {"index.html"}
    entries = {entry.key: entry for entry in shown.board.current}
    rows = [row for row in shown.rows if row.key is not None]
    for done, row in enumerate(rows):
        on_page(done, len(rows))
        entry = entries[row.key or ""]
        made = [] if shown.rounded is not None else _sections(shown.board, entry, track, hidden=hidden)
        page = templates.get_template("submission.html").render(
            **common,
            policy=_policy(style),
            key=row.key,
            name=printable(row.submission),
            is_compared=row.score is not None,
            tiles=_tiles(row, shown),
            notes=_notes(row, entry, reviews.get(entry.key), shown),
            facts=_facts(row, entry, shown),
            sections=made,
        )
        _publish(output / _page(entry.key), page)
        in_site.add(_page(entry.key))
    index = templates.get_template("index.html").render(
        **common,
        policy=_policy(style, script),
        script=Markup(script),
        title=track.declaration.title,
        tiles=_summary(shown),
        facts=facts(shown),
        columns=[{"name": column.name, "meaning": column.meaning, "class": _class(column)} for column in _shown(shown)],
        rows=[_index_row(row, shown) for row in shown.rows],
        data=_data(shown),
    )
    _publish(output / "index.html", index)
    _remove_gone(output, in_site)
    return len(in_site)


def _publish(path: Path, page: str) -> None:
    """Write a page that whoever serves the folder may read."""
    write_bytes(path, page.encode(errors="replace"))
    path.chmod(0o644)


def _page(key: str) -> str:
    return f"submissions/{key}.html"


def _policy(style: str, script: str | None = None) -> str:
    """Return a Content-Security-Policy under which nothing but this style and this script has an effect."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script or "")]
    scripts = "" if script is None else f"; script-src 'sha256-{hashes[1]}'"
    return f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; base-uri 'none'{scripts}"


def _remove_gone(output: Path, in_site: set[str]) -> None:
    """Remove the pages of submissions that are no longer on the leaderboard, by the mark that every page has."""
    for path in output.glob("submissions/*.html"):
        if path.relative_to(output).as_posix() not in in_site and f'content="{GENERATOR}"' in path.read_text("utf-8"):
            path.unlink()


# ---- the table -----------------------------------------------------------------------------------------------------


def _summary(shown: Leaderboard) -> list[tuple[str, str, str]]:
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


def _shown(shown: Leaderboard) -> list[Column]:
    return [column for column in columns(shown) if column.name not in IN_NOTES]


def _class(column: Column) -> str:
    important = column.name in ("rank", "submission", "calibrated")
    names = {"rank": "rank", "submission": "name"}
    kind = names.get(column.name, "figure" if column.is_figure else "")
    return kind if important else f"{kind} detail".strip()


def _index_row(row: Row, shown: Leaderboard) -> dict[str, Any]:
    beside = row.kind != "submission"
    return {
        "class": f"{row.kind} beside" if beside else "" if row.rank is not None else "unranked",
        "page": None if row.key is None else _page(row.key),
        "badges": _badges(row),
        "cells": [
            {
                "text": _cell(column, row, shown),
                "class": _class(column),
                "value": _sort_value(column, row),
                "is_name": column.name == "submission",
                "scale": _scale(row, shown) if column.name == "calibrated" else None,
            }
            for column in _shown(shown)
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


def _sort_value(column: Column, row: Row) -> float | int | None:
    """Return what a column is sorted by, None for its text."""
    fields = {
        "rank": "rank_best",
        "calibrated": "calibrated_score",
        "official": "score",
        "of ceiling": "share_of_ceiling",
        "F": "forgetting_quality",
        "retain": "retain_ratio",
        "test": "test_ratio",
        "time": "share_of_limit",
        "runs": "runs",
    }
    return getattr(row, fields[column.name]) if column.name in fields else None


def _badges(row: Row) -> list[tuple[str, str]]:
    texts = {column.name: column.text(row, None) for column in COLUMNS if column.name in IN_NOTES}
    failed = row.state == "failed"
    badges = [("fail" if failed else "", texts["remark"]), *(("warn", f"alarm: {name}") for name in row.alarms)]
    return [(kind, text) for kind, text in badges if text] + ([("", f"review {row.review}")] if row.review else [])


def _scale(row: Row, shown: Leaderboard) -> dict[str, float | None] | None:
    """Return where a calibrated score, its interval and 1 lie on a small scale, in pixels."""
    if row.calibrated_score is None:
        return None
    ends = [row.calibrated_interval[1] for row in shown.rows if row.calibrated_interval is not None]
    most = max([1.1, *ends, *(row.calibrated_score for row in shown.rows if row.calibrated_score is not None)])

    def pixel(value: float) -> float:
        return round(AXIS * min(max(value, 0.0), most) / most, 1)

    low, high = row.calibrated_interval or (None, None)
    return {
        "value": pixel(row.calibrated_score),
        "low": None if low is None else pixel(low),
        "high": None if high is None else pixel(high),
        "one": pixel(1.0),
    }


def _data(shown: Leaderboard) -> dict[str, Any]:
    """Return what the script compares: scores, half-samples about their mean, and the cells to show."""
    by = "score" if shown.board.terms.rank_by == "official" else "calibrated_score"
    compared = [row for row in shown.rows if row.key is not None and getattr(row, by) is not None]
    figures = [column for column in _shown(shown) if column.name not in ("submission",)]
    return {
        "columns": [column.name for column in figures] + ["remark"],
        "order": [row.key for row in compared],
        "compared": {
            row.key: {
                "name": printable(row.submission),
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


# ---- a submission's page -------------------------------------------------------------------------------------------


def _tiles(row: Row, shown: Leaderboard) -> list[tuple[str, str, list[str]]]:
    if row.calibrated_score is None:
        return [("outcome", str(row.outcome or row.unranked_because), [printable(row.message or "")])]
    texts = {column.name: column.text(row, shown.rounded) for column in COLUMNS}
    place = [row.unranked_because or ("a baseline is not ranked" if row.kind == "baseline" else "")]
    tied = ["a range: these runs cannot tell it from those beside it"] if row.rank_best != row.rank_worst else []
    return [
        ("rank", row.rank or "not ranked", tied if row.rank is not None else place),
        ("calibrated score", texts["calibrated"], ["1.00 is what retraining gets"]),
        ("official score", texts["official"], [f"{texts['of ceiling']} of what retrained models get"]),
    ]


def _notes(row: Row, entry: Entry, review: Any, shown: Leaderboard) -> list[str]:
    """Return alarms in words and what was found of them; with rounded scores, whose figures they would tell, names."""
    alarms = () if entry.scored is None else entry.scored.alarms or ()
    messages = [
        f"alarm ({alarm['name']})" + ("" if shown.rounded is not None else f": {alarm['message']}") for alarm in alarms
    ]
    if review is None:
        return messages
    said = [text for text in (review.reason, review.re_run and f"re-run: {review.re_run}") if text]
    return [*messages, ". ".join([f"review: {row.review}", *said])]


def _facts(row: Row, entry: Entry, shown: Leaderboard) -> list[tuple[str, str]]:
    constants = ", ".join(f"{name} = {value}" for name, value in entry.constants.items())
    earlier = ", ".join(_version(other, shown) for other in shown.board.earlier(entry))
    texts = {column.name: column.text(row, shown.rounded) for column in COLUMNS}
    known = [
        ("team", printable(row.team or "")),
        ("constants", constants),
        ("remedy", row.outcome.remedy if row.outcome is not None else ""),
        ("forgetting quality", texts["F"] if row.calibrated_score is not None else ""),
        ("retain and test ratio", f"{texts['retain']} and {texts['test']}" if row.retain_ratio is not None else ""),
        ("time", f"{texts['time']} of the limit" if row.share_of_limit is not None else ""),
        ("runs", texts["runs"]),
        ("device", texts["device"]),
        ("isolation", texts["isolation"]),
        ("scorer", texts["scorer"]),
        ("entered", entry.entered.strftime("%d %b %Y, %H:%M %Z")),
        ("earlier versions", earlier),
        ("code", entry.code_hash[:16]),
    ]
    return [(name, value) for name, value in known if value]


def _version(entry: Entry, shown: Leaderboard) -> str:
    digits = 2 if shown.rounded is None else shown.rounded
    said = str(entry.outcome or entry.state) if entry.scored is None else number(entry.scored.calibrated_score, digits)
    return f"{said} ({entry.entered.strftime('%d %b')})"


def _sections(board: Board, entry: Entry, track: Track, *, hidden: bool) -> list[dict[str, Any]]:
    """Return the plots and tables of a scored entry; they take seconds, and are kept. None where runs are not here."""
    if entry.scored is None:
        return []
    kept = board.folder / "pages" / f"{entry.key}-{entry.score}{'-hidden' if hidden else ''}-{harness.__version__}.json"
    try:
        stored: list[dict[str, Any]] = read_json(kept)
    except (OSError, ValueError):
        stored = _made_sections(board, entry, track, hidden=hidden)
        write_json(kept, stored)
    return stored


def _made_sections(board: Board, entry: Entry, track: Track, *, hidden: bool) -> list[dict[str, Any]]:
    assert entry.scored is not None
    results, n = Results.at(board.results / entry.results), entry.scored.n_runs
    if len(results.runs(range(n))) < n:
        return []
    submission = read_submission(results.folder / "submission.py", source_kb=SOURCE_KB)
    named = replace(submission, path=Path(entry.file), sha256=entry.sha256, constants=entry.constants)
    evaluation = recall(named, track, entry.device, runs=n, home=board.results.parents[1])
    return [asdict(section) for section in sections(evaluation, board.raw_score(entry), hidden=hidden)]
