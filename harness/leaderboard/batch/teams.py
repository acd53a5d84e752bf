"""The files that people hand in: found, read without following a link, counted against a team's quota.

    FOLDER/*.py             submissions of nobody in particular
    FOLDER/TEAM/*.py        those of a team; FOLDER/TEAM/final.toml names its two choices for the final ranking

Teams may write to their folders while this reads them, so a file is opened once, looked at, and read from there.
"""

import contextlib
import errno
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.errors import UsageError
from harness.leaderboard.board.entries import Entry
from harness.submission import Submission, submission_of

__all__ = [
    "Candidate",
    "DailyQuota",
    "File",
    "SubmissionsFound",
    "chosen",
    "files",
    "find_submissions",
    "part_of",
    "read",
]

MAX_BYTES = 1 << 24  # of a file that is read at all; how large a submission may be is the track's to say
MAX_CHOICES = 2
FINAL = "final.toml"


@dataclass(frozen=True)
class File:
    """A path under which a submission may lie."""

    path: Path
    name: str  # it is shown under: team/foo.py or foo.py
    team: str | None


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
        today = [
            entry
            for entry in entries
            if entry.team == team and entry.entered.astimezone(now.tzinfo).date() == now.date()
        ]
        return team is not None and sum(entry.is_charged for entry in today) >= self.per_day


def find_submissions(places: Sequence[Path], *, source_kb: int) -> SubmissionsFound:
    """Return the submissions in folders and files, by name. Raises UsageError for a place that is not there."""
    found = SubmissionsFound([], [])
    for file in files(places):
        try:
            found.candidates.append(read(file, source_kb=source_kb))
        except OSError as error:
            found.passed_over.append(f"{file.name} is passed over: {error.strerror or error}")
    _check_names(found.candidates)
    return found


def read(file: File, *, source_kb: int) -> Candidate:
    """Return what is handed in with a file as it is now. Raises OSError that says why it is none."""
    return Candidate(file.name, file.team, submission_of(file.path, read_regular(file.path), source_kb=source_kb))


def chosen(found: SubmissionsFound) -> SubmissionsFound:
    """Return the files that the teams name in final.toml, and files of no team; a team without a valid one has none."""
    choices: dict[Path, set[str]] = {}
    passed_over = list(found.passed_over)
    for folder in sorted({each.path.parent for each in found.candidates if each.team is not None}):
        theirs = [each.path.name for each in found.candidates if each.path.parent == folder]
        try:
            choices[folder] = _choices(folder / FINAL, theirs)
        except ValueError as error:
            passed_over.append(f"{folder.name} has nothing in the final: {error}")
    kept = [
        each for each in found.candidates if each.team is None or each.path.name in choices.get(each.path.parent, set())
    ]
    return SubmissionsFound(kept, passed_over)


def part_of(found: SubmissionsFound, part: int, parts: int) -> SubmissionsFound:
    """Return the submissions of one part of all; those of the same code share their runs, and so are in one part."""
    kept = [each for each in found.candidates if int(each.submission.code_hash, 16) % parts == part - 1]
    return SubmissionsFound(kept, found.passed_over)


def read_regular(path: Path) -> bytes:
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
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(f"it has more than {MAX_BYTES >> 20} MB")
    return content


def files(places: Sequence[Path]) -> Iterator[File]:
    """Yield the files that may be submissions, folders in the order of their names. Raises UsageError."""
    for place in places:
        if not place.is_dir():
            if not place.exists():
                raise UsageError(f"no file or folder {place}; harness leaderboard run takes both")
            team = place.parent.name if place.absolute().parent.parent.name == "submissions" else None
            yield File(place, f"{team}/{place.name}" if team else place.name, team)
            continue
        for path in _plain(place):
            if path.suffix == ".py":
                yield File(path, path.name, None)
            elif path.is_dir() and not path.is_symlink():
                theirs = (file for file in _plain(path) if file.suffix == ".py")
                yield from (File(file, f"{path.name}/{file.name}", path.name) for file in theirs)


def _plain(folder: Path) -> list[Path]:
    """Return what lies in a folder under names that can be shown; nothing if it cannot be read, or is gone by now."""
    with contextlib.suppress(OSError):
        paths = (path for path in folder.iterdir() if path.name.isprintable())
        return sorted(path for path in paths if not path.name.startswith((".", "_")))
    return []


def _check_names(candidates: Sequence[Candidate]) -> None:
    """Raise UsageError if two files would be shown under one name."""
    seen: dict[str, Path] = {}
    for each in candidates:
        other = seen.setdefault(each.name, each.path)
        if other != each.path:
            raise UsageError(f"{other} and {each.path} have the same name; run them on boards of their own, or rename")


def _choices(file: Path, theirs: Sequence[str]) -> set[str]:
    """Return the files a team chose. Raises ValueError with what is wrong."""
    try:
        content = read_regular(file).decode()
    except FileNotFoundError:
        raise ValueError(f'no {FINAL}; it holds choices = ["{theirs[0]}"], at most {MAX_CHOICES} files') from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{FINAL}: {error}") from None
    try:
        choices = tomllib.loads(content).get("choices")
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{FINAL} is not TOML: {error}") from None
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ValueError(f'{FINAL} has to hold choices = ["{theirs[0]}"], at most {MAX_CHOICES} files')
    if not 1 <= len(set(choices)) <= MAX_CHOICES:
        raise ValueError(f"{FINAL} names {len(set(choices))} files, and may name 1 to {MAX_CHOICES}")
    if unknown := sorted(set(choices) - set(theirs)):
        raise ValueError(f"{FINAL} names {', '.join(map(repr, unknown))}, and its folder has {', '.join(theirs)}")
    return set(choices)
