"""Files that a user names for what a command finds."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.cli import results
from harness.cli.results import require_place, write_result
from harness.errors import MachineError, UsageError


def test_a_device_and_a_pipe_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "DEVICES", tmp_path / "dev")  # our own: root could replace /dev/null itself
    (tmp_path / "dev").mkdir()
    (tmp_path / "file").write_text("before")
    (tmp_path / "dev" / "stdout").symlink_to(tmp_path / "file")
    write_result(tmp_path / "dev" / "stdout", b"written")
    assert (tmp_path / "dev" / "stdout").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"written"
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_result(tmp_path / "pipe", b"through")
    reader.join(10)
    assert (read, (tmp_path / "pipe").is_fifo()) == ([b"through"], True)


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    harness: Callable[..., Result], submission: Callable[[str], Path], tiny_file: Path, tmp_path: Path
) -> None:
    require_place(None)
    require_place(tmp_path / "out.json")
    require_place(Path("/dev/null"))
    for place, message in ((tmp_path / "nowhere" / "x", "no folder"), (Path("/proc/x.json"), "cannot be written")):
        with pytest.raises(UsageError, match=message):
            require_place(place)
    with pytest.raises(MachineError, match="cannot write /dev/full: No space left on device; what was made is stored"):
        write_result(Path("/dev/full"), b"x")
    out = ("--json", "/proc/out.json")
    for command in (["evaluate", submission("x = 1")], ["compare", "retrained", "retrained"]):
        assert harness(*command, "--track", tiny_file, *out).exit_code == 2


def test_a_track_is_exported_to_a_file_alone_as_is_said_before_the_work(
    harness: Callable[..., Result], tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.tracks.catalogue.find_tracks", lambda *_: pytest.fail("the work is begun"))
    os.mkfifo(tmp_path / "pipe")
    for option in ("--export", "--export-private"):
        for place, message in (
            (tmp_path, "is a folder; give a file in it"),
            (tmp_path / "pipe", "is a pipe or a device"),
        ):
            result = harness("prepare", tiny_file, option, place)
            assert (result.exit_code, message in result.output.replace("\n", " ")) == (2, True), result.output
    assert [path.name for path in tmp_path.glob(".*")] == []
    with pytest.raises(UsageError, match="/dev/null is a pipe or a device"):
        require_place(Path("/dev/null"), is_file=True)
    monkeypatch.setattr(results, "DEVICES", tmp_path / "dev")
    (tmp_path / "dev" / "shm").mkdir(parents=True)
    require_place(tmp_path / "dev" / "shm" / "mine.track", is_file=True)  # memory that takes files


def test_a_page_and_a_score_are_not_made_for_a_place_that_takes_none(
    harness: Callable[..., Result], submission: Callable[[str], Path], tiny_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "here" / "report-foo.html").mkdir(parents=True)
    (tmp_path / "nothing.npz").write_text("")
    arrays = ("--unlearned", tmp_path / "nothing.npz", "--retrained", tmp_path / "nothing.npz")
    with contextlib.chdir(tmp_path / "here"):
        found = [
            harness("report", submission("x = 1"), "--track", tiny_file),
            harness("score", *arrays, "--json", "no/out.json"),
        ]
    assert [result.exit_code for result in found] == [2, 2]
    assert "report-foo.html is a folder" in found[0].output
    assert "no folder" in found[1].output
