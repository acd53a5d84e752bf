"""Files that a user names for what a command finds: looked at before the work, written after it."""

import tempfile
from pathlib import Path
from typing import Any

from harness.errors import MachineError, UsageError

__all__ = ["require_folder", "require_place", "write_result", "write_result_json"]

DEVICES = Path("/dev")


def require_place(path: Path | None, *, is_file: bool = False) -> None:
    """Raise UsageError unless a file can be written there, if one is asked for at all.

    is_file: whether it has to be one, where a pipe or a device does not do.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"no folder {folder} to write {path.name} to")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file in it")
    if is_file and _is_stream(path):
        raise UsageError(f"{path} is a pipe or a device, whose place the file would take; name another place")
    if not _is_stream(path):
        _require_writable(path, folder)


def require_folder(path: Path) -> None:
    """Raise UsageError unless files can be written to a folder, or to where it would be made."""
    _require_writable(path, next(each for each in (path.absolute(), *path.absolute().parents) if each.exists()))


def _require_writable(path: Path, folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another place") from None


def write_result(path: Path, content: bytes) -> None:
    """Write a file atomically, or to a pipe or a device, which stays what it is. Raises MachineError."""
    from harness.storage import write_bytes

    try:
        if _is_stream(path):
            path.write_bytes(content)
        else:
            write_bytes(path, content)
    except BrokenPipeError:
        pass  # whoever reads has seen enough
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}; what was made is stored") from None


def write_result_json(path: Path, content: Any) -> None:
    """Write JSON as `write_result` does; NaN and infinity are refused."""
    from harness.storage import json_bytes

    write_result(path, json_bytes(content))


def _is_stream(path: Path) -> bool:
    """Whether a path is no file that could be replaced, such as /dev/null, /dev/stdout or a named pipe."""
    is_device = path.absolute().is_relative_to(DEVICES) and not path.absolute().is_relative_to(DEVICES / "shm")
    return is_device or (path.exists() and not path.is_file())
