"""Which statements of a file mean something when it is run.

Used by the trusted side, which names a submission by them, and inside a run, which executes nothing else. Standard
library only.
"""

import ast

__all__ = ["without_docstrings"]


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
