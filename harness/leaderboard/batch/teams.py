"""The files that people hand in: read without following a link, counted against a team's quota, chosen for a final.

Teams may write to their folders while this reads them, so a file is opened once, looked at, and read from there.
Whatever is wrong with a file, its name or its content, is told of that file alone, and all others go on.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.errors import UsageError
from harness.guarded import guarded
from harness.leaderboard.batch.folders import FINAL, File, files
from harness.leaderboard.board.entries import Entry
from harness.leaderboard.board.names import name_key
from harness.submission import MAX_NOTEBOOK_KB, Submission, submission_of

__all__ = [
    "FINAL",
    "Candidate",
    "DailyQuota",
    "SubmissionsFound",
    "chosen",
    "find_submissions",
    "part_of",
    "read",
    "with_faults_of_choices",
]

MAX_BYTES = MAX_NOTEBOOK_KB * 1024  # of a file that is read at all; of code the track says how much there may be
MAX_CHOICES = 2
MAX_FINAL_BYTES = 4096
MAX_NAMED = 100  # things of a team that are passed over, each in a sentence of its own


@dataclass(frozen=True)
class Candidate:
    """A file that somebody handed in, as it was when it was read."""

    name: str  # the name it is shown under: team/foo.py or foo.py
    team: str | None
    submission: Submission

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.submission.path


@dataclass(frozen=True)
class SubmissionsFound:
    """What lies in the folders, and a sentence about each thing that was passed over."""

    candidates: list[Candidate]
    passed_over: list[str]


@dataclass(frozen=True)
class DailyQuota:
    """How many submissions a team may enter on one day; those that the harness failed at do not count."""

    per_day: int

    def is_used_up(self, team: str | None, entries: Iterable[Entry], now: datetime) -> bool:
        """Whether a team has entered all it may on the day that it is now, in the time zone of `now`."""
        if team is None:
            return False
        today = [
            entry
            for entry in entries
            if entry.team is not None
            and entry.entered.astimezone(now.tzinfo).date() == now.date()
            and name_key(entry.team) == name_key(team)
        ]
        return sum(entry.is_charged for entry in today) >= self.per_day


def find_submissions(places: Sequence[Path], *, source_kb: int) -> SubmissionsFound:
    """Return the submissions in folders and files, by name. Raises UsageError for a place that is not there."""
    found, passed_over = SubmissionsFound([], []), Counter[str | None]()
    for file in files(places):
        try:
            found.candidates.append(read(file, source_kb=source_kb))
        except OSError as error:
            passed_over[file.team] += 1
            if passed_over[file.team] <= MAX_NAMED:
                found.passed_over.append(f"{file.name} is passed over: {error.strerror or error}")
    for team, count in passed_over.items():
        if count > MAX_NAMED:
            found.passed_over.append(
                f"{count - MAX_NAMED} more are passed over, {f'of {team}' if team else 'of no team'}"
            )
    _check_names(found.candidates)
    return found


def read(file: File, *, source_kb: int) -> Candidate:
    """Return what is handed in with a file as it is now. Raises OSError that says why it is none.

    A whole file with no function to be run, nor one like it, is none: it is a helper, or somebody's notes.
    """
    if file.problem is not None:
        raise OSError(file.problem)
    submission = submission_of(file.path, read_regular(file.path, MAX_BYTES), source_kb=source_kb)
    if submission.is_helper:
        raise OSError(submission.problems[0])
    return Candidate(file.name, file.team, submission)


def chosen(found: SubmissionsFound) -> SubmissionsFound:
    """Return the files that the teams name in final.toml, and files of no team; a team without a valid one has none."""
    choices, faults = _choices_of_teams(found)
    passed_over = [f"{folder.name} has nothing in the final: {fault}" for folder, fault in faults.items()]
    kept = [
        each
        for each in found.candidates
        if each.team is None or name_key(each.path.name) in choices.get(each.path.parent, set())
    ]
    return SubmissionsFound(kept, [*found.passed_over, *passed_over])


def with_faults_of_choices(found: SubmissionsFound) -> SubmissionsFound:
    """Add a sentence on each final.toml that is there and would leave its team without a file in the final."""
    _, faults = _choices_of_teams(found)
    sentences = [
        f"{folder.name} would have nothing in the final: {fault}"
        for folder, fault in faults.items()
        if (folder / FINAL).exists()
    ]
    return SubmissionsFound(found.candidates, [*found.passed_over, *sentences])


def _choices_of_teams(found: SubmissionsFound) -> tuple[dict[Path, set[str]], dict[Path, str]]:
    """Return what teams chose, as `name_key` has it, and what is wrong with the choices of others, by their folders."""
    choices, faults = {}, {}
    for folder in sorted({each.path.parent for each in found.candidates if each.team is not None}):
        theirs = [each.path.name for each in found.candidates if each.path.parent == folder]
        try:
            choices[folder] = _choices(folder / FINAL, theirs)
        except ValueError as error:
            faults[folder] = str(error)
    return choices, faults


def part_of(found: SubmissionsFound, part: int, parts: int) -> SubmissionsFound:
    """Return the submissions of one part of all; those of the same code share their runs, and so are in one part."""
    kept = [each for each in found.candidates if int(each.submission.code_hash, 16) % parts == part - 1]
    return SubmissionsFound(kept, found.passed_over)


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file that is no link and has no other name. Raises OSError that says why not."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError("it is a link") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if status.st_nlink > 1:
            raise OSError("it is a link: the file has another name")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(f"it has more than {max_bytes >> 10} KB")
    return content


def _check_names(candidates: Sequence[Candidate]) -> None:
    """Raise UsageError if two files would be shown under one name."""
    seen: dict[str, Path] = {}
    for each in candidates:
        other = seen.setdefault(each.name, each.path)
        if other != each.path:
            raise UsageError(f"{other} and {each.path} have the same name; run them on boards of their own, or rename")


def _choices(file: Path, theirs: Sequence[str]) -> set[str]:
    """Return the files a team chose, as `name_key` has them. Raises ValueError with what is wrong."""
    example = f'choices = ["{theirs[0]}"], at most {MAX_CHOICES} files'
    try:
        chosen_names = guarded("strings", read_regular(file, MAX_FINAL_BYTES), key="choices")
    except FileNotFoundError:
        raise ValueError(f"no {FINAL}; it holds {example}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{FINAL}: {error}") from None
    if chosen_names is None:
        raise ValueError(f"{FINAL} has to hold {example}")
    choices = {name_key(name): name for name in chosen_names}
    if not 1 <= len(choices) <= MAX_CHOICES:
        raise ValueError(f"{FINAL} names {len(choices)} files, and may name 1 to {MAX_CHOICES}")
    if unknown := choices.keys() - map(name_key, theirs):
        named = ", ".join(sorted(ascii(choices[key]) for key in unknown))
        raise ValueError(f"{FINAL} names {named}, and its folder has {', '.join(theirs)}")
    return set(choices)
