"""A leaderboard as it lies on disk, read and checked; nothing here writes.

    HARNESS_HOME/leaderboards/TRACK-PUBLIC/
        board.json           what is ranked and how
        entries/KEY.json     one submission file each: whose it is, how far it got, where its runs and its score are
        reviews/KEY.toml     what a person found of an entry that raised an alarm
        exact/*.json         exact tests about a prize boundary, kept since they take seconds
        pages/*.json         plots of submissions' pages, kept for the same reason

Scores stay where evaluations put them, in the results folder of the same name. A damaged file is an error that names
it: a table without one of its rows would be a wrong table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import MachineError, UsageError
from harness.evaluation.reference import Ends, stored_ends
from harness.evaluation.score_file import ScoreFile
from harness.leaderboard.board.entries import BoardFile, Entry, board_folder, current
from harness.leaderboard.board.names import name_key
from harness.record import Records
from harness.runs.run import Run
from harness.runs.store import Results
from harness.tracks.track import Track

__all__ = ["Board", "ScoredEntry", "read_board"]

Model = TypeVar("Model", bound=BaseModel)


class ScoredEntry(Entry):
    """An entry with what is stored of its score."""

    scored: ScoreFile | None = None


@dataclass(frozen=True)
class Board:
    """A leaderboard: its terms and its entries, all versions of all files, sorted by submission and age."""

    folder: Path
    results: Path
    terms: BoardFile
    entries: tuple[ScoredEntry, ...]

    @cached_property
    def current(self) -> tuple[ScoredEntry, ...]:
        """The newest entry of every submission."""
        return tuple(current(self.entries))

    def earlier(self, entry: Entry) -> list[ScoredEntry]:
        """Return the versions before an entry, the oldest first."""
        name = name_key(entry.submission)
        return [other for other in self.entries if name_key(other.submission) == name and other != entry]

    def reference_ends(self, score_name: str) -> Ends | None:
        """Return the ends of the scale that a score of this name was made with, None if they are gone."""
        return stored_ends(self.results, score_name.removeprefix("score-"))

    def runs(self, entry: ScoredEntry, n_runs: int) -> list[Run]:
        """Return an entry's first runs, which all have records. Raises MachineError if some are not stored."""
        stored = Results(self.results / entry.results).runs(range(n_runs))
        runs = [run for run in stored.values() if run.record is not None]
        if len(runs) < n_runs:
            raise MachineError(
                f"{n_runs - len(runs)} of {n_runs} runs of {entry.submission} are not in "
                f"{self.results / entry.results}; make them again: harness leaderboard run"
            )
        return runs

    def records(self, entry: ScoredEntry, n_runs: int) -> Records:
        """Return the records of an entry's first runs. Raises MachineError if some are not stored."""
        return Records.concatenate(run.record for run in self.runs(entry, n_runs) if run.record is not None)


def read_board(home: Path, track: Track) -> Board:
    """Return the leaderboard of a track.

    Raises UsageError if there is none, MachineError naming every file that is damaged or missing.
    """
    folder, results = board_folder(home, track), Results.cache(home, track)
    if not (folder / "board.json").is_file():
        raise UsageError(f"there is no leaderboard of {track.name}; start one: harness leaderboard run FOLDER")
    problems: list[str] = []
    terms = _read(BoardFile, folder / "board.json", problems)
    entries = list(_entries(folder / "entries", results, problems))
    if terms is None or problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise MachineError(
            f"the leaderboard {folder} has files that are damaged, or of an earlier version:{listed}\nput damaged ones "
            "back from a copy, or remove them; harness leaderboard run computes scores anew from the stored runs"
        )
    entries.sort(key=lambda entry: (name_key(entry.submission), entry.entered, entry.key))
    return Board(folder, results, terms, tuple(entries))


def _entries(folder: Path, results: Path, problems: list[str]) -> Iterator[ScoredEntry]:
    for path in sorted(folder.glob("[!.]*.json")):
        entry = _read(ScoredEntry, path, problems)
        if entry is None:
            continue
        if entry.key != path.stem:
            problems.append(f"{path}: the entry in it is {entry.key}")
        scored = entry.score and _read(ScoreFile, results / entry.results / f"{entry.score}.json", problems)
        yield entry.model_copy(update={"scored": scored or None})


def _read(model: type[Model], path: Path, problems: list[str]) -> Model | None:
    """Return what a file holds, or None after adding what is wrong with it to the problems."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        problems.append(f"{path}: missing")
    except ValidationError as error:
        first = error.errors()[0]
        problems.append(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
    return None
