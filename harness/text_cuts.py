"""Cutting statements out of a source text so that all other lines keep their numbers. Standard library only."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.scopes import DEFINITIONS
from harness.source_text import parsed

__all__ = ["Cut", "CutText", "compact", "cut"]


@dataclass(frozen=True, order=True)
class Cut:
    """A span of a text, and what takes its place. Lines are counted from 1, columns in bytes of UTF-8."""

    line: int
    column: int
    end_line: int
    end_column: int
    instead: str = ""

    @classmethod
    def of(cls, node: ast.stmt | ast.expr, instead: str = "") -> "Cut":
        """Return the cut of a syntax tree's node, a definition with its decorators."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        decorators = getattr(node, "decorator_list", [])
        line = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        return cls(line, node.col_offset, node.end_lineno, node.end_col_offset, instead)


@dataclass(frozen=True)
class CutText:
    """A text after cuts: its lines, None for each that a cut left empty."""

    lines: tuple[str | None, ...]

    @property
    def kept(self) -> str:
        """The text with every line where it was."""
        return "\n".join(line or "" for line in self.lines)


def cut(text: str, cuts: Sequence[Cut]) -> CutText:
    """Return a text without some spans of it, none of which lies in another."""
    lines: list[bytes | None] = [line.encode() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    for each in sorted(cuts, reverse=True):
        first, last = lines[each.line - 1] or b"", lines[each.end_line - 1] or b""
        head, tail = first[: each.column], last[each.end_column :]
        instead = each.instead or ("pass" if _has_neighbours(head, tail) else "")
        rest = head + instead.encode() + tail
        is_bare = not instead and not rest.split(b"#")[0].strip()
        lines[each.line - 1 : each.end_line] = [None if is_bare else rest, *[None] * (each.end_line - each.line)]
    return CutText(tuple(None if line is None else line.decode() for line in lines))


def _has_neighbours(head: bytes, tail: bytes) -> bool:
    """Whether other statements stand on the lines of one, which then leaves a `pass`."""
    return bool(head.strip()) or tail.lstrip().startswith(b";")


def compact(text: CutText) -> str:
    """Return the statements that are left with the comments above each, and none of the empty lines cuts left.

    Imports from `__future__` come first, as Python wants them.
    """
    tree = parsed(text.kept)
    parts = [f"{ast.unparse(node)}\n" for node in tree.body if _is_future(node)]
    end, was_definition = 0, not parts
    for node in tree.body:
        if isinstance(node, ast.Pass) or _is_future(node):
            continue
        span = Cut.of(node)
        if span.line <= end:  # on the line of the one before
            continue
        is_definition = isinstance(node, DEFINITIONS)
        first = span.line - sum(1 for _ in _comments_above(text, span.line, end))
        has_gap = any(not line for line in text.lines[end : first - 1])
        parts.append("\n" * (0 if not parts else 2 if is_definition or was_definition else int(has_gap)))
        parts += [f"{line}\n" for line in text.lines[first - 1 : span.end_line] if line is not None]
        end, was_definition = span.end_line, is_definition
    return "".join(parts)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _comments_above(text: CutText, line: int, end: int) -> Iterator[str]:
    """Yield the lines of comments right above a line, the nearest first."""
    for above in reversed(text.lines[end : line - 1]):
        if above is None or not above.lstrip().startswith("#"):
            return
        yield above
