"""The function of a submission that is called, as its text defines it. Standard library only."""

import ast
from collections.abc import Mapping

from harness.contract import FUNCTION_NAMES, N_ARGUMENTS
from harness.scopes import root_of

__all__ = ["argument_problems", "entry_name", "is_alike", "is_as_written"]

ARGUMENTS_KEPT = ("torch",)  # by decorators of these packages, such as torch.no_grad()


def entry_name(bound: Mapping[str, ast.AST]) -> str | None:
    """Return the name of the function that is called, of names with what binds them; None if none of them is one.

    Of two, that which takes what it is called with.
    """
    names = [name for name in FUNCTION_NAMES if name in bound]
    fit = [name for name in names if not argument_problems(bound[name])]
    return next(iter(fit or names), None)


def argument_problems(node: ast.AST) -> list[str]:
    """Return what is wrong with the arguments of a function; nothing for what is known only once it runs."""
    if not isinstance(node, ast.FunctionDef) or not is_as_written(node):
        return []
    arguments, where = node.args, f"{node.name} in line {node.lineno}"
    positional = len(arguments.posonlyargs) + len(arguments.args)
    problems = []
    if positional - len(arguments.defaults) > N_ARGUMENTS or (positional < N_ARGUMENTS and arguments.vararg is None):
        problems.append(
            f"{where} takes {positional} arguments; it is called with {N_ARGUMENTS}: "
            "net, retain_loader, forget_loader, val_loader"
        )
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
