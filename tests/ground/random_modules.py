"""Random modules whose function returns a number: names bound again and again, functions, classes, `if` and `try`.

A function only calls those that come after it in FUNCTIONS: endless recursion ends some interpreters (Python 3.13.0).
"""

import random

NAMES, FUNCTIONS = "abcdefg", "pqrs"


def random_module(generator: random.Random) -> str:
    """Return the text of a module that defines `unlearn`."""
    lines = ["L = []; T = {}", "class C: v = 1", "class D: v = 2"]
    lines += [f"{name} = {generator.randint(0, 9)}" for name in NAMES]
    lines += [f"def {name}(): return {generator.randint(0, 9)}" for name in FUNCTIONS]
    body = [_statement(generator, "") for _ in range(generator.randint(5, 25))]
    total = f"{_expression(generator)} + {_expression(generator)} + C.v + sum(L) + len(T)"
    body.insert(generator.randint(0, len(body)), f"def unlearn(net, retain, forget, val):\n    return {total}\n")
    return "\n".join(lines) + "\n" + "".join(body)


def _expression(generator: random.Random, callees: str = FUNCTIONS) -> str:
    name = generator.choice(NAMES)
    kinds = ("name", "number", "call", "comprehension", "lambda", "sum")
    (kind,) = generator.choices(kinds, (35, 15, 15 if callees else 0, 5, 5, 25))
    return {
        "name": lambda: name,
        "number": lambda: str(generator.randint(0, 9)),
        "call": lambda: f"{generator.choice(callees)}()",
        "comprehension": lambda: f"sum({name} + x for x in (1, 2))",
        "lambda": lambda: f"(lambda: {name})()",
        "sum": lambda: f"({_expression(generator, callees)} + {_expression(generator, callees)})",
    }[kind]()


def _statement(generator: random.Random, indent: str) -> str:
    name, kind, value = generator.choice(NAMES), generator.choice("CD"), _expression(generator)
    inner = f"{indent}    "
    function = generator.choice(FUNCTIONS)
    later = FUNCTIONS[FUNCTIONS.index(function) + 1 :]
    simple = (
        f"{name} = {value}",
        f"{name} += {value}",
        f"def {function}(z={value}):\n{inner}y = 1; return z + {_expression(generator, later)}",
        f"class {kind}:\n{inner}v = {value}",
        f"{kind}.{generator.choice('vw')} = {value}",
        f"{name} = {kind}.v",
        f"L.append({value})",
        f"for i in range(2): {name} = {value} + i",
        f"{name} = 1; {generator.choice(NAMES)} = {value}; T['{generator.choice('xy')}'] = 3",
    )
    if len(indent) >= 8 or generator.random() < 0.8:
        return f"{indent}{generator.choice(simple)}\n"
    block = "".join(_statement(generator, inner) for _ in range(generator.randint(1, 3)))
    if generator.random() < 0.5:
        fails = f"{inner}1 / ({name} % 2)\n"
        return f"{indent}try:\n{block}{fails}{indent}except ZeroDivisionError:\n{_statement(generator, inner)}"
    others = f"{indent}elif {_expression(generator)} > 3:\n{_statement(generator, inner)}" if len(block) % 2 else ""
    others += f"{indent}else:\n{_statement(generator, inner)}" if len(block) % 3 else ""
    return f"{indent}if {value} > 5:\n{block}{others}"
