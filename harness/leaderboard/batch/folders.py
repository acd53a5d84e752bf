"""What lies in the folders of a competition: paths that may be submissions, and why all others are none.

    FOLDER/foo.py           a submission of nobody in particular
    FOLDER/TEAM/foo.py      one of a team

Nothing is opened here. What is not looked for is told of, but for what nobody takes for a submission: names that begin
with a dot or an underscore, README.md, and what the harness and its teams keep beside their files, logs and final.toml.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.contract import SUFFIXES
from harness.errors import UsageError
from harness.leaderboard.board.names import name_key, name_problem

__all__ = ["FINAL", "LOG", "MAX_FILES", "File", "files", "folder_name", "link_problem"]

FINAL = "final.toml"
LOG = ".log"
NO_SUBMISSIONS = (FINAL, "README.md")
MAX_FILES = 1000  # of a team that are opened


@dataclass(frozen=True)
class File:
    """A path in a folder, or one that was named."""

    path: Path
    name: str  # it is shown under: team/foo.py or foo.py
    team: str | None
    problem: str | None = None  # why it is not opened


def files(places: Sequence[Path]) -> Iterator[File]:
    """Yield what may be a submission or be taken for one, folders in the order of their names. Raises UsageError."""
    spelled: dict[str, str] = {}
    for path, team, problem in _paths(places):
        parts = [path.name] if team is None else [team, path.name]
        unfit = next(filter(None, map(name_problem, parts)), None)
        if unfit is None and problem is None:
            unfit = _other_spelling(spelled, parts)
        name = "/".join(parts)
        shown = unicodedata.normalize("NFC", name) if unfit is None else ascii(name)
        yield File(path, shown, team and unicodedata.normalize("NFC", team), problem or unfit)


def _paths(places: Sequence[Path]) -> Iterator[tuple[Path, str | None, str | None]]:
    """Yield paths, each with the folder of its team as it is spelled and why it is no submission. Raises UsageError."""
    for place in places:
        if place.is_dir():
            yield from _inside(place, None if _has_teams(place) else _team_of(place))
        elif place.exists():
            yield place, _team_of(place.parent), _kind_problem(place)
        else:
            raise UsageError(f"no file or folder {place}; harness leaderboard run takes both")


def _team_of(folder: Path) -> str | None:
    """Return the team whose folder one is, or None: a folder that was named is a team's if it lies in `submissions`."""
    name = folder_name(folder)
    return name if folder_name(folder / "..") == "submissions" != name else None


def _has_teams(folder: Path) -> bool:
    """Whether folders in one hold what may be submissions: it is that of a round, say, with a folder for each team."""
    return any(True for suffix in SUFFIXES for _ in folder.glob(f"*/*{suffix}"))


def _inside(folder: Path, team: str | None) -> Iterator[tuple[Path, str | None, str | None]]:
    """Yield what lies in a folder, which may be a team's; of a folder that is gone by now nothing."""
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        yield folder, None, f"the folder cannot be read: {error.strerror}"
        return
    paths = [path for path in paths if not _is_left_in_silence(path)]
    beyond = [] if team is None else [path for path in paths if path.suffix in SUFFIXES][MAX_FILES:]
    untold = set(beyond[1:])
    for path in paths:
        if path in untold:
            continue
        if team is None and path.is_dir() and not path.is_symlink():
            yield from _inside(path, path.name)
        elif path in beyond[:1]:
            yield path, team, f"a team may have {MAX_FILES} files, and from this one on {len(beyond)} are not opened"
        else:
            yield path, team, link_problem(path) if path.is_symlink() else _kind_problem(path)


def folder_name(folder: Path) -> str:
    """Return the name of a folder, also of one that is given as `.` or ends in `..`."""
    return os.path.basename(os.path.abspath(folder))


def link_problem(path: Path) -> str:
    """Return that a path is a symbolic link, and where to as far as it is still there."""
    try:
        return f"it is a link to {os.readlink(path)!a}"
    except OSError:
        return "it is a link"


def _is_left_in_silence(path: Path) -> bool:
    return path.name.startswith((".", "_")) or path.suffix == LOG or path.name in NO_SUBMISSIONS


def _kind_problem(path: Path) -> str | None:
    """Return why something in a folder is not taken for a submission."""
    if path.suffix in SUFFIXES:
        return None
    if path.is_dir():
        return "it is a directory: only files count that lie in the folder or in that of a team"
    if path.suffix.lower() in SUFFIXES:
        return f"its name ends in {path.suffix}, not in {path.suffix.lower()}"
    return f"its name does not end in {' or '.join(SUFFIXES)}"


def _other_spelling(spelled: dict[str, str], parts: Sequence[str]) -> str | None:
    """Return that a team or its file is another spelling of one that came before, whose spellings are in `spelled`."""
    for end in range(1, len(parts) + 1):
        name = "/".join(parts[:end])
        other = spelled.setdefault(name_key(name), name)
        if other != name:
            return f"its name is another spelling of {other!a}"
    return None
