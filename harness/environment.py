"""Where the harness keeps its files, and the versions and the machine that results depend on."""

import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import harness
from harness.processors import described_processors

__all__ = ["environment", "home"]


def home() -> Path:
    """Return the folder that holds tracks, calibrations and results: HARNESS_HOME, or `.harness` here."""
    return Path(os.environ.get("HARNESS_HOME", ".harness")).absolute()


def environment() -> dict[str, str]:
    """Return versions and machine; kept with every run and every score."""
    return dict(_environment())


@cache
def _environment() -> dict[str, str]:
    return {
        "harness": harness.__version__,
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {described_processors()}",
    }
