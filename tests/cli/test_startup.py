"""What commands load: nothing heavy before it is known what is asked for, and what is stored needs little.

Modules are counted, not seconds.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import cli

HEAVY = {"joblib", "matplotlib", "numpy", "pandas", "pydantic", "rich", "scipy", "sklearn", "torch"}
FOR_COMPUTING = {"joblib._parallel_backends", "matplotlib", "pandas", "scipy.special", "sklearn", "torch"}


def loaded(*arguments: object, **variables: str) -> tuple[set[str], str]:
    """Return the modules that the command loads, with the packages they are in, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from harness.__main__ import main; main()", *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "click" in names
    return {name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)}, done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "leaderboard run --help",
        "evaluate",
        "evaluate --no-such-option",
        "evaluate submissions/template.py --quick --runs 3",
        "tune --help",
        "tune submissions/template.py --trials 1",
        "no-such-command",
    ],
)
def test_help_and_usage_errors_load_nothing_heavy(arguments: str) -> None:
    modules, _ = loaded(*arguments.split())
    assert modules & HEAVY == set()


def test_completion_loads_nothing_heavy() -> None:
    words = {"COMP_WORDS": "harness evaluate --track di", "COMP_CWORD": "3"}
    modules, printed = loaded(_HARNESS_COMPLETE="bash_complete", **words)
    assert "plain,digits" in printed
    assert modules & HEAVY == set()


def test_what_is_stored_is_shown_without_what_computes(evaluated_home: Path, tiny_file: Path, tmp_path: Path) -> None:
    place, track = {"HARNESS_HOME": str(tmp_path / "home")}, ("--track", str(tiny_file))
    shutil.copytree(evaluated_home, tmp_path / "home", symlinks=True)
    submissions = evaluated_home / "submissions"
    batch = ["leaderboard", "run", str(submissions / "ada"), str(submissions / "bob"), "--runs", "16", *track]
    assert CliRunner(env=place).invoke(cli, batch).exit_code == 0
    for command in (("evaluate", submissions / "ada" / "finetune.py", "--runs", 16), ("leaderboard", "show")):
        modules, printed = loaded(*command, *track, **place)
        assert "calibrated" in printed
        assert modules & FOR_COMPUTING == set(), command
