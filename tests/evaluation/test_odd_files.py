"""Stored files that hold something else, and a home that cannot be used: one line that names it, or made anew."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from harness.storage import read_arrays, write_arrays
from harness.tracks.track import Track
from tests.leaderboard.boards import BoardWriter

Harness = Callable[..., Result]

DAMAGES = ("[1, 2]", "[" * 100_000)


@pytest.fixture
def used_home(home: Path, evaluated_home: Path, tiny: Track) -> Path:
    """A home with evaluated submissions, and a leaderboard of them."""
    shutil.copytree(evaluated_home / "submissions", home / "submissions")
    BoardWriter.of_evaluated(home, tiny, evaluated_home, ["ada/finetune.py", "bob/noise.py", "cy/broken.py"])
    return home


READERS = {  # which commands read a kind of file
    "results/*/reference-*.json": ("evaluate", "show"),
    "results/*/files/*.json": ("evaluate",),
    "results/*/*/score-*.json": ("evaluate", "report", "show"),
    "calibration/*.json": ("evaluate",),
    "leaderboards/*/board.json": ("show", "run"),
    "leaderboards/*/entries/*.json": ("show", "run"),
    "leaderboards/*/reviews/*.toml": ("show", "html"),
    "leaderboards/*/pages/*.json": ("html",),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=["list", "nested"])
def test_no_stored_file_that_holds_something_else_gives_a_traceback(
    damage: str, used_home: Path, harness: Harness, tiny_file: Path, tmp_path: Path
) -> None:
    file, on = used_home / "submissions" / "bob" / "noise.py", ("--track", tiny_file)
    commands: dict[str, tuple[object, ...]] = {
        "evaluate": ("evaluate", file, *on, "--runs", 16, "--jobs", 1),
        "report": ("report", file, *on, "--runs", 16, "--out", tmp_path / "page.html"),
        "show": ("leaderboard", "show", *on),
        "html": ("leaderboard", "html", *on, "--output", tmp_path / "site"),
        "run": ("leaderboard", "run", file, *on, "--runs", 16, "--jobs", 1),
    }
    for name in ("evaluate", "html"):  # keep what these two keep
        assert harness(*commands[name]).exit_code == 0
    n_checked = 0
    for path, names in ((path, names) for glob, names in READERS.items() for path in [*used_home.glob(glob)][:1]):
        sound = path.read_bytes()
        for name in names:
            path.write_text(damage)
            result = harness(*commands[name])
            assert result.exception is None or isinstance(result.exception, SystemExit), (path, name, result)
            assert result.exit_code == 0 or path.name in result.output.replace("\n", ""), (path, name, result.output)
        path.write_bytes(sound)
        n_checked += 1
    assert n_checked >= len(READERS) - 1  # a track with a limit of its own has no calibration


@pytest.mark.parametrize("info", ["{}", "[1, 2]", "null", '{"outcome": "SPLENDID", "seconds": 1}', "{"])
def test_a_run_that_says_something_else_is_made_again(
    info: str, used_home: Path, harness: Harness, tiny_file: Path
) -> None:
    file = used_home / "submissions" / "cy" / "broken.py"
    for path in used_home.glob("results/*/*/run-0000.npz"):
        write_arrays(path, {**read_arrays(path), "info": np.array(info)})
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 16, "--jobs", 1)
    assert result.exit_code == 3, result
    assert "EXCEPTION in run 0 of 16" in result.output


@pytest.mark.parametrize("command", ["evaluate", "check", "leaderboard run"])
def test_a_home_that_is_read_only_is_named(
    command: str, submission: Callable[[str], Path], tiny_file: Path, home: Path
) -> None:
    file = submission("def unlearn(net, retain_loader, forget_loader, val_loader): pass")
    call = f"{sys.executable} -m harness {command} {file} --track {tiny_file} --jobs 1"
    call = call.replace("--jobs 1", "") if command == "check" else call
    script = f"mount --bind {home} {home} && mount -o remount,ro,bind {home} && exec env HARNESS_HOME={home} {call}"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done
    assert "Traceback" not in done.stderr
    assert f"cannot use {home}" in done.stderr.replace("\n", "")
    assert "Read-only file system" in done.stderr


def test_a_home_that_is_a_file_is_named(
    submission: Callable[[str], Path], harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "file"))
    result = harness("evaluate", submission("x = 1"))
    assert isinstance(result.exception, SystemExit), result
    assert result.exit_code == 4
    assert str(tmp_path / "file") in result.output.replace("\n", "")
