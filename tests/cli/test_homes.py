"""Folders that cannot be used: each is named in one sentence, with the way out, before anything is measured or run."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.environment import require_writable
from harness.errors import MachineError
from harness.runs import conditions
from harness.seal import whole

Harness = Callable[..., Result]
Write = Callable[[str], Path]

NOTHING = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"


def said(result: Result, exit_code: int) -> str:
    assert isinstance(result.exception, SystemExit), result
    assert result.exit_code == exit_code, result.output
    return result.output.replace("\n", "")


@pytest.mark.parametrize("folder", ["calibration", "results", "leaderboards"])
def test_a_folder_that_cannot_be_used_is_named_before_anything_is_measured(
    folder: str, harness: Harness, home: Path, submission: Write, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "_limit", lambda *_: pytest.fail("the time limit is measured"))
    (home / folder).write_text("a file")
    commands = (
        [["leaderboard", "run"]] if folder == "leaderboards" else [["evaluate"], ["check"], ["leaderboard", "run"]]
    )
    for command in commands:
        message = said(harness(*command, submission(NOTHING), "--track", tiny_file), 4)
        assert (
            message == f"Error: cannot use {home / folder}: Not a directory. Set HARNESS_HOME to a folder of your own"
        )


@pytest.mark.parametrize("name", ["file", "l" * 300])
def test_a_home_that_is_none_is_named_by_every_command(
    name: str, harness: Harness, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("HARNESS_HOME", str(home / name))
    for command in (["check", home / "file"], ["prepare", "digits"], ["leaderboard", "show"]):
        message = said(harness(*command), 4)
        assert f"cannot use {home / name}: " in message
        assert "Set HARNESS_HOME" in message


def test_a_home_whose_name_is_no_text_is_told(
    harness: Harness, home: Path, submission: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", f"{home}/h\udcff")
    message = said(harness("check", submission(NOTHING)), 4)
    assert f"cannot use {home}/h\N{REPLACEMENT CHARACTER}: its name is not UTF-8. Set HARNESS_HOME" in message


@pytest.mark.parametrize("name", ["a\udcff.py", "мой метод.py", "new\nline.py", "esc\x1b[31m.py"])
def test_a_submission_of_any_name_is_evaluated(
    name: str, harness: Harness, home: Path, submission: Write, tiny_file: Path
) -> None:
    file = submission(NOTHING).rename(home / name)
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 2, "--json", home / "out.json")
    assert result.exit_code == 0, result
    assert json.loads((home / "out.json").read_text())["submission"] == name.replace(
        "\udcff", "\N{REPLACEMENT CHARACTER}"
    )


def test_an_empty_home_is_none_and_the_current_folder_stays_clean(
    harness: Harness, tmp_path: Path, submission: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", "")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    harness("check", submission("x = 1"))
    assert [path.name for path in Path().iterdir()] == [".harness"]


def test_a_current_folder_that_is_gone_is_told(
    harness: Harness, tmp_path: Path, submission: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "the current folder is gone" in said(harness("check", submission(NOTHING)), 4)


def test_no_place_for_temporary_files_is_told(
    harness: Harness, submission: Write, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_place() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']")

    monkeypatch.setattr(tempfile, "gettempdir", no_place)
    assert "set TMPDIR to one that can be written" in said(
        harness("check", submission(NOTHING), "--track", tiny_file), 4
    )


def test_looking_whether_a_folder_can_be_written_makes_none(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["/proc/self/mem", "l" * 300, "no\nfile.py"])
def test_a_submission_that_cannot_be_read_is_a_usage_error(file: str, harness: Harness, tiny_file: Path) -> None:
    for command in ("check", "evaluate"):
        said(harness(command, file, "--track", tiny_file), 2)


def test_what_another_user_keeps_to_himself_is_not_called_damaged(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(MachineError, match=r"cannot read .*run-0000\.npz: Permission denied\. Set HARNESS_HOME"):
        whole(tmp_path / "run-0000.npz", read)


@pytest.mark.parametrize("name", ["sp ace", "дом", "100%s", "[red]x", f"{'l' * 200}/{'m' * 200}"])
def test_a_home_of_any_name_works(
    name: str, harness: Harness, home: Path, prepared_tracks: Path, submission: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = home / name
    place.mkdir(parents=True)
    (place / "tracks").symlink_to(prepared_tracks)
    monkeypatch.setenv("HARNESS_HOME", str(place))
    result = harness("check", submission(NOTHING), "--track", "tiny")
    assert result.exit_code == 0, result.output
    assert len(list(place.glob("results/*/*/run-0000.npz"))) == 1
