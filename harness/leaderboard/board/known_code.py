"""Code that is somebody else's: that of a baseline, which is not ranked, and that which several teams hand in."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness.contract import SUFFIXES
from harness.leaderboard.board.entries import Entry
from harness.leaderboard.board.names import listed, name_key
from harness.leaderboard.board.stored import Board
from harness.report.escaping import escaped
from harness.shipped import BASELINES, TEMPLATE
from harness.submission import read_submission

__all__ = ["SOURCE_KB", "baselines_in", "shared_code", "shipped_baselines", "told_of_shared", "with_shared_code"]

SOURCE_KB = 1 << 20  # no limit: what was entered has been checked


def baselines_in(folder: Path) -> dict[str, str]:
    """Return the names of the baselines in a folder and in those below it, by the hashes of their code."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    return {_code_of(file): file.stem for file in files}


@cache
def shipped_baselines() -> dict[str, str]:
    """Return the names of the baselines that ship with the harness, by the hashes of their code.

    The template is one of them, where it is: in a checkout its folder is the users'.
    """
    return baselines_in(BASELINES) | ({_code_of(TEMPLATE): TEMPLATE.stem} if TEMPLATE.is_file() else {})


def shared_code(entries: Iterable[Entry], baselines: Collection[str] = ()) -> dict[str, list[Entry]]:
    """Return the entries whose code more than one team handed in, by its hash, each file once.

    baselines: hashes of code that everybody has, beside what ships with the harness. Files of no team are each of
    somebody else.
    """
    public = {*baselines, *shipped_baselines()}
    alike: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        if entry.is_valid and entry.code_hash not in public:
            alike.setdefault(entry.code_hash, {})[name_key(entry.submission)] = entry
    return {code: list(found.values()) for code, found in alike.items() if len(set(map(_owner, found.values()))) > 1}


def told_of_shared(names: Sequence[str]) -> str:
    """Return the sentence on submissions that have their code in common."""
    return f"{escaped(listed(names))} hold the same code"


def with_shared_code(board: Board, baselines: Collection[str]) -> Board:
    """Return a board whose entries know the files of others that hold their code, in any version."""
    shared = shared_code(board.entries, baselines)
    return replace(
        board,
        entries=tuple(
            entry.model_copy(
                update={
                    "same_code": tuple(
                        other.submission for other in shared.get(entry.code_hash, ()) if _owner(other) != _owner(entry)
                    )
                }
            )
            for entry in board.entries
        ),
    )


def _code_of(file: Path) -> str:
    return read_submission(file, source_kb=SOURCE_KB).code_hash


def _owner(entry: Entry) -> tuple[str, bool]:
    """Return what is the same for all files of a team."""
    return (name_key(entry.submission), False) if entry.team is None else (name_key(entry.team), True)
