"""Where the harness keeps its files, and the versions and the machine that results depend on."""

import errno
import hashlib
import os
import platform
import site
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import harness
from harness.errors import MachineError
from harness.processors import described_processors
from harness.quoting import readable

__all__ = ["ELSEWHERE", "environment", "home", "packages_hash", "require_writable"]

ELSEWHERE = "Set HARNESS_HOME to a folder of your own"


def home() -> Path:
    """Return the folder that holds tracks, calibrations and results: HARNESS_HOME, or `.harness` here.

    Raises MachineError if it can be none, and if there is no current folder, without which torch does not start either.
    """
    try:
        folder = Path.cwd() / (os.environ.get("HARNESS_HOME") or ".harness")
    except FileNotFoundError:
        raise MachineError("the current folder is gone: go to another one") from None
    try:
        os.fsencode(folder).decode("utf-8")  # what reads weights takes no others
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except UnicodeDecodeError:
        raise MachineError(f"cannot use {readable(str(folder))}: its name is not UTF-8. {ELSEWHERE}") from None
    except OSError as error:
        raise MachineError(f"cannot use {folder}: {error.strerror}. {ELSEWHERE}") from None
    return folder


def require_writable(*folders: Path) -> None:
    """Raise MachineError unless files can be written to folders, or to where those that are not there would be made.

    Nothing is left behind. To be called before anything that takes a while.
    """
    try:
        tempfile.gettempdir()
    except OSError:
        raise MachineError("no folder takes temporary files: set TMPDIR to one that can be written") from None
    for folder in folders:
        place = folder
        try:
            place = next(each for each in (folder, *folder.parents) if each.exists())
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise MachineError(f"cannot use {place}: {error.strerror}. {ELSEWHERE}") from None


def environment() -> dict[str, str]:
    """Return versions and machine; kept with every run and every score."""
    return dict(_environment())


def packages_hash() -> str:
    """Return a hash of the names of all that is installed for runs to import, versions included.

    Folders are listed and nothing in them is read, so that it takes less than a millisecond.
    """
    folders = [folder for folder in site.getsitepackages() if os.path.isdir(folder)]
    names = sorted({name for folder in folders for name in os.listdir(folder)} - {"__pycache__"})
    return hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()


@cache
def _environment() -> dict[str, str]:
    return {
        "harness": harness.__version__,
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {described_processors()}",
    }
