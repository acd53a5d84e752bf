"""A leaderboard as a static site: one page with the table and a page per submission, none of which needs anything else.

Names and messages are a participant's: templates escape them, and the policy of every page lets no script run but ours.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from harness.leaderboard.board.reviews import Review
from harness.leaderboard.board.rows import Leaderboard
from harness.leaderboard.pages.index_page import index_page
from harness.leaderboard.pages.submission_page import page_of, submission_page
from harness.report.page import pages
from harness.storage import write_bytes
from harness.tracks.track import Track

__all__ = ["write_site"]

GENERATOR = "unlearning-harness leaderboard"


def write_site(
    shown: Leaderboard,
    track: Track,
    reviews: Mapping[str, Review],
    output: Path,
    *,
    hidden: bool = False,
    on_page: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the site of a leaderboard into a folder and return the number of its pages.

    hidden: no forget example and nothing a run says is shown; rounded scores hide them and every plot as well. Pages of
    submissions that are gone are removed; other files in the folder are left alone.
    """
    style, script = (_own_file(name) for name in ("style.css", "script.js"))
    templates = pages("harness.leaderboard.pages", "harness.report")
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": True}
    templates.globals |= {"track": track.name, "title": track.declaration.title, "style": style, "generator": GENERATOR}
    written = {"index.html"}
    rows = {row.key: row for row in (*shown.rows, *shown.learners) if row.key is not None}
    for done, entry in enumerate(entry for entry in shown.board.current if entry.key in rows):
        on_page(done, len(rows))
        review = reviews.get(entry.key)
        page = submission_page(rows[entry.key], entry, shown, track, review, hidden=hidden)
        values = {**vars(page), "policy": _policy(style)}
        _write(output / page_of(entry.key), templates.get_template("submission.html").render(values))
        written.add(page_of(entry.key))
    values = {**vars(index_page(shown)), "policy": _policy(style, script), "script": script}
    _write(output / "index.html", templates.get_template("index.html").render(values))
    _remove_gone(output, written)
    return len(written)


def _own_file(name: str) -> Markup:
    """Return a file of this package that goes into pages as it is."""
    return Markup(files("harness.leaderboard.pages").joinpath(name).read_text(encoding="utf-8"))


def _policy(style: str, script: str | None = None) -> str:
    """Return a Content-Security-Policy under which nothing but this style and this script has an effect."""
    scripts = "" if script is None else f"; script-src {_hash(script)}"
    return f"default-src 'none'; img-src data:; base-uri 'none'; style-src {_hash(style)}{scripts}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _write(path: Path, page: str) -> None:
    """Write a page that whoever serves the folder may read."""
    write_bytes(path, page.encode(errors="replace"), mode=0o644)


def _remove_gone(output: Path, written: set[str]) -> None:
    """Remove the pages of submissions that are no longer on the leaderboard, by the mark that every page has."""
    for path in output.glob("submissions/*.html"):
        if path.relative_to(output).as_posix() not in written and f'content="{GENERATOR}"' in path.read_text("utf-8"):
            path.unlink()
