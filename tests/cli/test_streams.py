"""Standard output of any kind: work is done, and exits, as it would on a terminal that shows everything."""

import codecs
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli.streams import in_plain_signs
from harness.evaluation.evaluate import load_evaluation
from harness.report.terminal import show, stored_failure
from harness.submission import read_submission
from harness.tracks.track import Track

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
# How a shell redirects a stored evaluation, the exit code, what is read of its output, and of its errors.
REDIRECTED = {
    "ascii": ("", 0, "+-", ""),
    "head": ("| head -1; exit ${PIPESTATUS[0]}", 0, "16 runs ...", ""),
    "nobody": ("| true; exit ${PIPESTATUS[0]}", 0, "", ""),
    "closed": (">&-", 0, "", ""),
    "all closed": (">&- 2>&- <&-", 0, "", ""),
    "full disk": (">/dev/full", 4, "", "output is lost: No space left on device"),
}


@pytest.fixture
def evaluated(evaluated_home: Path, home: Path) -> Path:
    """A HARNESS_HOME of its own with 16 runs of some submissions."""
    for name in ("results", "submissions"):
        shutil.copytree(evaluated_home / name, home / name)
    return home


SLOW = ("nobody", "all closed")  # like others of them


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in REDIRECTED])
def test_a_command_does_its_work_whoever_reads_on(kind: str, evaluated: Path, tiny_file: Path) -> None:
    redirection, exit_code, output, error = REDIRECTED[kind]
    file, out = evaluated / "submissions/bob/noise.py", evaluated / "out.json"
    command = f"{sys.executable} -m harness evaluate {file} --track {tiny_file} --runs 16 --json {out} {redirection}"
    done = subprocess.run(["bash", "-c", command], env=os.environ | ASCII, capture_output=True, check=False)
    assert (done.returncode, out.is_file()) == (exit_code, True), done
    assert done.stdout.isascii()
    assert output in done.stdout.decode()
    assert done.stderr.decode().startswith(f"Error: {error}" if error else "")
    assert b"Traceback" not in done.stderr
    assert error or not done.stderr, done.stderr


def test_what_cannot_be_encoded_is_written_in_plain_signs() -> None:
    codecs.register_error("plain-signs", in_plain_signs)
    assert "1 ± 2 … é ━".encode("ascii", "plain-signs") == b"1 +- 2 ... \\xe9 ?"
    assert "команда".encode("ascii", "plain-signs") == "команда".encode("ascii", "backslashreplace")
    assert "1 ± 2 … é".encode("latin-1", "plain-signs") == "1 ± 2 ... é".encode("latin-1")


def test_nothing_is_cut_off_where_a_terminal_is_narrow(evaluated: Path, tiny: Track) -> None:
    submission = read_submission(evaluated / "submissions/bob/noise.py", source_kb=256)
    evaluation = load_evaluation(submission, tiny, "cpu", runs=16, home=evaluated)
    console = Console(file=io.StringIO(), width=20)
    command = "to compare with fine-tuning: harness evaluate baselines/finetune.py --runs 16"
    console.print(show(evaluation, [command]), crop=False)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in printed
    assert command in printed


def test_a_printed_command_names_a_file_as_a_shell_reads_it(evaluated: Path, tiny: Track) -> None:
    file = evaluated / "-it's mine.py"
    shutil.copy(evaluated / "submissions/cy/broken.py", file)
    evaluation = load_evaluation(read_submission(file, source_kb=256), tiny, "cpu", runs=16, home=evaluated)
    assert evaluation.has_stored_failure
    assert (
        f"harness evaluate '{evaluated}/-it'\"'\"'s mine.py' --track tiny --again" in stored_failure(evaluation).plain
    )
