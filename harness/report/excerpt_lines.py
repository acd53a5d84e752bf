"""What was taken of a notebook or a whole script, in lines."""

from collections.abc import Iterator

from harness.excerpt import Excerpt

__all__ = ["excerpt_lines"]

SHOWN = 40  # statements that are shown of those left out


def excerpt_lines(name: str, excerpt: Excerpt | None) -> list[str]:
    """Return what was taken of a file of this name, and what was not; nothing if all of it is run."""
    return [] if excerpt is None else list(_lines(name, excerpt))


def _lines(name: str, excerpt: Excerpt) -> Iterator[str]:
    yield f"of {name} what unlearn needs is run, {_statements(len(excerpt.taken))}:"
    yield from (f"  {statement}" for statement in excerpt.taken)
    if excerpt.left:
        yield f"left out, {_statements(len(excerpt.left))}:"
        in_order = sorted(excerpt.left, key=_is_import)  # imports last: of them the most, and the least is lost
        yield from (f"  {statement}" for statement in in_order[:SHOWN])
        if len(in_order) > SHOWN:
            yield f"  and {len(in_order) - SHOWN} more"
    if excerpt.unknown:
        yield f"nothing in it defines {', '.join(excerpt.unknown)}: unlearn will fail where it uses such a name"


def _is_import(statement: str) -> bool:
    return statement.partition(": ")[2].startswith(("import ", "from "))


def _statements(count: int) -> str:
    return f"{count} statement{'' if count == 1 else 's'}"
