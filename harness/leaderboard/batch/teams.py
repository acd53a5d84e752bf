"""The files that people hand in: found, counted against a team's quota, chosen for a final.

Whatever is wrong with a file, its name or its content, is told of that file alone, and all others go on.
"""

import contextlib
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.errors import UsageError
from harness.guarded import guarded
from harness.leaderboard.batch.folders import FINAL, File, files, folder_name
from harness.leaderboard.batch.reading import Candidate, Reader, read_regular
from harness.leaderboard.board.entries import Entry
from harness.leaderboard.board.names import listed, name_key

__all__ = [
    "FINAL",
    "DailyQuota",
    "SubmissionsFound",
    "chosen",
    "find_submissions",
    "part_of",
    "with_faults_of_choices",
]

MAX_CHOICES = 2
MAX_FINAL_BYTES = 4096
MAX_NAMED = 100  # things of a team that are passed over, each in a sentence of its own


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
    all_files, reader = list(files(places)), Reader(source_kb)
    found, passed_over, refused = SubmissionsFound([], []), Counter[str | None](), Counter[str]()
    for file in all_files:
        if (refusal := reader.refusal(file)) is not None:
            refused[refusal] += 1
            continue
        try:
            found.candidates.append(reader.read(file))
        except OSError as error:
            passed_over[file.team] += 1
            if passed_over[file.team] <= MAX_NAMED:
                found.passed_over.append(f"{file.name} is passed over: {error.strerror or error}")
    found.passed_over.extend(
        f"{count - MAX_NAMED} more are passed over, {f'of {team}' if team else 'of no team'}"
        for team, count in passed_over.items()
        if count > MAX_NAMED
    )
    found.passed_over.extend(f"{count} more are passed over: {refusal}" for refusal, count in refused.items())
    found.passed_over.extend(_same_files(all_files))
    _check_names(found.candidates)
    return found


def _same_files(all_files: Iterable[File]) -> Iterator[str]:
    """Yield a sentence on each file that lies here under several names: nobody can tell whose it was first."""
    names: dict[tuple[int, int], list[str]] = {}
    for file in all_files:
        with contextlib.suppress(OSError):  # it was taken away meanwhile
            status = file.path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                names.setdefault((status.st_dev, status.st_ino), []).append(file.name)
    for alike in names.values():
        if len(alike) > 1:
            yield f"{listed(alike)} are hard links to one file"


def chosen(found: SubmissionsFound) -> SubmissionsFound:
    """Return the files that the teams name in final.toml, and files of no team; a team without a valid one has none."""
    choices, faults = _choices_of_teams(found)
    passed_over = [f"{folder_name(folder)} has nothing in the final: {fault}" for folder, fault in faults.items()]
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
        f"{folder_name(folder)} would have nothing in the final: {fault}"
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
