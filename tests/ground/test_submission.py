"""A participant's file as text: what the static check finds, what its hashes stand for, and constants that are set."""

import ast
import base64
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.scoring.alarms import MAX_CODE, MAX_LITERALS
from harness.statements import compiled
from harness.submission import Submission, read_submission

Write = Callable[[str | bytes], Path]

GOOD = """
EPOCHS = 3

def unlearn(net, retain_loader, forget_loader, val_loader):
    for _ in range(EPOCHS):  # work
        net.eval()
    return net
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Submission]:
    """Reads a source as a submission: read(source, EPOCHS="5")."""

    def call(source: str | bytes, *, source_kb: int = 256, **constants: str) -> Submission:
        file = tmp_path / "foo.py"
        file.write_bytes(source if isinstance(source, bytes) else source.encode())
        return read_submission(file, source_kb=source_kb, constants=constants)

    return call


Read = Callable[..., Submission]


def only_problem(submission: Submission) -> str:
    """Return the single problem of a submission."""
    assert len(submission.problems) == 1, submission.problems
    return submission.problems[0]


# ---- files and names ----------------------------------------------------------------------------------------------


def test_a_good_file_has_no_problems_and_keeps_its_text(read: Read) -> None:
    submission = read(GOOD)
    assert submission.problems == ()
    assert submission.source == GOOD
    assert submission.constants == {}
    assert len(submission.sha256) == len(submission.code_hash) == 64


def test_a_file_that_is_not_there_is_a_usage_error_that_names_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.py; start one: harness new"):
        read_submission(tmp_path / "nothing.py", source_kb=256)


@pytest.mark.parametrize(
    "mistyped",
    [
        "entries/my_metod.py",
        "entries/my_method",
        "entries/My_Method.PY",
        "entries/mymethod.ipynb",
        "entrys/my_metod.py",
    ],
)
def test_a_mistyped_file_is_asked_about_by_the_closest_one(mistyped: str, tmp_path: Path) -> None:
    file = tmp_path / "entries" / "my_method.py"
    file.parent.mkdir()
    for each in (file, file.with_name("my_metod.txt"), file.with_name("other.py")):
        each.write_text(GOOD)
    with pytest.raises(UsageError, match=re.escape(f"(did you mean {file}?); start one: ")):
        read_submission(tmp_path / mistyped, source_kb=256)


def test_a_mistyped_baseline_is_asked_about_by_the_closest_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape("no file finetun (did you mean finetune?)")):
        read_submission(Path("finetun"), source_kb=256)


def test_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a file"):
        read_submission(tmp_path, source_kb=256)


def test_a_submission_is_named_by_its_path_below_the_folder_of_submissions(tmp_path: Path) -> None:
    for folder, name in (("submissions/team", "team/foo.py"), ("submissions", "foo.py"), ("elsewhere", "foo.py")):
        file = tmp_path / folder / "foo.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(GOOD)
        assert read_submission(file, source_kb=256).name == name


def test_the_file_is_never_imported(read: Read, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert read(f"open({str(trace)!r}, 'w')\nraise SystemExit\n{GOOD}").problems == ()
    assert not trace.exists()


# ---- files that are no Python source ------------------------------------------------------------------------------


def test_a_syntax_error_is_named_with_its_line(read: Read) -> None:
    assert only_problem(read(GOOD + "x = (1,\ny = 2\n")).startswith("syntax error in line 8: ")
    assert only_problem(read("def unlearn(net:\n    pass\n")).startswith("syntax error in line 1: ")


def test_a_bad_indentation_is_a_syntax_error_too(read: Read) -> None:
    assert only_problem(read("x = 1\n  y = 2\n")).startswith("syntax error in line 2: ")


@pytest.mark.parametrize(
    "source",
    [
        f"{GOOD}\nreturn net\n",
        f"{GOOD}\nbreak\n",
        f"{GOOD}\nfrom __future__ import annotations\n",
        "def unlearn(net, net, forget_loader, val_loader): pass\n",
        "def unlearn(net, retain_loader, forget_loader, val_loader):\n    nonlocal net\n",
    ],
)
def test_what_python_parses_and_does_not_compile_is_a_syntax_error_too(source: str, read: Read) -> None:
    said = only_problem(read(source))
    assert re.match(r"syntax error in line \d+: ", said)


def test_a_null_byte_is_a_problem(read: Read) -> None:
    assert "null byte" in only_problem(read(GOOD.encode() + b"\0"))


def test_text_that_is_not_utf8_is_a_problem_that_names_the_byte(read: Read) -> None:
    assert "not UTF-8 text (byte 4)" in only_problem(read(b"x = \xe9\n"))


def test_utf8_text_with_and_without_a_byte_order_mark_is_fine(read: Read) -> None:
    source = GOOD + 'NAME = "Zürich, 東京"\n'
    plain, marked = read(source), read(b"\xef\xbb\xbf" + source.encode())
    assert plain.problems == marked.problems == ()
    assert plain.code_hash == marked.code_hash
    assert plain.sha256 != marked.sha256


def test_a_file_above_the_size_limit_is_a_problem_and_one_at_the_limit_is_not(read: Read) -> None:
    padding = "#" * (2 * 1024 - len(GOOD))
    assert read(GOOD + padding, source_kb=2).problems == ()
    assert "the limit is 2 KB" in only_problem(read(GOOD + padding + "#", source_kb=2))


def test_an_empty_file_defines_no_function(read: Read) -> None:
    assert "defines no function unlearn(net, retain_loader, forget_loader, val_loader)" in only_problem(read(""))


def test_source_nested_too_deeply_to_be_parsed_is_a_problem(read: Read) -> None:
    assert only_problem(read("x = " + "(" * 5000 + ")" * 5000 + GOOD))


LONG = {
    "many elifs": "x = 0\nif x == 0:\n    y = 0\n" + "".join(f"elif x == {i}:\n    y = {i}\n" for i in range(400)),
    "a long sum": "x = 1" + " + 1" * 1000,
}


@pytest.mark.parametrize("source", LONG.values(), ids=LONG)
def test_long_chains_of_ordinary_code_are_read_like_any_other(read: Read, source: str) -> None:
    submission = read(source + "\n" + GOOD)
    assert submission.problems == ()
    exec(compiled(ast.parse(submission.source), "foo.py"), {})
    assert submission.code_hash != read(source.replace("1", "2") + "\n" + GOOD).code_hash


def test_an_odd_escape_in_a_string_is_read_without_a_word(read: Read) -> None:
    assert read('PATTERN = "\\d+"\n' + GOOD).problems == ()  # Python warns here, and warnings are errors in this suite


# ---- the function -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        "net, retain_loader, forget_loader, val_loader",
        "a, b, c, d",
        "a, b, c, d, /",
        "a, b, /, c, d",
        "a, b, c, d=None",
        "a, b, c, d, epochs=3",
        "a=1, b=2, c=3, d=4, e=5, f=6",
        "*args",
        "net, *loaders",
        "a, b, c, d, *rest",
        "*args, **kwargs",
        "a, b, c, d, **kwargs",
        "a, b, c, d, *, epochs=3",
        "a: int, b: list[int], c: object, d: object = None",
    ],
)
def test_arguments_that_four_positional_ones_fill_are_accepted(read: Read, arguments: str) -> None:
    source = f"def unlearn({arguments}):\n    pass\n"
    assert read(source).problems == ()
    namespace: dict[str, Callable[..., None]] = {}
    exec(source, namespace)
    namespace["unlearn"](1, 2, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("", "takes 0 arguments; it is called with 4"),
        ("net", "takes 1 arguments; it is called with 4"),
        ("a, b, c", "takes 3 arguments"),
        ("a, b, c, d, e", "takes a fifth argument, the state of a train(net, train_loader, val_loader): define it"),
        ("a, b, c, d, e, f=1", "takes a fifth argument"),
        ("a, b, c, d, e, f", "takes 6 arguments; it is called with 4"),
        ("a, b, c, d, e, *rest", "takes a fifth argument"),
        ("**kwargs", "takes 0 arguments"),
        ("a, b, c, **kwargs", "takes 3 arguments"),
        ("a, b, c, d, *, epochs", "keyword arguments nobody passes: epochs"),
        ("*args, epochs, rate=1, seed", "keyword arguments nobody passes: epochs, seed"),
    ],
)
def test_arguments_that_four_positional_ones_do_not_fill_are_a_problem(
    read: Read, arguments: str, problem: str
) -> None:
    source = f"\ndef unlearn({arguments}):\n    pass\n"
    found = only_problem(read(source))
    assert problem in found
    assert "unlearn in line 2" in found
    namespace: dict[str, Callable[..., None]] = {}
    exec(source, namespace)
    with pytest.raises(TypeError):
        namespace["unlearn"](1, 2, 3, 4)


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("def unlearn(net, retain_loader, forget_loader): pass\n", "takes 3 arguments"),
        ("class unlearn: pass\n", "is a class"),
        ("def forget(net): pass\n", "defines no function unlearn"),
    ],
)
def test_an_import_of_all_names_hides_nothing(read: Read, rest: str, problem: str) -> None:
    assert problem in only_problem(read(f"from math import *\n{rest}"))


def test_a_learner_that_imports_all_names_of_a_package_is_one(read: Read) -> None:
    learner = (
        "from math import *\n"
        "def train(net, train_loader, val_loader): pass\n"
        "def unlearn(net, retain_loader, forget_loader, val_loader, state): pass\n"
    )
    submission = read(learner)
    assert submission.problems == ()
    assert submission.is_learner


def test_all_problems_of_a_function_are_reported_at_once(read: Read) -> None:
    problems = read("def unlearn(net, *, epochs):\n    pass\n").problems
    assert len(problems) == 2
    assert "takes 1 arguments" in problems[0]
    assert "nobody passes: epochs" in problems[1]


def test_a_file_without_the_function_is_a_problem(read: Read) -> None:
    for source in (
        "def forget(a, b, c, d):\n    pass\n",
        "import torch\n",
        "class Net:\n    def unlearn(a, b, c, d): pass\n",
    ):
        assert "defines no function unlearn" in only_problem(read(source))


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("class Net:\n    def unlearn(self, a, b, c, d): pass\n", "unlearn is a method of class Net: define it at"),
        ("class Net:\n    async def unlearning(self): pass\n", "unlearning is a method of class Net: define it at"),
        (
            "if True:\n    class Net:\n        class Inner:\n            def unlearn(a): pass\n",
            "a method of class Inner",
        ),
        ("def make():\n    with x:\n        def unlearn(a): pass\n", "unlearn is within function make: define it at"),
        ("class Net:\n    unlearn = 3\ndef forget(a, b, c, d): pass\n", "rename the one that does: forget"),
    ],
)
def test_a_function_that_is_not_at_the_top_level_is_named(read: Read, source: str, hint: str) -> None:
    submission = read(source)
    assert hint in only_problem(submission)
    assert not submission.is_helper


def test_a_class_of_that_name_is_a_problem(read: Read) -> None:
    assert "unlearn in line 2 is a class" in only_problem(read("\nclass unlearn:\n    pass\n"))


def test_a_coroutine_of_that_name_is_a_problem(read: Read) -> None:
    assert "unlearn in line 1 is a coroutine" in only_problem(read("async def unlearn(a, b, c, d):\n    pass\n"))


def test_what_a_decorator_makes_of_a_function_is_known_only_once_it_runs(read: Read) -> None:
    for definition in ("def unlearn(a, b, c, d, config): pass", "async def unlearn(a, b, c, d): pass"):
        assert read(f"@configured(3)\n{definition}\n").problems == ()
    assert "takes 2 arguments" in only_problem(read("@torch.no_grad()\ndef unlearn(a, b): pass\n"))


def test_the_name_of_the_starting_kit_is_accepted_and_checked_as_well(read: Read) -> None:
    assert read("def unlearning(net, retain, forget, val):\n    pass\n").problems == ()
    assert "unlearning in line 1 takes 3" in only_problem(read("def unlearning(net, retain, forget):\n    pass\n"))


def test_of_both_names_the_one_that_takes_all_arguments_counts(read: Read) -> None:
    fine, wrong = "def {}(a, b, c, d):\n    pass\n", "def {}(a):\n    pass\n"
    assert read(wrong.format("unlearning") + fine.format("unlearn")).problems == ()
    assert read(fine.format("unlearning") + wrong.format("unlearn")).problems == ()
    assert "unlearn in line 3" in only_problem(read(wrong.format("unlearning") + wrong.format("unlearn")))


def test_the_last_definition_is_the_one_that_counts(read: Read) -> None:
    fine, wrong = "def unlearn(a, b, c, d):\n    pass\n", "def unlearn(a):\n    pass\n"
    assert read(wrong + fine).problems == ()
    assert "unlearn in line 3 takes 1" in only_problem(read(fine + wrong))
    assert read(wrong + "unlearn = make(unlearn)\n").problems == ()


@pytest.mark.parametrize(
    "source",
    [
        "unlearn = lambda a, b, c, d: a",
        "unlearn = functools.partial(work, epochs=3)",
        "unlearn: object = work",
        "forget = unlearn = work",
        "unlearn, other = work, work",
        "from methods import unlearn",
        "from methods import forget as unlearn",
        "import methods as unlearn",
        "if True:\n    def unlearn(a, b, c, d): pass",
        "if False:\n    pass\nelse:\n    def unlearn(a, b, c, d): pass",
        "if False:\n    pass\nelif True:\n    unlearn = work",
        "try:\n    from methods import unlearn\nexcept ImportError:\n    pass",
        "try:\n    import methods\nexcept ImportError:\n    def unlearn(a, b, c, d): pass",
        "try:\n    import methods\nexcept ImportError:\n    pass\nelse:\n    unlearn = methods.unlearn",
        "try:\n    pass\nfinally:\n    def unlearn(a, b, c, d): pass",
        "with context():\n    def unlearn(a, b, c, d): pass",
        "@decorated\ndef unlearn(a, b, c, d): pass",
    ],
)
def test_a_function_may_be_bound_by_an_assignment_or_an_import_and_inside_a_block(read: Read, source: str) -> None:
    assert read(source + "\n").problems == ()


@pytest.mark.parametrize(
    "source",
    [
        "def outer():\n    def unlearn(a, b, c, d): pass",
        "class Method:\n    def unlearn(a, b, c, d): pass",
        "method.unlearn = work",
        "import unlearn.methods as methods",
        "unlearn: object",
        "unlearn == work",
        "def unlearned(a, b, c, d): pass",
    ],
)
def test_what_only_looks_like_a_binding_is_none(read: Read, source: str) -> None:
    assert "defines no function unlearn" in only_problem(read(source + "\n"))


# ---- hashes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        GOOD + "\n# the end\n",
        "# coding: utf-8\n\n\n" + GOOD,
        GOOD.replace("# work", "# play"),
        GOOD.replace("    ", "\t"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("EPOCHS = 3", "EPOCHS=(3)"),
        GOOD.replace("(net, retain_loader", "(\n    net,\n    retain_loader"),
        GOOD.replace("    return net", "    return (net)"),
        GOOD.replace("net.eval()", "net.eval(\n)"),
        GOOD.rstrip(),
        '"""What it does."""\n' + GOOD,
        GOOD.replace("    return net", '    "a string as a comment"\n    return net'),
        GOOD + "1\n...\nb'bytes'\n",
    ],
)
def test_comments_docstrings_and_layout_change_the_bytes_but_not_the_code(read: Read, other: str) -> None:
    assert read(other).problems == ()
    assert read(other).code_hash == read(GOOD).code_hash
    assert read(other).sha256 != read(GOOD).sha256


@pytest.mark.parametrize(
    "other",
    [
        GOOD.replace("EPOCHS = 3", "EPOCHS = 4"),
        GOOD.replace("EPOCHS = 3", "EPOCHS = 3.0"),
        GOOD.replace("EPOCHS = 3", "EPOCHS = '3'"),
        GOOD.replace("EPOCHS = 3", "EPOCHS = -3"),
        GOOD.replace("EPOCHS", "ROUNDS"),
        GOOD.replace("eval", "train"),
        GOOD.replace("    return net", "    return"),
        GOOD.replace("    return net", "    return None"),
        GOOD.replace("    return net", ""),
        GOOD.replace("    return net", "        return net"),
        GOOD.replace("val_loader", "val_loader=None"),
        GOOD + "import torch\n",
        GOOD + "X = True\n",
        GOOD + "X = 1\n",
        GOOD + "X = 1.0\n",
        GOOD + "X = None\n",
        GOOD + "X = []\n",
        GOOD + "X = ()\n",
        GOOD + "X = ''\n",
        GOOD + "X = b''\n",
    ],
)
def test_every_change_of_the_code_changes_its_hash(read: Read, other: str) -> None:
    assert read(other).problems == ()
    assert read(other).code_hash != read(GOOD).code_hash


BLOCKS = """
class Kept:
    {0}
def unlearn(a, b, c, d):
    if a:
        {0}
    else:
        {0}
    try:
        {0}
    finally:
        {0}
    match a:
        case 1:
            {0}
"""


def test_a_block_of_nothing_but_a_docstring_is_an_empty_one(read: Read) -> None:
    documented, empty = read(BLOCKS.format('"words"')), read(BLOCKS.format("pass"))
    assert documented.problems == empty.problems == ()
    assert documented.code_hash == empty.code_hash


def test_constants_that_compare_equal_are_told_apart(read: Read) -> None:
    values = ["1", "1.0", "True", "'1'", "b'1'", "1j", "0", "0.0", "False", "None", "...", "[]", "()", "{}", "''", "-1"]
    assert len({read(f"{GOOD}X = {value}\n").code_hash for value in values}) == len(values)


def test_the_hash_of_a_source_is_the_same_for_ever(read: Read) -> None:
    # It keys stored runs and seeds: a change of it makes every stored result stale.
    source = "def unlearn(a, b, c, d):\n    return a\n"
    assert read(source).code_hash == "8667927c682d060337099207b7ae6f117c87041087349f775c5dc363030bc74f"


def test_a_file_that_cannot_be_parsed_is_known_by_its_bytes(read: Read) -> None:
    submission = read("def")
    assert submission.code_hash == submission.sha256
    assert submission.source == ""


# ---- information --------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
HONEST = [*sorted((ROOT / "baselines").rglob("*.py")), ROOT / "submissions" / "template.py"]
DATA = random.Random(0).randbytes(4096)
NAMES = [f"v{DATA[start : start + 8].hex()}" for start in range(0, len(DATA), 8)]
WRITTEN = {
    "base64": f'TABLE = "{base64.b64encode(DATA).decode()}"',
    "bytes": f"TABLE = {DATA!r}",
    "numbers": f"TABLE = {list(DATA)}",
    "an integer": f"TABLE = {int.from_bytes(DATA[:1500], 'big')}",
    "many texts": "\n".join(f"x = '{name}'" for name in NAMES),
    "part of a text": f"TABLE = f'{DATA.hex()}{{0}}'",
    "a default": f"def table(data={DATA!r}): pass",
}


@pytest.mark.parametrize("file", HONEST, ids=lambda file: file.stem)
def test_no_baseline_says_half_of_what_raises_an_alarm(file: Path) -> None:
    said = read_submission(file, source_kb=256).information
    assert 0 < said.literals < MAX_LITERALS / 2
    assert 0 < said.code < MAX_CODE / 2


@pytest.mark.parametrize("table", WRITTEN.values(), ids=WRITTEN)
def test_a_table_is_found_in_the_literals_however_it_is_written(read: Read, table: str) -> None:
    said = read(f"{table}\n{GOOD}").information
    assert said.literals > 1400
    assert said.code > said.literals


def test_a_table_spelled_by_names_is_found_in_the_code(read: Read) -> None:
    said = read(GOOD + "".join(f"def {name}(): pass\n" for name in NAMES)).information
    assert said.literals < 100
    assert said.code > 4000


def test_comments_docstrings_layout_and_length_say_nothing(read: Read) -> None:
    said = read(GOOD).information
    assert read(f'"""{DATA.hex()}"""\n# {DATA.hex()}\n' + GOOD.replace("    ", "  ")).information == said
    assert read(f"TABLE = '{'0' * 50_000}'\n" + GOOD).information.code < said.code + 300


def test_a_constant_that_was_set_counts(read: Read) -> None:
    assert read(GOOD, EPOCHS=DATA.hex()).information.literals > 4000


# ---- constants ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value", "expected"),
    [
        ("RATE = 3", "5", 5),
        ("RATE = 0.1", "1e-3", 0.001),
        ("RATE = 3", "-2", -2),
        ("RATE = 3", "None", None),
        ("RATE = True", "False", False),
        ("RATE: float = 0.1", "0.5", 0.5),
        ("RATE = 'adam'", "sgd", "sgd"),
        ("RATE = 'adam'", "'sgd'", "sgd"),
        ("RATE = 'adam'", 'it\'s "odd" \\ text', 'it\'s "odd" \\ text'),
        ("RATE = 'é'", "ü", "ü"),
        ("RATE = 3", "1e400", float("inf")),
        ("RATE = [1, 2]", "[3, 4, 5]", [3, 4, 5]),
        ("RATE = (1, 2)", "(3,)", (3,)),
        ("RATE = 1", "{'a': [1, 2]}", {"a": [1, 2]}),
        ("RATE = 1", "{[]: 1}", "{[]: 1}"),
        ("RATE = 1", "", ""),
        ("RATE = 2 * 3 + len('ab')", "7", 7),
        ("RATE = (3)", "7", 7),
        ("RATE = OTHER = 3", "7", 7),
        ("RATE = 1; RATE = 2", "7", 7),
        ("X = 'äöü'; RATE = 3; Y = 1", "7", 7),
        ("RATE = 3  # per step", "7", 7),
        ("RATE = [\n    1]; Y = 1", "7", 7),
        ("X = 'a\u2028b\x0c'\nRATE = 3", "7", 7),
    ],
)
def test_a_constant_is_set_to_the_value_that_was_asked_for(read: Read, line: str, value: str, expected: object) -> None:
    submission = read(f"{line}\n{GOOD}", RATE=value)
    assert submission.problems == ()
    assert submission.constants == {"RATE": value}
    namespace: dict[str, object] = {}
    exec(submission.source, namespace)
    assert namespace["RATE"] == expected
    assert type(namespace["RATE"]) is type(expected)


MULTI_LINE = [
    "LAYERS = [\n    1,\n    2,\n]",
    "LAYERS = (\n    1 +\n    2\n)",
    'LAYERS = """one\ntwo\nthree"""',
    "LAYERS = {\n    'a': 1,  # first\n\n    'b': 2,\n}  # end",
    "LAYERS = \\\n    5",
    "LAYERS: list[int] = [\n    1,\n]",
    "LAYERS = [\r\n    1,\r\n    2,\r\n]",
]


@pytest.mark.parametrize("text", MULTI_LINE)
def test_a_value_over_several_lines_is_replaced_and_every_later_line_keeps_its_number(read: Read, text: str) -> None:
    source = f"import os\n{text}\nAFTER = 1\n{GOOD}"
    submission = read(source, LAYERS="[7, 8]")
    assert submission.problems == ()
    before, after = ast.parse(source), ast.parse(submission.source)
    assert [node.lineno for node in before.body] == [node.lineno for node in after.body]
    assert len(submission.source.splitlines()) == len(source.splitlines())
    namespace: dict[str, object] = {}
    exec(submission.source, namespace)
    assert namespace["LAYERS"] == [7, 8]
    assert namespace["AFTER"] == 1


def test_a_multi_line_value_at_the_very_end_of_a_file_is_replaced(read: Read) -> None:
    submission = read(GOOD + "LAYERS = [\n    1,\n]", LAYERS="7")
    namespace: dict[str, object] = {}
    exec(submission.source, namespace)
    assert namespace["LAYERS"] == 7


def test_several_constants_are_set_at_once_and_nothing_else_changes(read: Read) -> None:
    source = f"RATE = [\n 1]\n{GOOD}NAME = 'a'\n"
    submission = read(source, RATE="0.5", EPOCHS="9", NAME="b")
    assert submission.source == source.replace("[\n 1]", "0.5\n").replace("= 3", "= 9").replace("'a'", "'b'")
    assert submission.constants == {"RATE": "0.5", "EPOCHS": "9", "NAME": "b"}


def test_setting_a_constant_is_the_same_code_as_writing_it(read: Read) -> None:
    written = read(GOOD.replace("EPOCHS = 3", "EPOCHS = [5, -0.5, 'a']"))
    submission = read(GOOD, EPOCHS="[5, -.5, 'a']")
    assert submission.code_hash == written.code_hash
    assert submission.code_hash != read(GOOD).code_hash
    assert submission.sha256 == read(GOOD).sha256  # names the file, which has not changed


def test_setting_a_constant_to_what_it_is_changes_nothing(read: Read) -> None:
    assert read(GOOD, EPOCHS="3").code_hash == read(GOOD).code_hash


def test_an_unknown_constant_is_a_usage_error_that_names_the_known_ones(read: Read) -> None:
    with pytest.raises(UsageError, match=r"--set EPOCH \(did you mean EPOCHS\?\): .*EPOCHS, RATE"):
        read(GOOD + "RATE = 1\nlower = 2\n", EPOCH="1")
    with pytest.raises(UsageError, match="none"):
        read("def unlearn(a, b, c, d):\n    pass\n", EPOCHS="1")


@pytest.mark.parametrize(
    "source",
    ["lower = 1", "Mixed = 1", "def f():\n    LIMIT = 1", "if True:\n    LIMIT = 1", "LIMIT: int", "LIMIT += 1"],
)
def test_only_capital_constants_at_the_top_level_can_be_set(read: Read, source: str) -> None:
    for name in ("lower", "Mixed", "LIMIT"):
        with pytest.raises(UsageError, match=f"--set {name}"):
            read(f"{source}\n{GOOD}", **{name: "1"})


def test_a_file_with_a_syntax_error_is_returned_with_its_problem_even_with_constants(read: Read) -> None:
    assert "syntax error" in only_problem(read("EPOCHS = (", EPOCHS="1"))


def test_a_wrong_function_is_still_a_problem_after_a_constant_was_set(read: Read) -> None:
    assert "takes 1 arguments" in only_problem(read("EPOCHS = 1\ndef unlearn(net):\n    pass\n", EPOCHS="2"))
