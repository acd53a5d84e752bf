"""What the harness tells people to type exists, and a shell completes it."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from harness.cli.main import cli

ROOT = Path(__file__).parents[2]
HINT = re.compile(r"(?:[:,`] |`|^|make them with: )harness ([a-z]+[^`;.\n]*)")


def texts(file: Path) -> Iterator[str]:
    """Yield the texts of a file that are no docstrings; what is filled in reads X."""
    tree = ast.parse(file.read_text())
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def hints() -> list[str]:
    files = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    return sorted({hint for file in files for text in texts(file) for hint in HINT.findall(text)})


def test_there_are_hints() -> None:
    assert len(hints()) > 10


@pytest.mark.parametrize("hint", hints())
def test_a_hint_names_a_command_and_options_that_exist(hint: str) -> None:
    command: click.Command = cli
    for word in hint.split():
        if isinstance(command, click.Group) and not word.startswith("-"):
            assert word in command.commands, hint
            command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]*", hint)) <= known | {"--help"}, hint


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("harness eval", "evaluate"),
        ("harness evaluate --tra", "--track"),
        ("harness evaluate foo.py --track dig", "digits"),
        ("harness new foo.py --from fine", "finetune"),
        ("harness leaderboard sh", "show"),
        ("harness prepare dig", "digits"),
        ("harness check fine", "finetune"),
        ("harness check sis", "sisa"),
        ("harness tune fine", "finetune"),
        ("harness compare foo.py fine", "finetune"),
    ],
)
def test_a_shell_completes_commands_options_tracks_and_baselines(words: str, expected: str, tmp_path: Path) -> None:
    variables = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "from harness.__main__ import main; main()"]
    found = subprocess.run(
        command,
        env={**os.environ, **variables, "HARNESS_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"plain,{expected}" in found.stdout.split()


@pytest.mark.parametrize(
    "words",
    ["harness check bas", "harness compare bas", "harness compare foo.py ", "harness check /", "harness check ~/f"],
)
def test_a_shell_completes_submissions_to_files(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    *before, begun = words.split(" ")
    completed = ShellComplete(cli, {}, "harness", "").get_completions(before[1:], begun)
    assert [item.type for item in completed] == ["file"]
