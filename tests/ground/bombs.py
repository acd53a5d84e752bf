"""Files that parsers have trouble with, as strangers may hand them in: sources, and final.toml."""

import random
from collections.abc import Mapping

__all__ = ["FINALS", "SOURCES", "UNLEARN", "random_final", "random_source"]

UNLEARN = "def unlearn(net, retain_loader, forget_loader, val_loader): pass\n"


def _nested(opening: str, inside: str, closing: str, depth: int) -> str:
    return f"x = {opening * depth}{inside}{closing * depth}\n"


def _as_bytes(files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    return {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}


# Each of these is a problem of the file: it is no Python, or more of it than is read.
SOURCES = _as_bytes(
    {
        "open brackets": "x = " + "[" * 100_000,
        "open braces": "x = " + "{" * 190 + "1",
        "brackets": _nested("[", "", "]", 100_000),
        "braces": _nested("{", "", "}", 5000),
        "parentheses": _nested("(", "1", ")", 5000),
        "calls": _nested("f(", "1", ")", 5000),
        "minus": _nested("-", "1", "", 200_000),
        "not": _nested("not ", "1", "", 50_000),
        "tilde": _nested("~", "1", "", 200_000),
        "powers": _nested("2**", "2", "", 60_000),
        "lambdas": _nested("lambda: ", "0", "", 30_000),
        "conditions": _nested("1 if 1 else ", "0", "", 20_000),
        "f-strings": _nested('f"{', "1", '}"', 2000),
        "f-strings with parentheses": 'x = f"{' + "(" * 5000 + '}"',
        "comprehensions": _nested("[a for a in ", "b", "]", 10_000),
        "comprehensions that are fit to be read": _nested("[a for a in ", "b", "]", 150),
        "attributes": "x = a" + ".a" * 100_000,
        "subscripts": "x = a" + "[0]" * 60_000,
        "results of results": "x = a" + "()" * 100_000,
        "a long sum": "x = 1" + "+1" * 100_000,
        "else in else": "".join(" " * i + "if x:\n" + " " * i + " y\n" + " " * i + "else:\n" for i in range(300)),
        "many elif": "if x:\n y\n" + "elif x:\n y\n" * 15_000,
        "blocks in blocks": "".join(" " * i + "if x:\n" for i in range(101)) + " " * 101 + "y",
        "functions in functions": "".join(" " * i + "def f():\n" for i in range(90)) + " " * 90 + "y",
        "patterns": "match x:\n case " + "[" * 5000 + "]" * 5000 + ": y",
        "with": "with " + "(" * 150 + "a" + ")" * 150 + " as b, c:\n pass",
        "del": "del " + "(" * 199 + "a" + ")" * 199,
        "loops": "for " + "(" * 199 + "a" + ")" * 199 + " in b c",
        "starred": "x = " + "*" * 100_000 + "y",
        "decimal": "x = " + "9" * 200_000,
        "hexadecimal": "x = 0x" + "f" * 200_000,
        "4000 hexadecimal digits": "x = 0x" + "f" * 4000 + "\n" + UNLEARN,
        "octal": "x = 0o" + "7" * 200_000,
        "binary": "x = 0b" + "1" * 200_000,
        "many large integers": "x = [" + ("0x" + "f" * 3500 + ",") * 60 + "]",
        "a dictionary of integers": "x = {" + ",".join(f"{i}:{i}" for i in range(20_000)) + "}",
        "a long list": "x = [" + "1," * 120_000 + "]",
        "a float of many digits": "x = " + "1" * 200_000 + ".0",
        "a large exponent": "x = 1e" + "9" * 100_000,
        "an imaginary number": "x = " + "9" * 200_000 + "j",
        "a long string": 'x = "' + "a" * 250_000 + '"',
        "an open string": 'x = """' + "a" * 250_000,
        "many strings": "x = " + "'a' " * 60_000,
        "names of characters": 'x = "' + r"\N{LATIN SMALL LETTER A}" * 9000 + '"',
        "halves of characters": r'x = "' + r"\ud800" * 9000 + '"',
        "a name of no character": r'x = "\N{NOTHING}"',
        "continued lines": "x = 1 + \\" + "\\\n" * 100_000,
        "statements": "1;" * 100_000,
        "empty lines": "\n" * 250_000,
        "a long name": "a" * 250_000 + " = 1",
        "long names of arguments": "def unlearn(*, " + ",".join(f"{'a' * 900}{i}" for i in range(250)) + "): pass",
        "many arguments": "def unlearn(" + ",".join(f"a{i}" for i in range(40_000)) + "): pass",
        "names in other letters": "".join(f"\N{MATHEMATICAL BOLD SMALL A}{i} = 1\n" for i in range(15_000)),
        "invisible names": "\N{HANGUL FILLER} = \N{ZERO WIDTH SPACE} 1",
        "turned text": "x = '\N{RIGHT-TO-LEFT OVERRIDE}' ) \N{RIGHT-TO-LEFT ISOLATE}",
        "null byte": "x = 1\0",
        "null byte in a string": 'x = "\0"\n' + UNLEARN,
        "two marks of byte order": b"\xef\xbb\xbf\xef\xbb\xbfx = 1",
        "UTF-16": UNLEARN.encode("utf-16"),
        "UTF-32": UNLEARN.encode("utf-32"),
        "not UTF-8": b"x = '\xe9'\n" + UNLEARN.encode(),
        "overlong UTF-8": b"x = '\xc0\x80'\n" + UNLEARN.encode(),
        "half a character": b"x = '\xed\xa0\x80'\n" + UNLEARN.encode(),
        "another encoding": "# coding: utf-7\nx = 1\n",
        "no encoding": "# coding: nothing\nx = 1\n",
        "not text": random.Random(0).randbytes(100_000),
        "nothing": b"",
        "too large": b"#" * (1 << 20),
        "too large to be read at all": b"#" * ((1 << 24) + 1),
    }
)

FINALS = _as_bytes(
    {
        "nested lists": "choices = " + "[" * 2000 + "]" * 2000,
        "nested lists, too long": "choices = " + "[" * 5000,
        "nested tables": "choices = " + "{a=" * 1000 + "1" + "}" * 1000,
        "a dotted key": ".".join(["a"] * 2000) + " = 1",
        "a dotted key, too long": ".".join(["a"] * 16_000) + " = 1",
        "a dotted table": "[" + ".".join(["a"] * 2000) + "]\nb = 1",
        "many tables": "".join(f"[a{i}]\n" for i in range(600)),
        "lists of tables": "[[a]]\n" * 600,
        "a large integer": "choices = " + "9" * 4000,
        "a larger integer": "choices = 0x" + "f" * 4000,
        "a float": "choices = 1" + "0" * 3000 + ".0",
        "a date": "choices = 9999-99-99",
        "a long string": "choices = '" + "a" * 4000 + "'",
        "many choices": "choices = [" + "'a.py'," * 500 + "]\nchoices = []",
        "lists in lists": "choices = [['a.py']]",
        "numbers": "choices = [1, 2]",
        "the same key twice": "choices = ['a.py']\nchoices = ['a.py']",
        "another file": "choices = ['../alpha/a.py']",
        "null byte": "choices = ['a.py\0']",
        "not UTF-8": b"choices = ['\xe9']",
        "UTF-16": "choices = ['a.py']".encode("utf-16"),
        "not text": random.Random(1).randbytes(4000),
        "nothing": b"",
        "too large": b"#" * 5000,
    }
)

PYTHON = (
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        '"""',
        "f'{",
        "rb'",
        "\\",
        "\n",
        "\n    ",
        "\t",
        "\0",
        "#",
        ";",
        ",",
        ":",
    ),
    *("lambda ", "if x", " else ", "for x in ", "async ", "await ", "yield ", "not ", "match x:", "case ", "class A:"),
    *(
        "def unlearn(a, b, c, d):",
        "import ",
        "from . import *",
        "global x",
        "x",
        "= ",
        ":= ",
        "-",
        "**",
        "@",
        "...",
        "~",
    ),
    *("0x", "f" * 50, "9" * 50, "1e9", "1_0", "0o9", "é", "\N{HANGUL FILLER}", "\ufeff", "\x0c", r"\N{", r"\ud800"),
)
TOML = (
    *("choices", "=", "[", "]", "[[", "]]", "{", "}", ".", ",", "\n", "'", '"', '"""', "'''", "a", "a.py", "\0", "#"),
    *(
        "9" * 50,
        "0x",
        "1e999",
        "nan",
        "-inf",
        "true",
        "1979-05-27T07:32:00Z",
        "25:61:00",
        r"\uD800",
        r"\U00110000",
        "é",
    ),
)


def random_source(generator: random.Random) -> bytes:
    """Return what looks a little like Python."""
    return _random(generator, PYTHON, UNLEARN)


def random_final(generator: random.Random) -> bytes:
    """Return what looks a little like a final.toml."""
    return _random(generator, TOML, 'choices = ["a.py"]\n')


def _random(generator: random.Random, pieces: tuple[str, ...], sound: str) -> bytes:
    repeats = [generator.choice((1, 1, 1, 3, 100, 1500)) for _ in range(generator.randrange(1, 12))]
    content = bytearray((sound + "".join(generator.choice(pieces) * many for many in repeats)).encode())
    for _ in range(generator.choice((0, 0, 1, 5))):
        content[generator.randrange(len(content))] = generator.randrange(256)
    return bytes(content[: generator.choice((4000, 50_000))])
