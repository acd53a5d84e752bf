"""Locks between processes."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from harness.errors import MachineError
from harness.locks import LockedError, locked


def test_a_lock_is_one_holders_and_its_folder_is_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / ".lock"
    with locked(file), pytest.raises(LockedError), locked(file, waits=False):
        pass
    with locked(file, waits=False):
        pass


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_named(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(MachineError, match=f"{tmp_path} has no locks .*set HARNESS_HOME"), locked(tmp_path / "x"):
        pass


def test_whoever_waits_for_a_lock_is_told_and_has_it_then(tmp_path: Path) -> None:
    held, told = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "x"):
            held.set()
            assert told.wait(60)

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert held.wait(60)
        with locked(tmp_path / "x", on_wait=told.set):
            holder.result(60)
    with locked(tmp_path / "x", on_wait=lambda: pytest.fail("it is free")):
        pass
