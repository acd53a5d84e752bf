"""What a person found of an entry that raised an alarm: one TOML file each, opened by the harness, edited by hand.

An alarm never moves a row. A review may: `decision = "disqualified"` takes the entry out of the ranking.
"""

import json
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness.errors import UsageError
from harness.leaderboard.board.stored import Board, ScoredEntry
from harness.report.escaping import escaped
from harness.storage import write_bytes
from harness.tracks.declaration import TomlSection

__all__ = ["Review", "open_reviews", "read_reviews"]

OPENED = """\
# Opened by an alarm. Edit it: the leaderboard shows it, and the harness never writes it again.
submission = {submission}
alarms = {alarms}

status = "open"  # or "closed"
decision = ""    # "stands", or "disqualified": out of the ranking
reason = ""      # one sentence that may be published
re_run = ""      # what a re-run with fresh seeds found, if there was one
"""


class Review(TomlSection):
    """One review file."""

    submission: str
    alarms: tuple[str, ...]  # those it was opened for
    status: Literal["open", "closed"]
    decision: Literal["", "stands", "disqualified"] = ""
    reason: str = ""
    re_run: str = ""

    def standing(self, entry: ScoredEntry) -> str:
        """Return what the table says of it, such as `closed: stands`; alarms it was not opened for ask once more."""
        said = f"{self.status}: {self.decision}" if self.decision else self.status
        new = set(entry.alarm_names) - set(self.alarms)
        return f"{said}, new alarm" if new else said


def open_reviews(board: Board) -> None:
    """Write a review of every current entry with alarms that has none yet."""
    for entry in board.current:
        path = board.folder / "reviews" / f"{entry.key}.toml"
        if entry.alarm_names and not path.exists():
            alarms = json.dumps(entry.alarm_names)
            write_bytes(path, OPENED.format(submission=_toml(entry.submission), alarms=alarms).encode())


def read_reviews(board: Board) -> dict[str, Review]:
    """Return the reviews by the keys of their entries. Raises UsageError naming a file that is none."""
    return {path.stem: _review(path) for path in sorted((board.folder / "reviews").glob("[!.]*.toml"))}


def _review(path: Path) -> Review:
    try:
        return Review.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
    except (OSError, ValueError, RecursionError) as error:
        wrong = str(error)
    raise UsageError(f"the review {path} cannot be read ({wrong}); correct it, or remove it to have it opened anew")


def _toml(text: str) -> str:
    """Return a text as a TOML string."""
    return json.dumps(escaped(text), ensure_ascii=False)
