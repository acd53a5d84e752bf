"""The files that people hand in: found, read without following a link, counted against a team's quota.

    FOLDER/*.py             submissions of nobody in particular
    FOLDER/TEAM/*.py        those of a team; FOLDER/TEAM/final.toml names its two choices for the final ranking

Teams may write to their folders while this reads them, so a file is opened once, looked at, and read from there.
Whatever is wrong with a file, its name or its content, is told of that file alone, and all others go on.
"""

import contextlib
import errno
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.errors import UsageError
from harness.guarded import guarded
from harness.leaderboard.board.entries import Entry
from harness.leaderboard.board.names import name_key, name_problem
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
MAX_FINAL_BYTES = 4096
FINAL = "final.toml"


@dataclass(frozen=True)
class File:
    """A path under which a submission may lie."""

    path: Path
    name: str  # it is shown under: team/foo.py or foo.py
    team: str | None
    problem: str | None = None  # why a file of this name is not read


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
    if file.problem is not None:
        raise OSError(file.problem)
    content = read_regular(file.path, MAX_BYTES)
    return Candidate(file.name, file.team, submission_of(file.path, content, source_kb=source_kb))


def chosen(found: SubmissionsFound) -> SubmissionsFound:
    """Return the files that the teams name in final.toml, and files of no team; a team without a valid one has none."""
    choices: dict[Path, set[str]] = {}  # as `name_key` has them
    passed_over = list(found.passed_over)
    for folder in sorted({each.path.parent for each in found.candidates if each.team is not None}):
        theirs = [each.path.name for each in found.candidates if each.path.parent == folder]
        try:
            choices[folder] = _choices(folder / FINAL, theirs)
        except ValueError as error:
            passed_over.append(f"{folder.name} has nothing in the final: {error}")
    kept = [
        each
        for each in found.candidates
        if each.team is None or name_key(each.path.name) in choices.get(each.path.parent, set())
    ]
    return SubmissionsFound(kept, passed_over)


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


def files(places: Sequence[Path]) -> Iterator[File]:
    """Yield the files that may be submissions, folders in the order of their names. Raises UsageError."""
    spelled: dict[str, str] = {}
    for path, team in _paths(places):
        parts = [path.name] if team is None else [team, path.name]
        problem = next(filter(None, map(name_problem, parts)), None) or _other_spelling(spelled, parts)
        name = "/".join(parts)
        shown = unicodedata.normalize("NFC", name) if problem is None else ascii(name)
        yield File(path, shown, team and unicodedata.normalize("NFC", team), problem)


def _paths(places: Sequence[Path]) -> Iterator[tuple[Path, str | None]]:
    """Yield the paths that may be submissions, each with the folder of its team as it is spelled. Raises UsageError."""
    for place in places:
        if not place.is_dir():
            if not place.exists():
                raise UsageError(f"no file or folder {place}; harness leaderboard run takes both")
            yield place, place.parent.name if place.absolute().parent.parent.name == "submissions" else None
            continue
        for path in _plain(place):
            if path.suffix == ".py":
                yield path, None
            elif path.is_dir() and not path.is_symlink():
                yield from ((file, path.name) for file in _plain(path) if file.suffix == ".py")


def _plain(folder: Path) -> list[Path]:
    """Return what lies in a folder and is not hidden; nothing if it cannot be read, or is gone by now."""
    with contextlib.suppress(OSError):
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    return []


def _other_spelling(spelled: dict[str, str], parts: Sequence[str]) -> str | None:
    """Return that a team or its file is another spelling of one that came before, whose spellings are in `spelled`."""
    for end in range(1, len(parts) + 1):
        name = "/".join(parts[:end])
        other = spelled.setdefault(name_key(name), name)
        if other != name:
            return f"its name is another spelling of {other!a}"
    return None


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
