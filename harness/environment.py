"""Where the harness keeps its files, and the versions and the machine that results depend on."""

import hashlib
import os
import platform
import site
from functools import cache
from importlib.metadata import version
from pathlib import Path

import harness
from harness.processors import described_processors

__all__ = ["environment", "home", "packages_hash"]


def home() -> Path:
    """Return the folder that holds tracks, calibrations and results: HARNESS_HOME, or `.harness` here."""
    return Path(os.environ.get("HARNESS_HOME", ".harness")).absolute()


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
