"""A file's name in a command that people copy comes out of a shell as it is, and is never an option."""

import shlex
from pathlib import Path

import pytest

from harness.typed import typed


@pytest.mark.parametrize("name", ["a.py", "with space.py", "method (2).py", "~a.py", "$(a);b.py", "it's.py", "мой.py"])
def test_a_name_is_read_back_by_a_shell(name: str) -> None:
    assert shlex.split(typed(Path(name))) == [name]


@pytest.mark.parametrize("name", ["-best.py", "--help"])
def test_a_name_is_no_option(name: str) -> None:
    assert typed(name) == f"./{name}"
