"""What is taken of notebooks and whole scripts: all that `unlearn` needs, and nothing else."""

import random
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.excerpt import Excerpt, excerpt_of
from harness.source_text import SourceText
from harness.submission import Submission, read_submission
from tests.ground.notebooks import ENTRY, notebook
from tests.ground.random_modules import random_module

UNLEARN = "def unlearn(net, retain_loader, forget_loader, val_loader):\n    return {}\n"
LARGE = 10**15  # numbers beyond are let alone: they are slow


def read(source: str | bytes, folder: Path, name: str = "entry.py") -> Submission:
    file = folder / name
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return read_submission(file, source_kb=256)


def excerpt(submission: Submission) -> Excerpt:
    assert submission.problems == ()
    assert submission.excerpt is not None
    return submission.excerpt


def value(source: str) -> object:
    """Return what `unlearn` returns, whatever it is given."""
    module: dict[str, object] = {"__name__": "submission"}
    exec(compile(source, "entry.py", "exec"), module)
    function = module.get("unlearn") or module["unlearning"]
    assert callable(function)
    return function(None, None, None, None)


# ---- notebooks --------------------------------------------------------------------------------------------------


def test_of_a_notebook_what_unlearn_needs_is_taken(tmp_path: Path) -> None:
    submission = read(notebook(), tmp_path, "entry.ipynb")
    found = excerpt(submission)
    assert found.taken == (
        *("import torch", "from torch import nn", "DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'"),
        *("torch.backends.cudnn.benchmark = True", "class CFG", "CFG.momentum = 0.9", "options = {'steps': 2}"),
        *("options.update(steps=1)", "criterion = nn.CrossEntropyLoss()", "train()", "unlearning()"),
    )
    assert "version" not in submission.source  # of the function that has three, the one it was last called with
    assert "# What is tuned.\nclass CFG:" in submission.source
    for left in ("cell 2, line 1: !pip install -q timm", "cell 4, line 1: %%bash", "cell 9, line 2: unlearning?"):
        assert left in found.left
    assert found.unknown == ()


def test_a_notebook_is_one_whatever_its_name(tmp_path: Path) -> None:
    assert read(notebook(), tmp_path, "entry.py").source == read(notebook(), tmp_path, "entry.ipynb").source


def test_other_outputs_and_other_unneeded_cells_are_the_same_submission(tmp_path: Path) -> None:
    first = read(notebook(), tmp_path, "entry.ipynb")
    second = read(notebook([*ENTRY, ("code", "print(1 + 1)")]), tmp_path, "entry.ipynb")
    assert first.code_hash == second.code_hash
    assert first.sha256 != second.sha256


def test_cells_of_version_3_of_the_format_are_read(tmp_path: Path) -> None:
    cell = '{"cell_type": "code", "language": "python", "input": ["def unlearn(a, b, c, d):\\n", "    return a"]}'
    stored = f'{{"metadata": {{}}, "nbformat": 3, "worksheets": [{{"cells": [{cell}]}}]}}'
    assert excerpt(read(stored, tmp_path, "entry.ipynb")).taken == ("unlearn()",)


def test_a_cell_that_is_no_python_is_left_out_and_said(tmp_path: Path) -> None:
    cells = [("code", "print 'as of Python 2'"), ("code", UNLEARN.format("net"))]
    (sentence,) = excerpt(read(notebook(cells), tmp_path, "entry.ipynb")).left
    assert sentence.startswith("cell 1 is left out: syntax error in its line 1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the notebook cannot be read"),
        ('{"cells": [', "the notebook cannot be read"),
        ("[]", "the notebook has no code cells"),
        ('{"cells": 3}', "the notebook has no code cells"),
        (notebook([("markdown", "def unlearn(a, b, c, d): pass")]), "the notebook has no code cells"),
        (notebook([("code", "x = 1")]), "the notebook defines no function unlearn"),
        (notebook([("code", "x <- 1")], language="R"), "the notebook's language is r, not Python"),
        (notebook([("code", "def unlearn(net): pass")]), "takes 1 arguments"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=["empty", "cut off", "a list", "no list of cells", "text alone", "no function", "R", "one argument", "nested"],
)
def test_what_is_wrong_with_a_notebook_is_said(content: str, problem: str, tmp_path: Path) -> None:
    problems = read(content, tmp_path, "entry.ipynb").problems
    assert problem in problems[0]


def test_of_a_notebook_with_pictures_only_the_code_counts(tmp_path: Path) -> None:
    picture = ("markdown", "x" * 1_000_000)
    assert read(notebook([picture, *ENTRY]), tmp_path, "entry.ipynb").problems == ()
    long = ("code", UNLEARN.format(f"'{'x' * 300_000}'"))
    (problem,) = read(notebook([long]), tmp_path, "entry.ipynb").problems
    assert problem == "the code taken from it has 293 KB, the limit is 256 KB"


# ---- shell lines and magics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        *("%matplotlib inline", "!pip install -q timm", "!ls \\\n    -l", "pip install timm", "files = !ls", "net?"),
        *("?net", "%time x = 1", "cd /kaggle/working", "if 1:\n    !ls", "x = %pwd", "!wget -q 'https://a.b/c?d=e'"),
    ],
)
def test_a_shell_line_or_magic_is_left_out_of_a_module(line: str, tmp_path: Path) -> None:
    submission = read(f"{line}\n{UNLEARN.format(7)}", tmp_path)
    assert excerpt(submission).taken == ("unlearn()",)
    assert value(submission.source) == 7
    assert submission.source.count("\n") == line.count("\n") + 3  # lines keep their numbers


def test_a_statement_that_a_magic_times_stays(tmp_path: Path) -> None:
    head = "def unlearn(net, retain_loader, forget_loader, val_loader):"
    submission = read(f"{head}\n    %time x = 7\n    %prun -q x += 1\n    return x", tmp_path)
    assert value(submission.source) == 8
    assert excerpt(submission).left == ("line 2: %time x = 7", "line 3: %prun -q x += 1")


def test_what_only_looks_like_a_magic_stays(tmp_path: Path) -> None:
    source = f"text = '''\n%matplotlib inline\n!ls\n'''\nx = (7\n     % 4)\n{UNLEARN.format('text, x')}"
    submission = read(source, tmp_path)
    assert submission.excerpt is None
    assert value(submission.source) == ("\n%matplotlib inline\n!ls\n", 3)


def test_a_syntax_error_beside_magics_is_named_with_its_line(tmp_path: Path) -> None:
    (problem,) = read("%matplotlib inline\nx = (1\ny = 2\n" + UNLEARN.format(7), tmp_path).problems
    assert problem.startswith("syntax error in line 2: ")


# ---- whole scripts ----------------------------------------------------------------------------------------------

WORK = {
    "a download": "data = torchvision.datasets.CIFAR10('data', download=True)",
    "a file of theirs": "import pandas as pd\ntable = pd.read_csv('/kaggle/input/a.csv')",
    "a loop over seeds": "for seed in range(512):\n    unlearn(0, 0, 0, 0)",
    "a context": "with open('/kaggle/input/a.json') as file:\n    text = file.read()",
    "an exit": "if not found:\n    raise SystemExit('no data')",
    "a shell": "import os\nos.system('pip install timm')",
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_work_of_a_script_that_unlearn_does_not_need_is_left_out(work: str, tmp_path: Path) -> None:
    before, after = (f"rate = 7\n{work}\n{UNLEARN.format('rate')}", f"rate = 7\n{UNLEARN.format('rate')}{work}\n")
    for source in (before, after):
        submission = read(source, tmp_path)
        assert excerpt(submission).taken == ("rate = 7", "unlearn()")
        assert value(submission.source) == 7
        assert submission.source.split("\n").index("    return rate") == source.split("\n").index("    return rate")


@pytest.mark.parametrize(
    "line",
    [
        *("import torch\ntorch.manual_seed(0)", "import warnings\nwarnings.filterwarnings('ignore')", "print('hello')"),
        *("import logging\nlog = logging.getLogger()", "size = len('four')", "if __name__ == '__main__':\n    main()"),
        *("import os\nos.environ['A'] = 'b'", "import torch\ntorch.backends.cudnn.benchmark = True", "x: int = 3"),
        *("@decorator\ndef function(): pass", "try:\n    import timm\nexcept ImportError:\n    timm = None"),
    ],
)
def test_a_module_is_run_as_it_is(line: str, tmp_path: Path) -> None:
    source = f"{line}\n{UNLEARN.format(7)}"
    submission = read(source, tmp_path)
    assert submission.excerpt is None
    assert submission.source == source


def test_names_that_are_bound_under_the_main_guard_are_taken_from_there(tmp_path: Path) -> None:
    source = "if __name__ == '__main__':\n    rate = 7\n    main()\n" + UNLEARN.format("rate")
    submission = read(source, tmp_path)
    assert excerpt(submission).taken == ("rate = 7", "unlearn()")
    assert value(submission.source) == 7


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = 1\na = 2\nwork()\n{}a = 3", 3),
        ("a = 1\n{}unlearn(0, 0, 0, 0)\na = 3", 1),
        ("def f(): return a\na = 1\nwork()\n{}", 1),
        ("a = 1\na = a + 1\nwork()\n{}", 2),
        ("a = 1\na += 1\nwork()\n{}", 2),
        ("a = b = 1; work(); b = 2\n{}", 1),
        ("if True: a = 1\nelse: a = work()\nwork()\n{}", 1),
        ("a = 0\nif a:\n    a = 1\n    work()\nelif not a:\n    a = 2\nwork()\n{}", 2),
        ("try:\n    import nothing_like_this as a\nexcept ImportError:\n    a = 5\nwork()\n{}", 5),
        ("def outer():\n    global a\n    a = 4\na = 1\nouter()\nwork()\n{}", 4),
        ("from os import *\nwork()\na = sep\n{}", "/"),
        ("registry = {{}}\ndef add(f):\n    registry[f.__name__] = f\n@add\ndef seven(): return 7\nwork()\n"
         "def call(): return registry['seven']()\na = 0\n{}", 0),
        ("def seven(): return 7\nwork()\na = eval('seven')()\n{}", 7),
        ("from __future__ import annotations\nwork()\ndef f(x: Unknown): return 7\na = f(0)\n{}", 7),
        ("class A:\n    x = 1\nA.x = 2\nwork()\na = A.x\nA.x = 3\n{}", 2),
        ("a = []\na.append(1)\na += [2]\nfor x in (3, 4):\n    a.append(x)\nwork()\n{}", [1, 2, 3, 4]),
        ("a, (b, *c) = 1, (2, 3)\nwork()\n{}", 1),
        ("if (a := 3) > 2:\n    pass\nwork()\n{}", 3),
        ("b = 'é'; work(); a = b + 'è'; b = 'à'\n{}", "éè"),
    ],
)  # fmt: skip
def test_the_last_binding_before_a_use_is_taken(source: str, expected: object, tmp_path: Path) -> None:
    submission = read(source.format(UNLEARN.format("a")), tmp_path)
    assert excerpt(submission).left
    assert value(submission.source) == expected


def test_what_stands_in_a_notebook_and_no_module_may_hold_is_left(tmp_path: Path) -> None:
    cells = [("code", text) for text in ("await setup()", "return 3", "nonlocal x", "break", "yield 1")]
    future = ("code", f"from __future__ import annotations\n{UNLEARN.format(7)}")
    submission = read(notebook([*cells, future]), tmp_path, "entry.ipynb")
    assert len(excerpt(submission).left) == len(cells)
    assert value(submission.source) == 7


def test_of_two_functions_the_one_that_takes_all_arguments_is_called(tmp_path: Path) -> None:
    entry = UNLEARN.format("unlearn(1, 2)").replace("unlearn", "unlearning", 1)
    submission = read(f"def unlearn(a, b):\n    return 7\nwork()\n{entry}", tmp_path)
    assert excerpt(submission).taken == ("unlearn()", "unlearning()")


FUNCTION = "losses = {}\ndef register(f):\n    losses[f.__name__] = f\n    return f\n"
FACTORY = (
    "losses = {}\ndef register(name):\n    def keep(f):\n        losses[name] = f\n        return f\n    return keep\n"
)
METHOD = "class Table(dict):\n    def add(self, f):\n        self[f.__name__] = f\n        return f\nlosses = Table()\n"


KEEP = "losses[f.__name__] = f\n    return f"


@pytest.mark.parametrize(
    ("registry", "decorator", "use"),
    [
        (FUNCTION, "register", "register and losses['seven']()"),
        (FUNCTION, "register", "losses['seven']()"),
        (FUNCTION.replace(KEEP, "return losses.setdefault(f.__name__, f)"), "register", "losses['seven']()"),
        ("losses = []\ndef register(f):\n    losses.append(f)\n    return f\n", "register", "losses[0]()"),
        ("losses = []\ndef register(f):\n    global losses\n    losses += [f]\n", "register", "losses[0]()"),
        (FACTORY, "register('seven')", "losses['seven']()"),
        (METHOD, "losses.add", "losses['seven']()"),
    ],
)
@pytest.mark.parametrize("name", ["entry.py", "entry.ipynb"])
def test_definitions_that_register_themselves_are_taken(
    registry: str, decorator: str, use: str, name: str, tmp_path: Path
) -> None:
    source = f"{registry}@{decorator}\ndef seven():\n    return 7\ndef other(): pass\nwork()\n" + UNLEARN.format(use)
    submission = read(notebook([("code", source)]) if name.endswith(".ipynb") else source, tmp_path, name)
    assert value(submission.source) == 7
    assert "other" not in submission.source


def test_a_decorator_that_only_writes_down_what_it_does_registers_nothing(tmp_path: Path) -> None:
    source = (
        "lines = []\ndef told(f):\n    lines.append(f.__name__)\n    return f\n"
        f"@told\ndef train():\n    pass\nwork()\n{UNLEARN.format('lines')}"
    )
    assert "def train" not in read(source, tmp_path).source


def test_what_does_not_compile_of_a_notebook_is_said_with_its_cell(tmp_path: Path) -> None:
    cell = "def unlearn(net, retain_loader, forget_loader, val_loader):\n    nonlocal net\n"
    (problem,) = read(notebook([("code", "import torch"), ("code", cell)]), tmp_path, "entry.ipynb").problems
    assert problem == "syntax error in cell 2, line 2: name 'net' is parameter and nonlocal"


def test_statements_of_an_if_are_shown_with_what_they_depend_on(tmp_path: Path) -> None:
    source = f"if work():\n    a = 1\nelif other():\n    a = 2\nelse:\n    a = 3\nwork()\n{UNLEARN.format('a')}"
    taken = excerpt(read(source, tmp_path)).taken
    assert taken == ("if work(): a = 1", "if other(): a = 2", "if not (other()): a = 3", "unlearn()")


def test_of_a_file_that_imports_all_of_a_package_no_name_is_called_unknown(tmp_path: Path) -> None:
    source = f"from torch.nn.functional import *\nwork()\n{UNLEARN.format('cross_entropy')}"
    found = excerpt(read(source, tmp_path))
    assert found.taken == ("from torch.nn.functional import *", "unlearn()")
    assert found.unknown == ()


def test_a_name_that_nothing_defines_is_told(tmp_path: Path) -> None:
    assert excerpt(read(f"work()\n{UNLEARN.format('criterion')}", tmp_path)).unknown == ("criterion",)


def test_what_a_file_imports_of_its_own_is_taken_and_so_named_by_the_run(tmp_path: Path) -> None:
    found = excerpt(read(f"import helpers\nwork()\n{UNLEARN.format('helpers.x')}", tmp_path))
    assert found.taken == ("import helpers", "unlearn()")


def test_constants_of_an_excerpt_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "entry.py"
    file.write_text(f"work(); EPOCHS = 3\nRATE = 2\n{UNLEARN.format('EPOCHS')}")
    assert value(read_submission(file, source_kb=256, constants={"EPOCHS": "5"}).source) == 5
    with pytest.raises(UsageError, match="it has: EPOCHS"):
        read_submission(file, source_kb=256, constants={"RATE": "5"})


@pytest.mark.parametrize("is_notebook", [False, True], ids=["script", "notebook"])
def test_an_excerpt_of_a_random_module_returns_what_the_module_returns(is_notebook: bool) -> None:
    n_excerpts = 0
    for seed in range(300):
        source = random_module(random.Random(seed))
        expected = value(source)
        if isinstance(expected, int) and expected > LARGE:
            continue
        text, found = excerpt_of(SourceText(source, cells=((1, 1),) if is_notebook else ()))
        assert value(text) == expected, source
        n_excerpts += found is not None and bool(found.left)
    assert n_excerpts > 100
