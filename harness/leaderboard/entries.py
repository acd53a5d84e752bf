"""What a leaderboard keeps beside the results: the board, and one small file for each submission file on it.

    HARNESS_HOME/leaderboards/TRACK-PUBLIC/
        board.json          what is run: track, number of runs, prize boundaries
        entries/KEY.json    how far one version of one file has come, and under which name its score is stored

Scores and runs stay in the results folder. Everything is written whole, so it may be read while a batch is running.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.errors import MachineError
from harness.results import Results
from harness.runner.outcome import Outcome
from harness.storage import read_json, write_json
from harness.track import Track

__all__ = [
    "Board",
    "Entry",
    "board_folder",
    "current",
    "entries",
    "read_board",
    "read_entry",
    "write_board",
    "write_entry",
]


@dataclass(frozen=True)
class Board:
    """What a leaderboard is of."""

    track: str
    public_hash: str
    reference_hash: str | None
    fingerprint: str
    rank_by: str  # calibrated, official
    runs: int  # of every submission that stays in reach of a boundary
    boundaries: list[int]  # ranks that prizes hang on; none: every submission gets all runs
    device: str

    @classmethod
    def of(cls, track: Track, *, runs: int, boundaries: list[int], device: str) -> "Board":
        """Return the board of a track."""
        manifest, rank_by = track.manifest, track.declaration.evaluation.rank_by
        hashes = (manifest.public_hash, manifest.reference_hash, manifest.fingerprint)
        return cls(track.name, *hashes, rank_by, runs, boundaries, device)


@dataclass(frozen=True)
class Entry:
    """One version of one submission file."""

    submission: str  # the name it is shown under: team/foo.py or foo.py
    team: str | None
    file: str
    sha256: str
    code_hash: str
    constants: dict[str, str]
    device: str
    results: str  # its folder among the results on the track
    entered: str  # ISO time with offset
    state: str = "queued"  # running, done, failed (see outcome), stopped (over the time limit whatever is to come)
    stage: int = 0  # the number of runs it was last given; its score, if it has one, is of so many
    runs: int = 0  # stored and OK
    outcome: Outcome | None = None
    message: str = ""  # one line: why it failed or stopped, and what to do
    score: str | None = None  # its stored score in the results folder, without .json

    @property
    def key(self) -> str:
        """The name of its file: another version of the code is another entry, another layout is not."""
        return hashlib.sha256(f"{self.submission}\0{self.code_hash}".encode()).hexdigest()[:16]

    @property
    def is_charged(self) -> bool:
        """Whether it counts against a team's quota: what the harness failed at does not."""
        return self.outcome != Outcome.HARNESS_ERROR

    @property
    def entered_at(self) -> datetime:
        """When it was entered, with its time zone."""
        return datetime.fromisoformat(self.entered)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Entry":
        """Return what `to_json` returned. Raises TypeError or ValueError if it is something else."""
        outcome = stored.get("outcome")
        return cls(**{**stored, "outcome": None if outcome is None else Outcome(outcome)})


def board_folder(home: Path, track: Track) -> Path:
    """Return the folder of a track's leaderboard."""
    return home / "leaderboards" / Results.cache(home, track).name


def write_board(folder: Path, board: Board) -> None:
    """Keep what a board is of."""
    write_json(folder / "board.json", asdict(board))


def read_board(folder: Path) -> Board | None:
    """Return the board in a folder, or None if there is none."""
    try:
        return Board(**read_json(folder / "board.json"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder / "board.json", error) from None


def write_entry(folder: Path, entry: Entry) -> None:
    """Keep an entry as it is now."""
    write_json(_path(folder, entry.key), entry.to_json())


def read_entry(folder: Path, key: str) -> Entry | None:
    """Return an entry of a board, or None."""
    try:
        return Entry.from_json(read_json(_path(folder, key)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(_path(folder, key), error) from None


def entries(folder: Path) -> list[Entry]:
    """Return all entries of a board, of all versions, in the order in which they were entered."""
    keys = (path.stem for path in (folder / "entries").glob("*.json") if not path.name.startswith("."))
    found = [entry for key in keys if (entry := read_entry(folder, key)) is not None]
    return sorted(found, key=lambda entry: (entry.entered_at, entry.key))


def current(all_entries: list[Entry]) -> list[Entry]:
    """Return the newest entry of each submission, of entries in the order in which they were entered."""
    return list({entry.submission: entry for entry in all_entries}.values())


def _path(folder: Path, key: str) -> Path:
    return folder / "entries" / f"{key}.json"


def _damaged(path: Path, error: Exception) -> MachineError:
    return MachineError(f"{path} is damaged ({error}); remove it, and run harness leaderboard run again")
