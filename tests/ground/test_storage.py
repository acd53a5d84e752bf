"""Files are written whole or not at all, whenever a Ctrl-C comes."""

import os
from pathlib import Path

import pytest

from harness.storage import read_json, write_json


@pytest.mark.parametrize("before", [True, False], ids=["before it has its place", "after"])
def test_an_interrupted_write_leaves_a_whole_file_and_nothing_beside_it(
    before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.json"
    write_json(file, "old")
    replace = os.replace

    def interrupted(source: str, target: Path) -> None:
        if not before:
            replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_json(file, "new")
    assert read_json(file) == ("old" if before else "new")
    assert list(tmp_path.iterdir()) == [file]
