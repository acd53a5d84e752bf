"""Names that people give their files: looked for or passed over by name, and the same in every form of a board."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.leaderboard.batch.folders import files
from harness.leaderboard.batch.teams import MAX_NAMED, find_submissions
from harness.report.escaping import escaped
from harness.tracks.track import Track
from tests.leaderboard.boards import BoardWriter, names_in_forms

Harness = Callable[..., Result]

IDENTITY = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"
LONGEST = (f"{'x' * 252}.py", f"{'ж' * 126}.py")  # 255 bytes
RUN = (
    *("-best.py", "--help.py", "with space.py", "method (2).py", " leading.py", "two  spaces.py", "a..b.py"),
    *("мой_метод.py", "мой_method.py", "β_vae.py", "方法_v2.py", "メソッド.py", "méthode.py", "שיטה.py", "طريقة.py"),
    *("a|b.py", "a_b_c.py", "a*b*.py", "`a`.py", "[a](b).py", "<b>a.py", "a&amp;b.py", "#a.py", "a;b.py", "$(a).py"),
    *("50%.py", "a?b.py", "~a.py", "'a'.py", '"a".py', "a\\b.py", "=1+1.py", "+1.py", "@a.py", "www.a.b.py", "a,b.py"),
    *("1-3.py", "null.py", "{{ a }}.py", "::error::a.py", *LONGEST),
)
PASSED_OVER = {
    "Method.PY": "its name ends in .PY, not in .py",
    "notes.IPYNB": "its name ends in .IPYNB, not in .ipynb",
    "method.py.txt": "its name does not end in .py or .ipynb",
    "method.txt": "its name does not end",
    "method.py ": "its name does not end",
    "method.pyc": "its name does not end",
    "method.py~": "its name does not end",
    "submission.zip": "its name does not end",
    "submission.tar.gz": "its name does not end",
    "method": "its name does not end",
    "нотатки.txt": "its name does not end",
    "helper.py": "the file defines no function unlearn(",
    "empty.py": "the file defines no function unlearn(",
    "new\nline.py": "its name holds U+000A",
    "escape\x1b[2J.py": "its name holds U+001B",
    "emoji\N{GRINNING FACE}.py": "its name holds U+1F600 GRINNING FACE",
    "over\N{RIGHT-TO-LEFT OVERRIDE}ride.py": "its name holds U+202E",
    "latin\udce9.py": "its name holds U+DCE9",
    "\N{CYRILLIC SMALL LETTER A}bc.py": "its name mixes letters of Cyrillic and Latin",
}
IN_SILENCE = (".hidden.py", "_helper.py", "__init__.py", ".DS_Store", "final.toml", "method.py.log", "README.md")


def write(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    source = {"helper.py": "def augment(images): return images", "empty.py": ""}.get(name, IDENTITY)
    (folder / name).write_text(source)


# ---- what is looked for -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every odd name in it, in a team's folder."""
    folder = tmp_path / "handed-in"
    folder.mkdir()
    for name in (*RUN, *PASSED_OVER, *IN_SILENCE):
        write(folder / "alpha", name)
    return folder


def test_odd_names_are_run_and_what_is_not_looked_for_is_named_with_the_reason(folder: Path) -> None:
    found = find_submissions([folder], source_kb=256)
    assert {each.name for each in found.candidates} == {f"alpha/{name}" for name in RUN}
    for name, reason in PASSED_OVER.items():
        shown = f"alpha/{name}"
        told = [line for line in found.passed_over if line.startswith((f"{shown} is", f"{shown!a} is"))]
        assert len(told) == 1, (name, found.passed_over)
        assert reason in told[0]
    assert len(found.passed_over) == len(PASSED_OVER)
    assert all(line.isprintable() for line in found.passed_over)


def test_folders_and_links_that_are_not_looked_into_are_named(tmp_path: Path) -> None:
    for name in ("alpha", "alpha/deep", "beta"):
        write(tmp_path / name, "a.py")
    (tmp_path / "linked").symlink_to(tmp_path / "alpha")
    (tmp_path / "alpha" / "notes.txt").symlink_to("/dev/null")
    found = find_submissions([tmp_path], source_kb=256)
    assert [each.name for each in found.candidates] == ["alpha/a.py", "beta/a.py"]
    assert found.passed_over == [
        "alpha/deep is passed over: it is a directory: only files count that lie in the folder or in that of a team",
        "alpha/notes.txt is passed over: it is a link to '/dev/null'",
        f"linked is passed over: it is a link to '{tmp_path / 'alpha'}'",
    ]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "alpha", "a.py")
    write(tmp_path / "beta", "a.py")
    listed = Path.iterdir

    def refused(folder: Path) -> object:
        if folder.name == "alpha":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    found = find_submissions([tmp_path], source_kb=256)
    assert [each.name for each in found.candidates] == ["beta/a.py"]
    assert found.passed_over == ["alpha is passed over: the folder cannot be read: Permission denied"]


def test_a_name_that_is_not_looked_for_takes_no_name_from_one_that_is(tmp_path: Path) -> None:
    for team, name in (
        ("ALPHA", "notes.txt"),
        ("alpha", "Method.PY"),
        ("alpha", "method.py"),
        ("alpha", "method.ipynb"),
    ):
        write(tmp_path / team, name)
    names = [file.name for file in files([tmp_path]) if file.problem is None]
    assert names == ["alpha/method.ipynb", "alpha/method.py"]


def test_a_module_and_a_notebook_of_one_stem_are_two_submissions(tmp_path: Path) -> None:
    write(tmp_path, "method.py")
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "source": IDENTITY, "metadata": {}, "outputs": [], "execution_count": None}
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "method.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "look.ipynb").write_text(json.dumps(notebook).replace(IDENTITY, "def look(images): pass"))
    found = find_submissions([tmp_path], source_kb=256)
    assert [(each.name, each.submission.problems) for each in found.candidates] == [
        ("method.ipynb", ()),
        ("method.py", ()),
    ]
    assert len({each.submission.code_hash for each in found.candidates}) == 1
    (told,) = found.passed_over
    assert told.startswith("look.ipynb is passed over: the notebook defines no function unlearn(")


def test_a_thousand_odd_files_are_counted_and_those_of_another_team_are_named(tmp_path: Path) -> None:
    for number in range(1000):
        write(tmp_path / "alpha", f"{number:04d}.png")
    write(tmp_path / "beta", "b.txt")
    told = find_submissions([tmp_path], source_kb=256).passed_over
    assert len(told) == MAX_NAMED + 2
    assert told[MAX_NAMED].startswith("beta/b.txt is passed over")
    assert told[-1] == f"{1000 - MAX_NAMED} more are passed over, of alpha"


def test_a_batch_of_nothing_but_what_is_passed_over_says_so(
    harness: Harness, tmp_path: Path, home: Path, tiny_file: Path
) -> None:
    write(tmp_path / "alpha", "Method.PY")
    write(tmp_path / "alpha", "helper.py")
    result = harness("leaderboard", "run", tmp_path / "alpha", "--track", tiny_file)
    assert result.exit_code == 2
    for text in ("Method.PY is passed over", "helper.py is passed over", "no submission to run"):
        assert text in result.output
    assert not list(home.glob("leaderboards/*/entries/*"))


def test_names_that_a_ci_system_would_take_for_commands_are_told_without_their_sign(
    harness: Harness, tmp_path: Path, tiny_file: Path
) -> None:
    write(tmp_path / "alpha", "##vso[task.complete].txt")
    result = harness("leaderboard", "run", tmp_path / "alpha", "--track", tiny_file)
    assert "# #vso[task.complete].txt is passed over" in result.output
    assert "##" not in result.output


# ---- the same names in every form ---------------------------------------------------------------------------------


def test_odd_names_are_shown_right_in_every_form(
    harness: Harness, home: Path, tiny: Track, tiny_file: Path, tmp_path: Path
) -> None:
    board = BoardWriter(home, tiny)
    names = [*(f"alpha/{name}" for name in RUN), "-best.py", "=1+1.py", "@a.py"]
    for place, name in enumerate(names):
        board.add_synthetic(name, 2 - place / 100, noise=1e-4)
    forms = names_in_forms(harness, tiny_file, tmp_path / "site")
    assert forms["json"][:-2] == names
    names = [escaped(name) for name in names]
    assert forms["markdown"][:-2] == names
    assert forms["html"][:-2] == names
    assert [re.sub("^'(?=[-=+@])", "", name) for name in forms["csv"]][:-2] == names
    assert {name[0] for name in forms["csv"]} & set("=+-@") == set()
    table = re.sub(r"\s+", "", harness("leaderboard", "show", "--track", tiny_file).output)
    assert all(re.sub(r"\s+", "", name[:28]) in table for name in names)


def test_files_of_odd_names_are_run(harness: Harness, tmp_path: Path, home: Path, tiny_file: Path) -> None:
    odd = ("-best.py", "with space.py", "method (2).py", "мой_метод.py", *LONGEST)
    for name in odd:
        write(tmp_path / "alpha", name)
    result = harness("leaderboard", "run", tmp_path / "alpha", "--track", tiny_file, "--runs", 1, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert all(f"{name}: done, 1 runs" in result.output for name in odd)
