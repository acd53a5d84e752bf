"""--hidden: a submission that tries to say what it reads says nothing, by any of the ways it has."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.learners import TRAIN, UNLEARN

Harness = Callable[..., Result]
Write = Callable[[str], Path]

HEAD = "def unlearn(net, retain_loader, forget_loader, val_loader):\n    secret = 'pixels of the hidden set'\n"
LEAKS = {
    "message": "    raise ValueError(secret)\n",
    "print": "    print(secret)\n    raise ValueError\n",
    "class": "    raise type(secret, (Exception,), {})\n",
    "function": "    exec(compile('raise ValueError', 'foo.py', 'exec').replace(co_name=secret))\n",
    "layer": "    net.add_module('pixels of the hidden set', __import__('torch').nn.Linear(1, 1))\n    return net\n",
}


@pytest.fixture
def call(harness: Harness, tiny_file: Path, tmp_path: Path) -> Callable[..., tuple[Result, str]]:
    def evaluated(file: Path, *options: str) -> tuple[Result, str]:
        out = tmp_path / "out.json"
        result = harness("evaluate", file, "--track", tiny_file, "--runs", 2, "--json", out, *options)
        return result, out.read_text()

    return evaluated


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_nothing_a_run_says_comes_back(
    leak: str, call: Callable[..., tuple[Result, str]], submission: Write, home: Path
) -> None:
    file = submission(HEAD + leak)
    result, stored = call(file, "--hidden")
    said = result.output.replace(HEAD.splitlines()[1].strip(), "")  # a line of the file itself is no news to its author
    assert "hidden set" not in said
    assert "hidden set" not in stored
    assert result.exit_code == 3


def test_without_hidden_the_author_sees_it_all(call: Callable[..., tuple[Result, str]], submission: Write) -> None:
    result, stored = call(submission(HEAD + LEAKS["message"]))
    assert "pixels of the hidden set" in result.output
    assert "pixels of the hidden set" in stored


def test_outcome_class_and_line_are_told(call: Callable[..., tuple[Result, str]], submission: Write) -> None:
    result, stored = call(submission(HEAD + LEAKS["message"]), "--hidden")
    assert result.exit_code == 3
    assert "EXCEPTION" in result.output
    assert json.loads(stored)["failure"]["message"] == "ValueError"
    assert json.loads(stored)["failure"]["lines"] == ["foo.py, line 3: raise ValueError(secret)"]


def test_the_class_is_told_of_what_train_raises_too(call: Callable[..., tuple[Result, str]], submission: Write) -> None:
    source = f"{TRAIN}\n    secret = 'pixels of the hidden set'\n    raise ValueError(secret)\n{UNLEARN} pass"
    result, stored = call(submission(source), "--hidden")
    assert result.exit_code == 3
    failure = json.loads(stored)["failure"]
    assert (failure["message"], failure["lines"]) == ("ValueError", ["foo.py, line 3: raise ValueError(secret)"])


def test_a_made_up_line_number_quotes_nothing(call: Callable[..., tuple[Result, str]], submission: Write) -> None:
    source = HEAD + "    import linecache\n    exec(compile('\\n' * 98765 + 'raise ValueError', 'foo.py', 'exec'))\n"
    _, stored = call(submission(source), "--hidden")
    assert "98766" not in stored
