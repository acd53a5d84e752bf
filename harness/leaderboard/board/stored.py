"""A leaderboard as it lies on disk, read and checked; nothing here writes.

    HARNESS_HOME/leaderboards/TRACK-HASH/
        board.json           what is ranked and how
        entries/KEY.json     one submission file each: whose it is, how far it got, where its runs and its score are
        reviews/KEY.toml     what a person found of an entry that raised an alarm
        exact/*.json         exact tests about a prize boundary, kept since they take seconds
        pages/*.json         plots of submissions' pages, kept for the same reason

Scores stay where evaluations put them, in the results folder of the same name. A damaged file is an error that names
it: a table without one of its rows would be a wrong table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.errors import MachineError, UsageError
from harness.evaluation.reference import Ends, stored_ends
from harness.evaluation.score_file import ScoreFile
from harness.leaderboard.board.entries import BoardFile, Entry, board_folder, current
from harness.leaderboard.board.names import name_key
from harness.record import Records
from harness.runs.run import Run, records_of
from harness.runs.stage import Stage
from harness.runs.store import Results
from harness.storage import read_json
from harness.tracks.track import Track

__all__ = ["SAME_CODE", "Board", "ScoredEntry", "read_board", "readable_board"]

Stored = TypeVar("Stored")
SAME_CODE = "same code"  # the name of an alarm


class ScoredEntry(Entry):
    """An entry with what is stored of its score, and what is known of its code."""

    scored: ScoreFile | None = None
    same_code: tuple[str, ...] = ()  # files of others that hold it

    @property
    def alarm_names(self) -> tuple[str, ...]:
        """What asks a person to look at it."""
        of_score = () if self.scored is None else self.scored.alarm_names
        return (*of_score, SAME_CODE) if self.same_code else of_score


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

    def runs(self, entry: ScoredEntry, n_runs: int, stage: Stage = Stage.RUN) -> list[Run]:
        """Return an entry's first runs, which all have records. Raises MachineError if some are not stored."""
        results = Results(self.results / entry.results)
        stored = results.runs(range(n_runs), stage=stage)
        runs = {index: run for index, run in stored.items() if run.record is not None}
        if lacking := [results.run_file(index, stage).name for index in range(n_runs) if index not in runs]:
            raise MachineError(
                f"{len(lacking)} of {n_runs} runs of {entry.submission} are missing or damaged in {results.folder}: "
                f"{', '.join(lacking)}; remove them if they are there, and make them again: harness leaderboard run"
            )
        return list(runs.values())

    def records(self, entry: ScoredEntry, n_runs: int) -> Records:
        """Return the records of an entry's first runs. Raises MachineError if some are not stored."""
        return records_of(self.runs(entry, n_runs))


def read_board(home: Path, track: Track) -> Board:
    """Return the leaderboard of a track.

    Raises UsageError if there is none, MachineError naming every file that is damaged or missing.
    """
    board, problems = readable_board(home, track)
    if problems:
        raise _unreadable(board.folder, problems)
    return board


def readable_board(home: Path, track: Track) -> tuple[Board, list[str]]:
    """Return what is whole of the leaderboard of a track, and a line for every file that is damaged or missing.

    Raises UsageError if there is no leaderboard, MachineError if it does not say what it is of.
    """
    folder, results = board_folder(home, track), Results.cache(home, track)
    if not (folder / "board.json").is_file():
        raise UsageError(f"there is no leaderboard of {track.name}; start one: harness leaderboard run FOLDER")
    problems: list[str] = []
    terms = _read(BoardFile.model_validate, folder / "board.json", problems)
    if terms is None:
        raise _unreadable(folder, problems)
    entries = list(_entries(folder / "entries", results, problems))
    entries.sort(key=lambda entry: (name_key(entry.submission), entry.entered, entry.key))
    return Board(folder, results, terms, tuple(entries)), problems


def _unreadable(folder: Path, problems: list[str]) -> MachineError:
    listed = "".join(f"\n  {problem}" for problem in problems)
    return MachineError(
        f"the leaderboard {folder} has files that are damaged, or of an earlier version:{listed}\nput damaged ones "
        "back from a copy, or remove them; harness leaderboard run computes scores anew from the stored runs"
    )


def _entries(folder: Path, results: Path, problems: list[str]) -> Iterator[ScoredEntry]:
    for path in sorted(folder.glob("[!.]*.json")):
        entry = _read(ScoredEntry.model_validate, path, problems)
        if entry is None:
            continue
        if entry.key != path.stem:
            problems.append(f"{path}: the entry in it is {entry.key}")
        scored = entry.score and _read(ScoreFile.from_json, results / entry.results / f"{entry.score}.json", problems)
        yield entry.model_copy(update={"scored": scored or None})


def _read(parse: Callable[[Any], Stored], path: Path, problems: list[str]) -> Stored | None:
    """Return what a JSON file holds, or None after adding what is wrong with it to the problems."""
    try:
        return parse(read_json(path))
    except FileNotFoundError:
        problems.append(f"{path}: missing")
    except ValidationError as error:
        first = error.errors()[0]
        problems.append(": ".join(filter(None, (str(path), ".".join(map(str, first["loc"])), first["msg"]))))
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
    return None
