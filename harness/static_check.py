"""What the text of a submission says of it: parsed, hashed, checked without running it. Standard library only.

A text can take Python's parser minutes, all memory, or its life. So this is done in a process of its own, by `guarded`.
"""

import ast
import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.constants import assigned, with_constant
from harness.contract import CALLS, FUNCTION_NAMES, TRAIN, Call
from harness.entry_point import argument_problems, entry_name, is_alike, is_as_written, takes_state
from harness.excerpt import CERTIFICATE, Excerpt, excerpt_of
from harness.information import Information, information
from harness.scopes import DEFINITIONS
from harness.source_text import SourceText, parsed, source_text
from harness.statements import compiled, pieces, without_docstrings

__all__ = ["Checked", "check_source"]


@dataclass(frozen=True)
class Checked:
    """What was found in a text that is Python source."""

    source: str  # what is run, with constants set
    code_hash: str
    problems: tuple[str, ...]  # what keeps it from being a submission
    information: Information  # how much its code says
    excerpt: Excerpt | None  # what was taken of the file; None if all of it is run
    is_helper: bool  # it has no function to be run, nor one like it
    is_learner: bool  # its `unlearn` starts from what its own `train` left
    certificate: tuple[float, float] | None  # epsilon and delta that a learner claims


def check_source(
    content: bytes, constants: Mapping[str, str], *, is_notebook: bool = False, is_compact: bool = False
) -> Checked:
    """Return what a file with this content is, with constants in capitals set.

    is_notebook: whether its name says that it is one. is_compact: see `excerpt_of`.
    Raises ValueError with what is wrong with a file that is no Python source, UsageError if a constant cannot be set.
    """
    file = source_text(content, is_notebook=is_notebook)
    try:
        source, excerpt = excerpt_of(file, is_compact=is_compact)
        tree = parsed(source)
    except SyntaxError as error:
        raise ValueError(f"syntax error in {file.place(error.lineno or 1)}: {error.msg}") from None
    for name, value in constants.items():
        source, tree = with_constant(source, tree, name, value)
    tree = without_docstrings(tree)
    _compile(tree, lambda line: file.place(line) if excerpt is None else "what is run of it")
    problems = tuple(_problems(tree, file))
    is_helper = problems == (_missing_function(file),)
    is_learner = _is_learner(tree)
    certificate = _certificate(tree) if is_learner and not problems else None
    return Checked(source, _hash(tree), problems, information(tree), excerpt, is_helper, is_learner, certificate)


def _compile(tree: ast.Module, place: Callable[[int], str]) -> None:
    """Raise ValueError if Python parses a text and does not compile it: a `return` outside a function, say.

    place: names a line to the author of the file.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # such as one of `is` with a number: not ours to tell
            compiled(tree, "submission")
    except SyntaxError as error:
        raise ValueError(f"syntax error in {place(error.lineno or 1)}: {error.msg}") from None


def _hash(tree: ast.Module) -> str:
    """Return the sha256 of what a syntax tree does; docstrings are out of it."""
    digest = hashlib.sha256()
    for piece in pieces(tree):
        digest.update(piece.encode())
    return digest.hexdigest()


def _problems(tree: ast.Module, file: SourceText) -> list[str]:
    """Return what keeps a parsed file from being a submission. Only names bound at the top level are looked at."""
    bound = dict(_bindings(tree))
    name = entry_name(bound)
    if name is None:
        return [_missing_function(file) + _hint(tree, bound), *file.unreadable]
    node = bound[name]
    if not takes_state(node):
        return _problems_of_function(name, node, CALLS["post-hoc"])
    problems = _problems_of_function(name, node, CALLS["unlearn"])
    try:
        _certificate(tree)
    except ValueError as error:
        problems.append(str(error))
    if TRAIN in bound:
        return [*problems, *_problems_of_function(TRAIN, bound[TRAIN], CALLS["train"])]
    where = f"{name} in line {getattr(node, 'lineno', 1)}"
    return [*problems, f"{where} takes a fifth argument, the state of a {CALLS['train']}: define it, or take four"]


def _problems_of_function(name: str, node: ast.AST, call: Call) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return [f"{name} in line {node.lineno} is a class; it must be a function"]
    if isinstance(node, ast.AsyncFunctionDef) and is_as_written(node):
        return [f"{name} in line {node.lineno} is a coroutine (async def); it must be a plain function"]
    return argument_problems(node, call)  # what an assignment or an import binds is known only once it runs


def _certificate(tree: ast.Module) -> tuple[float, float] | None:
    """Return what the constant CERTIFICATE claims, epsilon and delta; None without it.

    Raises ValueError if it is something else.
    """
    bound = dict(_bindings(tree)).get(CERTIFICATE)
    if bound is None:
        return None
    try:
        epsilon, delta = map(float, ast.literal_eval(assigned(tree)[CERTIFICATE]))
        is_claim = 0 <= epsilon < math.inf and 0 <= delta < 1
    except (KeyError, ValueError, TypeError, SyntaxError, OverflowError):
        is_claim = False
    if not is_claim:
        where = f"{CERTIFICATE} in line {getattr(bound, 'lineno', 1)}"
        raise ValueError(f"{where} has to be epsilon and delta as two numbers, such as {CERTIFICATE} = (1.0, 1e-5)")
    return epsilon, delta


def _is_learner(tree: ast.Module) -> bool:
    bound = dict(_bindings(tree))
    name = entry_name(bound)
    return name is not None and takes_state(bound[name])


def _missing_function(file: SourceText) -> str:
    what = "notebook" if file.is_notebook else "file"
    return f"the {what} defines no function unlearn(net, retain_loader, forget_loader, val_loader)"


def _hint(tree: ast.Module, bound: Mapping[str, ast.AST]) -> str:
    """Return where a function that may be meant is, to end a sentence: one of another name, or not at the top level."""
    for owner in ast.walk(tree):
        if isinstance(owner, DEFINITIONS):
            inner = dict(_bindings(ast.Module(owner.body, [])))
            for name in FUNCTION_NAMES:
                if isinstance(inner.get(name), ast.FunctionDef | ast.AsyncFunctionDef):
                    place = "a method of class" if isinstance(owner, ast.ClassDef) else "within function"
                    return f"; {name} is {place} {owner.name}: define it at the top level"
    others = [node.name for node in bound.values() if isinstance(node, ast.FunctionDef) and is_alike(node)]
    return f"; rename the one that does: {', '.join(others)}" if others else ""


def _bindings(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield the names that executing a module may bind at its top level, in order, each with what binds it.

    `from x import *` binds none that matter: no package has an `unlearn`, and a submission is one file.
    """
    own_scopes = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    ahead: list[ast.AST] = [tree]
    while ahead:
        node = ahead.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Import() | ast.ImportFrom():
                yield from ((alias.asname or alias.name, node) for alias in node.names)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, node
            case ast.AnnAssign(value=None):
                continue  # declared, not bound
            case _ if not isinstance(node, own_scopes):
                ahead += reversed(list(ast.iter_child_nodes(node)))
