"""Files that a user names for what a command finds."""

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
