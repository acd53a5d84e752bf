"""Names that were mistyped: a question about the known one that is closest, to be put right after the wrong one."""

import contextlib
import difflib
import os.path
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from harness.quoting import quoted

__all__ = ["did_you_mean", "did_you_mean_file"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the question about a word; nothing if no known name is close."""
    return _question(word, {name: name for name in known})


def did_you_mean_file(path: Path, suffixes: Collection[str], others: Iterable[str] = ()) -> str:
    """Return the question about a path where no file is; its folder may be mistyped as well.

    suffixes: of the files that could be meant. others: what can be given instead of a file.
    """
    folder = _closest_folder(path.parent)
    files = [] if folder is None else [each for each in _held(folder) if each.suffix in suffixes]
    known = {name: name for name in others} | {file.stem: str(file) for file in files if os.path.isfile(file)}
    return _question(path.stem, known)


def _question(word: str, known: Mapping[str, str]) -> str:
    """Return the question about a word; known: names, each with what is to be written for it."""
    written = {name.lower(): meant for name, meant in known.items()}
    close = difflib.get_close_matches(word.lower(), written, n=1)
    return f" (did you mean {quoted(written[close[0]])}?)" if close else ""


def _closest_folder(folder: Path) -> Path | None:
    """Return the folder that exists and is spelled like this one, itself if it exists."""
    if os.path.isdir(folder):
        return folder
    above = None if folder.parent == folder else _closest_folder(folder.parent)
    if above is None:
        return None
    names = [each.name for each in _held(above) if os.path.isdir(each)]
    close = difflib.get_close_matches(folder.name, names, n=1)
    return above / close[0] if close else None


def _held(folder: Path) -> Iterator[Path]:
    """Yield what a folder holds, as far as one may look."""
    with contextlib.suppress(OSError):
        yield from folder.iterdir()
