"""What a submission's function needs of a file that does more: a notebook, or a script that downloads, trains, loops.

Taken are the definitions, imports and assignments that can be reached from the function by the names they use, each
time the last one before the use, and what changes them. Nothing else is executed. Standard library only.
"""

import ast
import builtins
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.contract import TRAIN
from harness.entry_point import entry_name, takes_state
from harness.scopes import DEFINITIONS, Names, executed, names_of, root_of
from harness.source_text import SourceText, parsed
from harness.text_cuts import Cut, compact, cut

__all__ = ["CERTIFICATE", "Excerpt", "excerpt_of"]

IMPORTS = (ast.Import, ast.ImportFrom)
ASSIGNMENTS = (ast.Assign, ast.AnnAssign)
CERTIFICATE = "CERTIFICATE"  # what a learner claims
LOOK_UP_BY_TEXT = {"globals", "eval", "exec"}  # nobody can tell what they need
# Of these packages a file may set what holds for all of it, such as torch.backends.cudnn.benchmark.
SETTABLE = {"torch", "numpy", "random", "warnings", "os"}
SETTERS = ("set", "use_", "enable", "disable", "filterwarnings", "simplefilter")
SEEDS = ("seed", "manual_seed")  # the harness's; they are no work either
BUSY = {"open", "input", "exec", "eval", "compile", "exit", "quit", "breakpoint", "__import__"}
IDLE = {"logging", "warnings", *dir(builtins)} - BUSY  # calls that nobody minds
MAX_SHOWN = 60  # characters of a statement


@dataclass(frozen=True)
class Excerpt:
    """What was taken of a file, what was left, and names that nothing in it defines, as they are shown."""

    taken: tuple[str, ...]
    left: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """A statement that is taken or left as a whole, with each `if` around it."""

    node: ast.stmt
    names: Names
    owners: tuple[ast.If, ...] = ()
    is_certain: bool = True  # executed whenever the file is
    is_guarded: bool = False  # by `if __name__ == "__main__"`


def excerpt_of(source: SourceText, *, is_compact: bool = False) -> tuple[str, Excerpt | None]:
    """Return the text to be run, and what was taken if that is not all of the source.

    A module is run as it is unless it does work of its own that the function does not need; of a notebook the function
    and what it needs are taken. Without such a function nothing is. is_compact: leave no gaps where something was
    taken out; otherwise the lines of a module keep their numbers. Raises SyntaxError.
    """
    tree = parsed(source.text)
    try:
        file = _File(tuple(_units(tree.body)))
    except (RecursionError, ValueError):  # a very long sum, an integer that Python does not write out
        return source.text, None
    if file.entry is None:
        return source.text, None
    is_module = not (source.is_notebook or source.commands or file.does_work)
    if is_module and not any(unit.is_guarded for unit in file.taken):
        return source.text, None
    taken = {id(unit.node) for unit in file.taken}
    text = cut(source.text, list(_cuts(tree.body, taken)))
    excerpt = Excerpt(
        taken=tuple(_taken_names(file.taken)),
        left=tuple(_left(source, file)),
        unknown=() if any(_is_starred(unit.node) for unit in file.taken) else tuple(sorted(file.unknown)),
    )
    return compact(text) if is_compact or source.is_notebook else text.kept, excerpt


def _units(
    block: Sequence[ast.stmt], owners: tuple[ast.If, ...] = (), *, is_certain: bool = True, is_guarded: bool = False
) -> Iterator[Unit]:
    """Yield the statements of a block, those inside `if` one by one."""
    for node in block:
        if not isinstance(node, ast.If) or _binds(node.test):
            is_simple = isinstance(node, DEFINITIONS) or not hasattr(node, "body")  # no try, no loop
            yield Unit(node, names_of(node), owners, is_certain and is_simple, is_guarded)
        elif _main_guard(node) is not None:
            yield from _units(node.body, (*owners, node), is_certain=is_certain, is_guarded=True)
        else:
            for inner in (node.body, node.orelse):
                yield from _units(inner, (*owners, node), is_certain=False, is_guarded=is_guarded)


def _binds(test: ast.expr) -> bool:
    return any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(test))


def _main_guard(node: ast.If) -> ast.Compare | None:
    """Return the test `__name__ == "__main__"` that an `if` depends on, None if there is none."""
    tests = node.test.values if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And) else [node.test]
    for test in tests:
        if isinstance(test, ast.Compare) and {"__name__", "'__main__'"} == {
            ast.unparse(side) for side in (test.left, *test.comparators)
        }:
            return test
    return None


class _File:
    """The statements of a file, and which of them its function needs."""

    def __init__(self, units: tuple[Unit, ...]) -> None:
        self.units = units
        self.unknown: set[str] = set()
        self._binders: dict[str, list[int]] = {}
        self._changers: dict[str, list[int]] = {}
        binding: dict[str, set[str]] = {}  # the names that calls of a function bind, by `global`
        for index, unit in enumerate(units):
            for name in unit.names.bound:
                binding[name] = set(unit.names.declared)
            called = unit.names.now if isinstance(unit.node, ast.Expr) else ()
            by_calls = {declared for name in called for declared in binding.get(name, ())}
            for name in unit.names.bound | by_calls:
                self._binders.setdefault(name, []).append(index)
            for name in unit.names.changed | unit.names.called:
                self._changers.setdefault(name, []).append(index)

    @cached_property
    def entry(self) -> str | None:
        """The name of the function that is called, None if the file defines none."""
        return entry_name({name: self.units[indices[-1]].node for name, indices in self._binders.items()})

    @cached_property
    def taken(self) -> tuple[Unit, ...]:
        """The statements that are needed."""
        assert self.entry is not None
        search = _Search(self)
        search.need(self.entry, len(self.units))
        if takes_state(self.units[self._binders[self.entry][-1]].node):  # a learner: its other function, and its claim
            for name in (TRAIN, CERTIFICATE):
                if name in self._binders:
                    search.need(name, len(self.units))
        search.need_all_ahead()
        return tuple(self.units[index] for index in sorted(search.found))

    @cached_property
    def left(self) -> tuple[Unit, ...]:
        """The statements that are not needed."""
        needed = {id(unit) for unit in self.taken}
        return tuple(unit for unit in self.units if id(unit) not in needed)

    @property
    def does_work(self) -> bool:
        """Whether the file does anything that its function does not need."""
        return any(_works(unit.node) for unit in self.left if not unit.is_guarded)

    def binders(self, name: str, before: int) -> list[int]:
        """Return the statements one of which has bound a name at some place: up to the last one that surely has.

        Where there is none before, the first one after.
        """
        indices = self._binders.get(name, [])
        found = []
        for index in reversed([index for index in indices if index < before]):
            found.append(index)
            if self.units[index].is_certain:
                break
        return found or indices[:1]

    def changers(self, name: str, after: int, before: int) -> list[int]:
        """Return the statements between two places that change what a name stands for."""
        return [index for index in self._changers.get(name, []) if after < index < before]

    def last_use(self) -> int:
        """Return where the function is called last after it is defined; the end of the file if it is not."""
        assert self.entry is not None
        defined = self._binders[self.entry][-1]
        uses = [
            index for index, unit in enumerate(self.units) if self.entry in unit.names.now and not _shows(unit.node)
        ]
        return max((index for index in uses if index > defined), default=len(self.units))


class _Search:
    """Follows names from the function to what they stand for."""

    def __init__(self, file: _File) -> None:
        self.file = file
        self.found: set[int] = set()
        self.end = file.last_use()
        self._ahead: list[tuple[str, int]] = []  # names, each with the place where it is used
        self._seen: set[tuple[str, int]] = set()

    def need(self, name: str, before: int) -> None:
        if (name, before) not in self._seen:
            self._seen.add((name, before))
            self._ahead.append((name, before))

    def need_all_ahead(self) -> None:
        """Find all that is needed: what names stand for, then what nobody names and belongs to it all the same."""
        self._follow()
        while more := [index for index in self._unnamed() if index not in self.found]:
            for index in more:
                self._take(index, self.end)
            self._follow()

    def _follow(self) -> None:
        while self._ahead:
            name, before = self._ahead.pop()
            indices = self.file.binders(name, before)
            if not indices and not hasattr(builtins, name) and not name.startswith("__"):
                self.file.unknown.add(name)
            for index in indices:
                self._take(index, self.end if name == self.file.entry else before)
            for index in self.file.changers(name, min(indices, default=-1), before):
                if self._is_change(index, indices):
                    self._take(index, before)

    def _take(self, index: int, used_at: int) -> None:
        unit = self.file.units[index]
        self.found.add(index)
        for name in unit.names.now:
            self.need(name, index)
        places = {used_at} if _only_defines(unit.node) else {used_at, index}
        for name in unit.names.later:
            for place in places:
                self.need(name, place)
        for owner in unit.owners:
            test = names_of(ast.Expr(owner.test))
            for name in test.now | test.later:
                self.need(name, index)

    def _is_change(self, index: int, binders: Sequence[int]) -> bool:
        """Whether a statement is to be taken with what it changes: calls of a method only for the file's own data."""
        unit = self.file.units[index]
        if self.file.entry in unit.names.now:
            return False
        nodes = [self.file.units[binder].node for binder in binders]
        if any(isinstance(node, IMPORTS) for node in nodes):
            return _is_setting(unit.node)
        return bool(unit.names.changed) or not any(isinstance(node, DEFINITIONS) for node in nodes)

    def _unnamed(self) -> Iterator[int]:
        """Yield statements that nobody names: settings, registered definitions, all where names are looked up."""
        is_by_text = any(name in LOOK_UP_BY_TEXT for name, _ in self._seen)
        tables, registrars = self._registries()
        for index, unit in enumerate(self.file.units[: self.end]):
            node = unit.node
            if isinstance(node, ast.ImportFrom):
                is_meant = node.module == "__future__" or (_is_starred(node) and bool(self.file.unknown))
            elif isinstance(node, DEFINITIONS):
                is_meant = is_by_text or any(_registers(each, tables, registrars) for each in node.decorator_list)
            elif is_by_text and isinstance(node, ASSIGNMENTS) and not _works(node):
                is_meant = True
            else:
                is_meant = _is_setting(node) and unit.names.now <= self._imported(index)
            if is_meant:
                yield index

    def _registries(self) -> tuple[set[str], set[str]]:
        """Return names of needed tables of the file's own kinds, and of definitions that register what they decorate.

        The latter are needed themselves, or put what they are given into needed data.
        """
        definitions = [
            (index, unit) for index, unit in enumerate(self.file.units) if isinstance(unit.node, DEFINITIONS)
        ]
        kinds = {name for _, unit in definitions for name in unit.names.bound}
        data = [unit for unit in map(self.file.units.__getitem__, self.found) if isinstance(unit.node, ASSIGNMENTS)]
        names = {name for unit in data for name in unit.names.bound}
        tables = {name for unit in data if unit.names.now & kinds for name in unit.names.bound}
        meant = [unit for index, unit in definitions if index in self.found or unit.names.filled & names]
        return tables, {name for unit in meant for name in unit.names.bound}

    def _imported(self, before: int) -> set[str]:
        """Return the names of packages that may be set, as they are imported before a statement."""
        return {
            name
            for unit in self.file.units[:before]
            if isinstance(unit.node, IMPORTS) and _package(unit.node) in SETTABLE
            for name in unit.names.bound
        }


# ---- kinds of statements ----------------------------------------------------------------------------------------


def _only_defines(node: ast.stmt) -> bool:
    """Whether a statement calls nothing that it defines itself; a class's body and the defaults of arguments may."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    heads = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    inline = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return not any(isinstance(inner, inline) for head in heads for inner in ast.walk(head))


def _registers(decorator: ast.expr, tables: set[str], registrars: set[str]) -> bool:
    """Whether a decorator may keep what it is given: `register` and `register("a")`, or `table.add`."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    root = root_of(decorator)
    return root in registrars or (isinstance(called, ast.Attribute) and root in tables)


def _shows(node: ast.stmt) -> bool:
    """Whether a statement is a name alone, which a notebook shows."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Name)


def _is_starred(node: ast.stmt) -> bool:
    """Whether a statement is `from x import *`: it may bind any name."""
    return isinstance(node, ast.ImportFrom) and node.names[0].name == "*"


def _package(node: ast.Import | ast.ImportFrom) -> str:
    module = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
    return module.partition(".")[0]


def _is_setting(node: ast.stmt) -> bool:
    """Whether a statement sets an attribute or an item, or calls a setter; nothing is computed for it."""
    match node:
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()], value=value):
            return not any(isinstance(inner, ast.Call) for inner in ast.walk(value))
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name), args=arguments, keywords=keywords)):
            values = [*arguments, *(keyword.value for keyword in keywords)]
            return name.startswith(SETTERS) and all(isinstance(value, ast.Constant) for value in values)
    return False


def _works(node: ast.stmt) -> bool:
    """Whether executing a statement may take time or fail, as calls and loops may; those of IDLE do not."""
    if isinstance(node, DEFINITIONS) or _is_setting(node):
        return False
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant | ast.Call):
        return True  # a value to be shown, or what was a shell line: cd /kaggle/working
    busy = (ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Raise, ast.Await)
    return any(
        isinstance(inner, busy) or (isinstance(inner, ast.Call) and not _is_idle(inner)) for inner in executed(node)
    )


def _is_idle(call: ast.Call) -> bool:
    is_seed = isinstance(call.func, ast.Attribute) and call.func.attr.startswith(SEEDS)
    return is_seed or root_of(call.func) in IDLE


# ---- the text ---------------------------------------------------------------------------------------------------


def _cuts(block: Sequence[ast.stmt], taken: set[int]) -> Iterator[Cut]:
    """Yield what is to be cut out of a block; a part of an `if` that would be left empty keeps a `pass`."""
    for node in block:
        if id(node) in taken:
            continue
        if not (isinstance(node, ast.If) and _holds(node, taken)):
            yield Cut.of(node)
            continue
        if (guard := _main_guard(node)) is not None:
            yield Cut.of(guard, "True")
        for part in filter(None, (node.body, node.orelse)):
            cuts = list(_cuts(part, taken))
            if not any(_holds(inner, taken) for inner in part):
                cuts[0] = Cut.of(part[0], "pass")
            yield from cuts


def _holds(node: ast.stmt, taken: set[int]) -> bool:
    return any(id(inner) in taken for inner in ast.walk(node))


def _taken_names(units: Sequence[Unit]) -> Iterator[str]:
    """Yield what was taken, by its names."""
    for unit in units:
        match unit.node:
            case ast.Import() | ast.ImportFrom():
                yield ast.unparse(unit.node)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield f"{name}()"
            case ast.ClassDef(name=name):
                yield f"class {name}"
            case _:
                yield f"{'' if unit.is_guarded else _condition(unit)}{_short(unit.node)}"


def _condition(unit: Unit) -> str:
    """Return the innermost `if` that a statement is part of, as it is shown before it; nothing without one."""
    if not unit.owners:
        return ""
    owner = unit.owners[-1]
    test = _cropped(ast.unparse(owner.test))
    return f"if not ({test}): " if any(each is unit.node for each in owner.orelse) else f"if {test}: "


def _left(source: SourceText, file: _File) -> Iterator[str]:
    """Yield what was left, each statement with its place."""
    yield from source.unreadable
    left = [(unit.node.lineno, _short(unit.node)) for unit in file.left]
    commands = [(line, _cropped(command)) for line, command in source.commands]
    for line, what in sorted([*left, *commands]):
        yield f"{source.place(line)}: {what}"


def _short(node: ast.stmt) -> str:
    return _cropped(ast.unparse(node).split("\n")[0])


def _cropped(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
