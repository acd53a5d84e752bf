"""Which names a statement of a file binds, needs and changes. Standard library only.

Whatever Python's own compiler says of scopes decides: parameters and local names are not needed from outside.
"""

import ast
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["DEFINITIONS", "Names", "executed", "names_of", "root_of"]

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Names:
    """Names of the top level, as one statement uses them."""

    bound: frozenset[str] = frozenset()
    now: frozenset[str] = frozenset()  # needed when the statement is executed
    later: frozenset[str] = frozenset()  # needed when functions that it defines are called
    changed: frozenset[str] = frozenset()  # whose attributes or items it sets
    called: frozenset[str] = frozenset()  # of which it calls a method and does nothing else
    declared: frozenset[str] = frozenset()  # that functions it defines bind, by `global`
    filled: frozenset[str] = frozenset()  # in which functions that it defines put what they are given


def names_of(statement: ast.stmt) -> Names:
    """Return the names that a statement of the top level uses; none for one that cannot be executed there."""
    collected = _Collected()
    try:
        scopes = symtable.symtable(ast.unparse(statement), "file", "exec")
    except SyntaxError:  # such as `nonlocal x`
        return Names()
    collected.read(scopes, is_later=False)
    nodes = list(executed(statement))
    for node in nodes:
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            collected.now.add(node.target.id)  # it is read as well
    return Names(
        frozenset(collected.bound),
        frozenset(collected.now),
        frozenset(collected.later),
        changed=frozenset(name for node in nodes for name in _changed(node)),
        called=frozenset(name for node in nodes for name in _method_call(node)),
        declared=frozenset(collected.declared),
        filled=frozenset(_filled(statement)) & (collected.later | collected.declared),
    )


def root_of(expression: ast.expr) -> str | None:
    """Return the name that a chain of attributes, items and calls begins with: `a` of `a.b[0].c()`."""
    while isinstance(expression, ast.Attribute | ast.Subscript | ast.Call):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return expression.id if isinstance(expression, ast.Name) else None


@dataclass
class _Collected:
    bound: set[str] = field(default_factory=set)
    now: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    declared: set[str] = field(default_factory=set)

    def read(self, table: symtable.SymbolTable, *, is_later: bool) -> None:
        is_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if is_top and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()):
                self.bound.add(symbol.get_name())
            if not is_top and symbol.is_declared_global() and symbol.is_assigned():
                self.declared.add(symbol.get_name())
            if symbol.is_referenced() and (is_top or symbol.is_global()):
                (self.later if is_later else self.now).add(symbol.get_name())
        for child in table.get_children():
            self.read(child, is_later=is_later or child.get_type() == "function")


def executed(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield what is executed with a statement: all of it but definitions and lambdas."""
    ahead: list[ast.AST] = [statement]
    while ahead:
        node = ahead.pop()
        if not isinstance(node, (*DEFINITIONS, ast.Lambda)):
            yield node
            ahead += ast.iter_child_nodes(node)


def _changed(node: ast.AST) -> Iterator[str]:
    """Yield the name whose attribute or item is assigned to."""
    if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        root = root_of(node)
        if root is not None:
            yield root


def _method_call(statement: ast.AST) -> Iterator[str]:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        root = root_of(function)
        if root is not None and isinstance(function, ast.Attribute):
            yield root


def _filled(statement: ast.stmt) -> Iterator[str]:
    """Yield the names into which functions put a parameter: `table[key] = f`, `table.add(f)`, `table += [f]`."""
    if not isinstance(statement, DEFINITIONS):
        return
    nodes = list(ast.walk(statement))
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    for node in nodes:
        places: list[ast.expr] = []
        match node:
            case ast.Assign(targets=targets, value=value):
                places, given = [target for target in targets if not isinstance(target, ast.Name)], [value]
            case ast.AugAssign(target=target, value=value):
                places, given = [target], [value]
            case ast.Call(func=ast.Attribute() as function, args=given):
                places = [function]
        if places and any(_holds(value, parameters) for value in given):
            yield from filter(None, map(root_of, places))


def _holds(value: ast.expr, names: set[str]) -> bool:
    """Whether a value is one of some names, or a list or tuple that has one."""
    items = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    return any(isinstance(item, ast.Name) and item.id in names for item in items)
