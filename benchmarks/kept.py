"""Where a study keeps what it has finished, so that the same command goes on where it was."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.pages import ROOT
from harness.environment import environment, home
from harness.storage import json_bytes

__all__ = ["kept_in"]


def kept_in(study: str, *settings: Any, files: Iterable[str] = ()) -> Path:
    """Return the folder of what a study has finished with these settings and files, under these versions, here.

    settings: all that its measurements depend on, as plain values. files: the baselines that it calls, by their names
    below baselines/.
    """
    code = [hashlib.sha256((ROOT / "baselines" / f"{name}.py").read_bytes()).hexdigest() for name in sorted(files)]
    key = hashlib.sha256(json_bytes([*settings, code, environment()])).hexdigest()
    return home() / "study" / f"{study}-{key[:8]}"
