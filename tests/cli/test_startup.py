"""What a command loads before it is known what is asked for. Modules are counted, not seconds."""

import os
import subprocess
import sys

import pytest

# Each takes a tenth of a second or more, or is what many others hang on.
HEAVY = {"joblib", "matplotlib", "numpy", "pandas", "pydantic", "rich", "scipy", "sklearn", "torch"}


@pytest.mark.parametrize(
    ("arguments", "completed"),
    [
        ("--help", ""),
        ("--version", ""),
        ("leaderboard run --help", ""),
        ("evaluate", ""),
        ("evaluate --no-such-option", ""),
        ("evaluate submissions/template.py --quick --runs 3", ""),
        ("no-such-command", ""),
        ("", "harness evaluate --track di"),
    ],
)
def test_help_usage_errors_and_completion_load_nothing_heavy(arguments: str, completed: str) -> None:
    words = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": completed, "COMP_CWORD": "3"} if completed else {}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from harness.__main__ import main; main()", *arguments.split()],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "click" in loaded
    assert loaded & HEAVY == set()
    assert "digits" in done.stdout or not completed
