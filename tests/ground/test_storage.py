"""Files and folders are written whole or not at all, whenever a Ctrl-C or a failure comes."""

import errno
import os
from pathlib import Path

import pytest

from harness.storage import read_json, replace_folder, restore_folder, write_json


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


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A new folder, the one whose place it is to take, and where that one is kept meanwhile."""
    new, folder, aside = (tmp_path / name for name in ("new", "folder", ".folder.old"))
    for path in (new, folder):
        path.mkdir()
        (path / "file").write_text(path.name)
    return new, folder, aside


@pytest.mark.parametrize("failing", [0, 1], ids=["taken away", "put there"])
def test_a_folder_that_cannot_be_replaced_is_where_it_was_and_so_is_the_new_one(
    failing: int, places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, folder, aside = places
    rename, calls = os.rename, list[Path]()

    def failed(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == failing + 1:
            raise OSError(errno.EBUSY, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failed)
    with pytest.raises(OSError, match="busy"):
        replace_folder(new, folder)
    monkeypatch.undo()
    assert [(path / "file").read_text() for path in (new, folder)] == ["new", "folder"]
    assert not aside.exists()
    replace_folder(new, folder)
    assert ((folder / "file").read_text(), new.exists(), aside.exists()) == ("new", False, False)


def test_a_folder_whose_replacement_was_killed_half_way_is_put_back(places: tuple[Path, Path, Path]) -> None:
    _, folder, aside = places
    for _ in range(2):  # the second time there is nothing to do
        restore_folder(folder)
        assert (folder / "file").read_text() == "folder"
    folder.rename(aside)
    restore_folder(folder)
    assert ((folder / "file").read_text(), aside.exists()) == ("folder", False)


def test_a_link_to_a_folder_is_replaced_and_the_next_replacement_works_too(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("elsewhere")
    folder.symlink_to(elsewhere)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        replace_folder(tmp_path / name, folder)
        assert ((folder / "file").read_text(), folder.is_symlink()) == (name, False)
    assert (elsewhere / "file").read_text() == "elsewhere"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "folder"]
