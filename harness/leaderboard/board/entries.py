"""What a leaderboard keeps beside the results: the board, and one small file for each submission file on it.

    HARNESS_HOME/leaderboards/TRACK-HASH/
        board.json          what is run: track, number of runs, prize boundaries
        entries/KEY.json    how far one version of one file has come, and under which name its score is stored

Scores and runs stay in the results folder. Everything is written whole, so it may be read while a batch is running.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from harness.errors import MachineError
from harness.leaderboard.board.names import name_key
from harness.runner.outcome import Outcome
from harness.runs.store import Results
from harness.storage import read_json, write_json
from harness.tracks.track import Track

__all__ = [
    "BoardFile",
    "Entry",
    "StoredModel",
    "board_folder",
    "board_runs",
    "current",
    "entries",
    "stored_terms",
    "write_board",
    "write_entry",
]

AnyEntry = TypeVar("AnyEntry", bound="Entry")
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$")]


class StoredModel(BaseModel):
    """Values of a stored file; those that are not asked for are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class BoardFile(StoredModel):
    """What a leaderboard ranks, and how."""

    track: str
    public_hash: str
    reference_hash: str | None
    fingerprint: str
    rank_by: Literal["calibrated", "official"]
    runs: int  # of every submission that stays in reach of a boundary
    boundaries: tuple[Annotated[int, Field(gt=0)], ...]  # ranks after which prizes differ, named beforehand
    device: str

    @classmethod
    def of(cls, track: Track, *, runs: int, boundaries: tuple[int, ...], device: str) -> Self:
        """Return what a track's leaderboard keeps of itself."""
        manifest = track.manifest
        return cls(
            track=track.name,
            public_hash=manifest.public_hash,
            reference_hash=manifest.reference_hash,
            fingerprint=manifest.fingerprint,
            rank_by=track.declaration.evaluation.rank_by,
            runs=runs,
            boundaries=boundaries,
            device=device,
        )


class Entry(StoredModel):
    """One version of one submission file. A new version is a new entry."""

    submission: str  # the name it is shown under: team/foo.py or foo.py
    team: str | None
    file: str
    sha256: str
    code_hash: str
    constants: dict[str, str]
    device: str
    results: FileName  # folder of its runs, below the results of the track
    entered: AwareDatetime
    is_valid: bool = True  # it passes the static check; one that does not is never run
    is_learner: bool = Field(
        default=False, exclude_if=lambda is_one: not is_one
    )  # it trains too: a row of its own table
    state: Literal["queued", "running", "done", "failed", "stopped"] = (
        "queued"  # stopped: it cannot get under the limit
    )
    stage: int = 0  # the number of runs it was last given; its score, if it has one, is of so many
    runs: int = 0  # stored and OK
    outcome: Outcome | None = None
    message: str = ""  # one line: why it failed or stopped, and what to do
    score: FileName | None = None  # its stored score in the results folder, without .json

    @property
    def key(self) -> str:
        """The name of its file: another version of the code is another entry, another layout is not."""
        return hashlib.sha256(f"{self.submission}\0{self.code_hash}".encode()).hexdigest()[:16]

    @property
    def is_charged(self) -> bool:
        """Whether it counts against a team's quota: what the harness failed at does not."""
        return self.outcome != Outcome.HARNESS_ERROR


def board_folder(home: Path, track: Track) -> Path:
    """Return the folder of a track's leaderboard."""
    return home / "leaderboards" / Results.cache(home, track).name


def write_board(folder: Path, board: BoardFile) -> None:
    """Keep what a board is of."""
    write_json(folder / "board.json", board.model_dump(mode="json"))


def stored_terms(folder: Path) -> BoardFile | None:
    """Return what a board is of; None for one that is not there, or cannot be read."""
    try:
        return BoardFile.model_validate(read_json(folder / "board.json"))
    except (OSError, ValueError):
        return None


def board_runs(folder: Path) -> int:
    """Return how many runs of each a board ranks; 0 for one that is not there, or cannot be read."""
    before = stored_terms(folder)
    return 0 if before is None else before.runs


def write_entry(folder: Path, entry: Entry) -> None:
    """Keep an entry as it is now."""
    write_json(folder / "entries" / f"{entry.key}.json", entry.model_dump(mode="json"))


def entries(folder: Path) -> list[Entry]:
    """Return all entries of a board, of all versions, in the order in which they were entered.

    Raises MachineError naming a file that is damaged.
    """
    found = [_read(path) for path in (folder / "entries").glob("[!.]*.json")]
    return sorted(found, key=lambda entry: (entry.entered, entry.key))


def current(all_entries: Iterable[AnyEntry]) -> list[AnyEntry]:
    """Return the newest entry of each submission, of entries of which those of a submission are oldest first."""
    return list({name_key(entry.submission): entry for entry in all_entries}.values())


def _read(path: Path) -> Entry:
    try:
        return Entry.model_validate(read_json(path))
    except PermissionError:
        raise  # another user's, which is not damaged
    except (OSError, ValueError) as error:
        raise MachineError(f"{path} is damaged ({error}); remove it, and run harness leaderboard run again") from None
