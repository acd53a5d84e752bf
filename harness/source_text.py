"""The Python text of a file as people hand it in: whatever its encoding, a module, or the code cells of a notebook.

Shell lines and magics are taken out, every line staying where it is. Standard library only.
"""

import ast
import codecs
import io
import json
import re
import tokenize
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["SourceText", "as_utf8", "parsed", "source_text"]

# What names the encoding of a file, in its first line or after a first one without code (PEP 263).
ENCODING = re.compile(r"\A((?:[ \t\f]*(?:#.*)?\r?\n)??[ \t\f]*#.*?coding[:=][ \t]*)[-\w.]+", re.ASCII)
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Cell magics that say something about the Python below them; below all others stands something else.
ABOUT_PYTHON = {"capture", "time", "timeit", "prun", "memit", "python", "python3"}
TIMED = re.compile(r"(\s*)%(?:time|prun|memit)\s+(?:-\w+\s+)*(?=\w)")  # a line magic before a statement
COMMAND = re.compile(r"\s*([%!?]|\w+\s*=\s*[%!]|[\w.]+\?\??\s*$)")
# Notebooks also take the names of these programs without a sign before them.
PROGRAMS = "pip3?|conda|cd|ls|mkdir|cp|mv|rm|cat|pwd|wget|curl|git|unzip|tar|nvidia-smi"
AUTOMAGIC = re.compile(rf"\s*({PROGRAMS})\b(?!\s*[=(.,\[])")


@dataclass(frozen=True)
class SourceText:
    """Python source."""

    text: str
    cells: tuple[tuple[int, int], ...] = ()  # of a notebook: the number of each code cell, and its first line
    commands: tuple[tuple[int, str], ...] = ()  # shell lines and magics that were taken out, each with its line
    unreadable: tuple[str, ...] = ()  # why cells of a notebook are left out

    @property
    def is_notebook(self) -> bool:
        """Whether it is the code of a notebook."""
        return bool(self.cells)

    def place(self, line: int) -> str:
        """Return how a line is named to its author."""
        number, first = max((cell for cell in self.cells if cell[1] <= line), default=(0, 0), key=lambda cell: cell[1])
        return f"cell {number}, line {line - first + 1}" if number else f"line {line}"


def source_text(content: bytes, *, is_notebook: bool) -> SourceText:
    """Return the Python of a file with this content; one that holds a notebook is one, whatever its name.

    Raises ValueError with what is wrong and what to do about it.
    """
    text = _decoded(content)
    cells = _cells(text, is_notebook=is_notebook)
    if cells is not None:
        return _joined(cells)
    without, commands = _without_commands(text)
    return SourceText(without, commands=tuple(commands))


def as_utf8(text: str) -> bytes:
    """Return the content of a file that Python reads as this text; a comment that names another encoding is mended."""
    return ENCODING.sub(r"\1utf-8", text).encode()


def parsed(text: str) -> ast.Module:
    """Return the syntax tree of a text. Raises SyntaxError."""
    with warnings.catch_warnings(action="ignore"):  # such as one of an invalid escape: not ours to tell
        return ast.parse(text)


def _decoded(content: bytes) -> str:
    """Return the text of a file in the encoding that Python would read it in. Raises ValueError."""
    if content.startswith(UTF16):
        raise ValueError("the file is UTF-16 text, which some editors call Unicode; save it as UTF-8")
    if b"\0" in content:
        raise ValueError("the file holds a null byte: it is not Python source")
    encoding, fault = "utf-8-sig", None
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError as error:  # its first lines are no text, or name an encoding that is not there
        fault = error
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the file is not {error.encoding.upper()} text (byte {error.start}); save it as UTF-8, "
            "or name its encoding in the first line, as in: # coding: latin-1"
        ) from None
    except LookupError as error:
        fault = SyntaxError(str(error))
    if fault is not None:
        raise ValueError(f"the file cannot be read: {fault.msg}; save it as UTF-8")
    return text


# ---- notebooks --------------------------------------------------------------------------------------------------


def _cells(text: str, *, is_notebook: bool) -> list[tuple[int, str]] | None:
    """Return the code cells of a notebook with their numbers, None if it is none. Raises ValueError."""
    try:
        stored = json.loads(text) if is_notebook or text.lstrip().startswith("{") else None
    except ValueError as error:
        if is_notebook:
            raise ValueError(
                f"the notebook cannot be read ({error}); save it again, or export its cells as .py"
            ) from None
        return None
    sheets = [stored, *_dictionaries(stored, "worksheets")]  # the latter up to version 3 of the format
    cells = [cell for sheet in sheets for cell in _dictionaries(sheet, "cells")]
    if not (cells or is_notebook):
        return None
    language = _language(stored)
    if language and not language.startswith(("python", "ipython")):
        raise ValueError(f"the notebook's language is {language}, not Python")
    code = [(number, _text_of(cell)) for number, cell in enumerate(cells, start=1) if cell.get("cell_type") == "code"]
    if not code:
        raise ValueError("the notebook has no code cells")
    return code


def _dictionaries(holder: Any, name: str) -> list[dict[str, Any]]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _language(stored: Any) -> str:
    metadata = stored.get("metadata") if isinstance(stored, dict) else None
    for holder, name in (("language_info", "name"), ("kernelspec", "language")):
        found = metadata.get(holder) if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(found.get(name), str):
            return str(found[name]).lower()
    return ""


def _text_of(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _joined(cells: Sequence[tuple[int, str]]) -> SourceText:
    """Return the code of cells one after another; a cell that is not Python counts as empty."""
    texts: list[str] = []
    starts: list[tuple[int, int]] = []
    commands: list[tuple[int, str]] = []
    unreadable: list[str] = []
    line = 1
    for number, cell in cells:
        text, magics = _without_cell_magic(cell.replace("\r\n", "\n").replace("\r", "\n") + "\n")
        text, others = _without_commands(text)
        try:
            parsed(text)
        except SyntaxError as error:
            unreadable.append(f"cell {number} is left out: syntax error in its line {error.lineno}: {error.msg}")
            text = "\n" * text.count("\n")
        texts.append(text)
        starts.append((number, line))
        commands += [(line + place - 1, command) for place, command in (*magics, *others)]
        line += text.count("\n")
    return SourceText("".join(texts), tuple(starts), tuple(commands), tuple(unreadable))


def _without_cell_magic(text: str) -> tuple[str, list[tuple[int, str]]]:
    """Return a cell after taking out a cell magic, with all below it unless that is Python; and the line it was in."""
    lines = text.split("\n")
    first = next((place for place, line in enumerate(lines) if line.strip()), 0)
    if not lines[first].lstrip().startswith("%%"):
        return text, []
    about_python = lines[first].lstrip()[2:].split()[:1]
    end = first + 1 if about_python and about_python[0] in ABOUT_PYTHON else len(lines) - 1
    return "\n".join([""] * end + lines[end:]), [(first + 1, lines[first].strip())]


# ---- shell lines and magics -------------------------------------------------------------------------------------


def _without_commands(text: str) -> tuple[str, list[tuple[int, str]]]:
    """Return a text after taking out the lines that only a notebook understands, and these with their numbers.

    Only where Python sees a fault a line can be one: what stands in a text of several lines is left alone.
    """
    lines = text.split("\n")
    taken: list[tuple[int, str]] = []
    while True:
        try:
            parsed("\n".join(lines))
        except SyntaxError as error:
            place = (error.lineno or 0) - 1
            if not (0 <= place < len(lines)) or not (COMMAND.match(lines[place]) or AUTOMAGIC.match(lines[place])):
                return "\n".join(lines), taken
            end = place
            while lines[end].rstrip().endswith("\\") and end + 1 < len(lines):
                end += 1
            taken.append((place + 1, lines[place].strip()))
            lines[place : end + 1] = [_python_of(lines[place])] + [""] * (end - place)
        else:
            return "\n".join(lines), taken


def _python_of(command: str) -> str:
    """Return what is left of a line that only a notebook understands: the statement that it times, or nothing."""
    if TIMED.match(command):
        return TIMED.sub(r"\1", command)
    indentation = command[: len(command) - len(command.lstrip())]
    return f"{indentation}pass" if indentation else ""
