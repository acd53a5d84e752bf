"""How much a submission's file says. A method is short; a table of outputs or of weights is not, however it is written.

Comments, docstrings and layout are left out, as they are of the code hash. Standard library only.
"""

import ast
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from harness.statements import literal, pieces

__all__ = ["NOTHING", "Information", "information"]


@dataclass(frozen=True)
class Information:
    """Bytes that are left of a file's code when it is compressed."""

    literals: int  # its numbers and texts: where a table is written as one
    code: int  # all of it: names and the order of statements can spell a table too


NOTHING = Information(0, 0)  # of a file that is no Python source


def information(tree: ast.Module) -> Information:
    """Return how much a syntax tree says; docstrings should be out of it."""
    literals = [literal(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return Information(_compressed(literals), _compressed(pieces(tree)))


def _compressed(parts: Iterable[str]) -> int:
    return len(zlib.compress("\n".join(parts).encode(), level=9))
