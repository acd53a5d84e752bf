"""Which statements of a file mean something when it is run, and what they say.

Used by the trusted side, which names a submission by them, and inside a run, which executes nothing else. Standard
library only.
"""

import ast
import sys
from collections.abc import Iterator
from types import CodeType

__all__ = ["compiled", "literal", "pieces", "without_docstrings"]


def without_docstrings(tree: ast.Module) -> ast.Module:
    """Return a syntax tree after removing every statement that is a constant alone: docstrings, strings as comments.

    What is executed is then what a code hash names. Lines keep their numbers, and every `__doc__` is None.
    """
    for node in ast.walk(tree):
        for _, block in ast.iter_fields(node):
            if isinstance(block, list) and any(_is_constant(statement) for statement in block):
                first = block[0]
                block[:] = [statement for statement in block if not _is_constant(statement)]
                if not block and not isinstance(node, ast.Module):
                    block.append(ast.copy_location(ast.Pass(), first))
    return tree


def _is_constant(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def compiled(tree: ast.Module, filename: str) -> CodeType:
    """Return the code of a syntax tree. Raises SyntaxError for what Python parses and does not compile.

    Python compiles a text that is nested more deeply than a tree may be, a sum of a thousand terms say: so the limit is
    raised meanwhile.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(4 * limit)
    try:
        return compile(tree, filename, "exec")
    finally:
        sys.setrecursionlimit(limit)


def pieces(tree: ast.Module) -> Iterator[str]:
    """Yield what a syntax tree does, piece by piece: the same for every Python version that parses it the same way.

    Raises ValueError for an integer that Python does not write out.
    """
    open_nodes: list[object] = [tree]
    while open_nodes:  # not by recursion: a long chain of elif is a deep tree
        node = open_nodes.pop()
        if isinstance(node, ast.AST):
            fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
            yield f"{type(node).__name__}({','.join(name for name, _ in fields)})"
            open_nodes += [value for _, value in fields]
        elif isinstance(node, list):
            yield f"[{len(node)}]"
            open_nodes += node
        else:
            yield f"{literal(node)};"


def literal(value: object) -> str:
    """Return a constant as text. Raises ValueError for an integer that Python does not write out."""
    try:
        return repr(value)
    except ValueError:  # in hexadecimal it may be as long as it likes
        digits = sys.get_int_max_str_digits()
        raise ValueError(f"the file holds an integer of more than {digits} digits") from None
