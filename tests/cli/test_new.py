"""Starting a submission: from the template, a baseline, or a notebook; and what there is to start from."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.shipped import BASELINES, LEARNERS, submission_path
from harness.submission import read_submission
from tests.ground.notebooks import notebook

Harness = Callable[..., Result]


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """A notebook as people handed it in in 2023."""
    file = tmp_path / "entry.ipynb"
    file.write_text(notebook())
    return file


def test_a_notebook_is_checked_and_evaluated_as_it_is(harness: Harness, entry: Path, tiny_file: Path) -> None:
    checked = harness("check", entry, "--track", tiny_file)
    assert checked.exit_code == 0, checked.output
    assert "of entry.ipynb what unlearn needs is run, 11 statements" in checked.output
    assert "cell 2, line 1: !pip install -q timm" in checked.output
    evaluated = harness("evaluate", entry, "--track", tiny_file, "--runs", 2)
    assert evaluated.exit_code == 0, evaluated.output
    assert "of entry.ipynb only what unlearn needs was run" in evaluated.output


def test_what_is_taken_of_a_notebook_is_written_and_is_the_same_submission(
    harness: Harness, entry: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    written = harness("new", mine, "--from", entry)
    assert written.exit_code == 0, written.output
    assert "left out, " in written.output
    assert f"wrote {mine}" in written.output
    assert mine.read_text().startswith("import torch\nfrom torch import nn\nDEVICE")
    assert "kaggle" not in mine.read_text()
    first, second = (read_submission(file, source_kb=256) for file in (entry, mine))
    assert first.code_hash == second.code_hash
    assert second.excerpt is None  # nothing is left out of it


UNLEARN = "NAME = 'é'\n\ndef unlearn(net, retain_loader, forget_loader, val_loader):\n    pass\n"


@pytest.mark.parametrize(
    "comment",
    ["# coding: latin-1", "#!/usr/bin/python\r\n# -*- coding: latin-1 -*-", "#\n# vim: set fileencoding=cp1252 :", "#"],
)
def test_a_file_in_any_encoding_is_written_and_stored_as_the_same_submission(
    comment: str, harness: Harness, home: Path, tmp_path: Path, tiny_file: Path
) -> None:
    old, mine = tmp_path / "old.py", tmp_path / "mine.py"
    old.write_bytes(f"{comment}\n{UNLEARN}".encode("utf-8" if comment == "#" else "latin-1"))
    assert harness("new", mine, "--from", old).exit_code == 0
    assert harness("evaluate", old, "--track", tiny_file, "--runs", 1).exit_code == 0
    (stored,) = home.glob("results/*/*/submission.py")  # what is verified and scored later
    codes = {read_submission(file, source_kb=256).code_hash for file in (old, mine, stored)}
    assert len(codes) == 1
    assert "NAME = 'é'" in mine.read_text(encoding="utf-8")


def test_what_only_looks_like_the_name_of_an_encoding_stays(harness: Harness, tmp_path: Path) -> None:
    old, mine = tmp_path / "old.py", tmp_path / "mine.py"
    old.write_text(f'"""A text.\n# coding: latin-1"""\n# coding: latin-1\n{UNLEARN}')
    assert harness("new", mine, "--from", old).exit_code == 0
    assert mine.read_bytes() == old.read_bytes()


def test_a_file_that_is_no_submission_is_nothing_to_start_from(harness: Harness, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("x = 1")
    result = harness("new", tmp_path / "mine.py", "--from", other)
    assert result.exit_code == 2
    assert "defines no function unlearn" in result.output
    assert not (tmp_path / "mine.py").exists()


def test_every_baseline_is_listed_in_one_line_with_its_scores(harness: Harness) -> None:
    result = harness("baselines")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for file in BASELINES.glob("*.py"):
        (line,) = [line for line in lines if f"  {file.stem} " in line]
        assert "%" in line
    learners = sorted(file.stem for file in LEARNERS.glob("*.py"))
    assert "sisa" in learners
    assert lines[-2] == f"learners, each for a track of its own: {', '.join(learners)}"
    assert lines[-1] == "start from one: harness new submissions/foo.py --from finetune"


def test_a_learner_is_found_by_its_name_and_is_started_from(harness: Harness, tmp_path: Path) -> None:
    for name in ("sisa", "sisa.py", "learners/sisa.py", "baselines/learners/sisa.py"):
        mine = tmp_path / f"{len(name)}.py"
        assert harness("new", mine, "--from", name).exit_code == 0
        assert mine.read_bytes() == (LEARNERS / "sisa.py").read_bytes()
    assert submission_path("dare_forest") == LEARNERS / "dare_forest.py"
    assert submission_path("finetune") == BASELINES / "finetune.py"
    mistyped = harness("new", tmp_path / "other.py", "--from", "sissa")
    assert mistyped.exit_code == 2
    assert "did you mean sisa?" in mistyped.output
