"""The functions of a submission that are called, as its text defines them. Standard library only.

A file whose `unlearn` requires a fifth argument is a learner: its `train` is called as well.
"""

import ast
from collections.abc import Mapping

from harness.contract import CALLS, FUNCTION_NAMES, N_ARGUMENTS, Call
from harness.scopes import root_of

__all__ = ["argument_problems", "entry_name", "is_alike", "is_as_written", "takes_state"]

POST_HOC = CALLS["post-hoc"]

ARGUMENTS_KEPT = ("torch",)  # by decorators of these packages, such as torch.no_grad()


def entry_name(bound: Mapping[str, ast.AST]) -> str | None:
    """Return the name of the function that is called, of names with what binds them; None if none of them is one.

    Of two, that which takes what it is called with; if neither does, that of a learner.
    """
    names = [name for name in FUNCTION_NAMES if name in bound]
    fit = [name for name in names if not argument_problems(bound[name])]
    of_learner = [name for name in names if takes_state(bound[name])]
    return next(iter(fit or of_learner or names), None)


def takes_state(node: ast.AST) -> bool:
    """Whether a function requires what a learner's `unlearn` is given, one argument more than others."""
    if not isinstance(node, ast.FunctionDef) or not is_as_written(node):
        return False
    required = len(node.args.posonlyargs) + len(node.args.args) - len(node.args.defaults)
    return required == len(CALLS["unlearn"].arguments)


def argument_problems(node: ast.AST, call: Call = POST_HOC) -> list[str]:
    """Return what is wrong with the arguments of a function; nothing for what is known only once it runs."""
    if not isinstance(node, ast.FunctionDef) or not is_as_written(node):
        return []
    arguments, where = node.args, f"{node.name} in line {node.lineno}"
    positional = len(arguments.posonlyargs) + len(arguments.args)
    problems, given = [], len(call.arguments)
    if positional - len(arguments.defaults) > given or (positional < given and arguments.vararg is None):
        problems.append(f"{where} takes {positional} arguments; it is called with {given}: {', '.join(call.arguments)}")
    required = [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    if required:
        problems.append(f"{where} needs keyword arguments nobody passes: {', '.join(required)}")
    return problems


def is_as_written(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is called as its text says: a decorator may make another one of it."""
    return all(root_of(decorator) in ARGUMENTS_KEPT for decorator in function.decorator_list)


def is_alike(function: ast.FunctionDef) -> bool:
    """Whether a function takes as much as the one that is called, and has a name or arguments that say so."""
    names = [function.name, *(argument.arg for argument in function.args.args)]
    return len(names) == 1 + N_ARGUMENTS and any(part in " ".join(names).lower() for part in ("unlearn", "forget"))
