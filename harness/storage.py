"""Files that are either whole or not there: everything is written under another name and then renamed."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

__all__ = [
    "files_in",
    "hash_arrays",
    "hash_folder",
    "is_aside",
    "json_bytes",
    "read_arrays",
    "read_json",
    "replace_folder",
    "replacing",
    "restore_folder",
    "write_arrays",
    "write_bytes",
    "write_json",
]

SHOWN = 40  # letters of a file's name in that of the file beside it, which has to be short enough too


def write_bytes(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file atomically, making its folder; a link that lies there is replaced, not followed."""
    with replacing(path, mode) as file:
        file.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented; NaN and infinity are refused."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """Return content as JSON, indented; NaN and infinity are refused."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Return what a JSON file holds. Raises OSError if there is no such file, ValueError if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply to be read") from None


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz atomically; equal arrays give equal bytes."""
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz, or those of some names alone: then nothing else in it is read.

    Raises OSError if there is no such file, ValueError if it is damaged or none, KeyError if one is not in it.
    """
    with path.open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise ValueError(f"{path} holds one array without a name; write an .npz with np.savez")
            with loaded as arrays:
                return {name: _array(arrays, name) for name in names or arrays.files}
        except (zipfile.BadZipFile, zlib.error, EOFError, TypeError, RuntimeError, MemoryError) as error:
            raise ValueError(f"{path} is no .npz, or a damaged one ({error})") from None  # RuntimeError: "encrypted"


def _array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return one array of an .npz. Raises ValueError that names it if it is not of plain values."""
    try:
        return arrays[name]
    except ValueError as error:
        raise ValueError(f"the array {name!r} cannot be read: {error}") from None


def hash_arrays(arrays: dict[str, np.ndarray], *, after: bytes = b"") -> str:
    """Return the sha256 of arrays by name, in the order of the names, and of bytes that come before them."""
    digest = hashlib.sha256(after)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\0".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def hash_folder(folder: Path) -> str:
    """Return the sha256 of a folder's files: of their relative names and contents, in the order of the names.

    What programs leave behind does not count: hidden files, such as those of a file manager, and Python's byte code.
    """
    digest = hashlib.sha256()
    for path in files_in(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def files_in(folder: Path) -> list[Path]:
    """Return the files below a folder in the order of their names, without hidden ones and byte code."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not _is_left_behind(path, folder))


def _is_left_behind(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)


def replace_folder(new: Path, folder: Path) -> None:
    """Put the folder `new` in the place of `folder`, which is kept aside until the new one is there.

    A link that lies there is replaced, not followed. If that fails, `folder` is back and `new` where it was.
    """
    restore_folder(folder)
    old = _aside(folder)
    _remove(old)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, old)
    try:
        os.rename(new, folder)
    finally:
        restore_folder(folder)
    _remove(old)


def restore_folder(folder: Path) -> None:
    """Put back a folder that was kept aside if nothing is in its place: its replacement was interrupted."""
    if is_aside(folder):
        os.rename(_aside(folder), folder)


def is_aside(folder: Path) -> bool:
    """Whether a folder is missing and kept aside."""
    return os.path.lexists(_aside(folder)) and not os.path.lexists(folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _remove(path: Path) -> None:
    """Remove a folder, or a link to one."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Open a file beside `path` that takes its place once it is complete and on disk; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:SHOWN]}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode != 0o600:  # on the open file: its folder may be a stranger's
                os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)  # a Ctrl-C may come once it has its place
        raise
