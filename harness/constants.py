"""Constants in capitals at the top level of a file: what they are, and the file's text with others in their place.

Standard library only: what strangers wrote is parsed in a process of its own.
"""

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import UsageError
from harness.spelling import did_you_mean

__all__ = ["Constant", "assigned", "constants_in", "literal_of", "with_constant"]

OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class Constant:
    """What a file gives a name in capitals."""

    text: str  # of the value, as Python writes it
    number: float | None  # of a value that is one, or is computed from numbers alone; whole ones are int


def constants_in(tree: ast.Module) -> dict[str, Constant]:
    """Return the constants of a file by name."""
    return {name: Constant(ast.unparse(node), _finite(node)) for name, node in assigned(tree).items()}


def with_constant(source: str, tree: ast.Module, name: str, value: str) -> tuple[str, ast.Module]:
    """Return text and tree of a file with a constant's value replaced, every line staying where it is.

    Raises UsageError if the file has no such constant.
    """
    found = assigned(tree)
    if name not in found:
        known = ", ".join(found) or "none"
        meant = did_you_mean(name, found)
        raise UsageError(
            f"--set {name}{meant}: the file sets no such constant in capitals at its top level (it has: {known})"
        )
    old = found[name]
    assert old.end_lineno is not None
    assert old.end_col_offset is not None
    lines = source.encode().splitlines(keepends=True)  # columns of the syntax tree count bytes
    head, tail = lines[old.lineno - 1][: old.col_offset], lines[old.end_lineno - 1][old.end_col_offset :]
    padding = b"\n" * (old.end_lineno - old.lineno)
    lines[old.lineno - 1 : old.end_lineno] = [head + literal_of(value).encode() + tail + padding]
    changed = b"".join(lines).decode()
    return changed, ast.parse(changed)


def literal_of(value: str) -> str:
    """Return a value as Python writes it; a bare word is a string."""
    try:
        ast.literal_eval(value)
        return ast.unparse(ast.parse(value.strip(), mode="eval"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return repr(value)


def assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """Return what is assigned to names in capitals, each the last time."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.isupper()
    }


def _finite(node: ast.expr) -> float | None:
    try:
        number = _number(node)
        return number if number is not None and math.isfinite(number) else None
    except (ArithmeticError, TypeError):  # 1 / 0, an integer too large for a float, a root of -1
        return None


def _number(node: ast.expr) -> float | None:
    """Return the number that an expression of numbers is, None if it is of anything else. Raises ArithmeticError."""
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            positive = _number(operand)
            return None if positive is None else -positive
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            first, second = _number(left), _number(right)
            return None if first is None or second is None else OPERATORS[type(op)](first, second)
    return None
