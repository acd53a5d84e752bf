"""Files that are believed only if they are whole: each carries its seal, a sha256 of all else that it holds.

A seal finds a lost bit and a digit changed by hand. It has no key, so whoever changes a file on purpose can seal it
again: that shows only when scores are computed again from their runs (`harness leaderboard verify`), and of runs when
they are made again.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.environment import ELSEWHERE
from harness.errors import MachineError
from harness.storage import hash_arrays, read_arrays, read_json, write_arrays, write_json

__all__ = [
    "read_sealed",
    "read_sealed_arrays",
    "read_stated",
    "sealed",
    "unsealed",
    "whole",
    "write_sealed",
    "write_sealed_arrays",
]

Found = TypeVar("Found")
SEAL = "seal"
log = logging.getLogger(__name__)  # damage is found deep inside and in workers' processes: no caller hands in who hears


def whole(path: Path, read: Callable[[Path], Found]) -> Found | None:
    """Return what `read` makes of a file; None if there is none, and if it is damaged, which is said in a line.

    Raises MachineError if it may not be read.
    """
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except PermissionError as error:  # it may well be whole: nothing takes its place
        raise MachineError(f"cannot read {path}: {error.strerror}. {ELSEWHERE}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = next(iter(str(error).removeprefix(f"{path} ").splitlines()), type(error).__name__)
        log.warning("%s is damaged, or of an earlier version (%s): it does not count", path, reason)
        return None


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with their seal, which takes the place of one that is there."""
    own = {name: value for name, value in values.items() if name != SEAL}
    text = json.dumps(own, sort_keys=True, allow_nan=False)
    return {**own, SEAL: hashlib.sha256(text.encode()).hexdigest()}


def unsealed(stored: Any) -> dict[str, Any]:
    """Return what `sealed` was given. Raises ValueError if it is something else."""
    if not isinstance(stored, dict) or SEAL not in stored:
        raise ValueError("it has no hash of its content")
    if sealed(stored)[SEAL] != stored[SEAL]:
        raise ValueError("its content does not match its hash")
    return {name: value for name, value in stored.items() if name != SEAL}


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values and their seal as JSON."""
    write_json(path, sealed(values))


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what `write_sealed` wrote. Raises OSError if there is no such file, ValueError if it is damaged."""
    return unsealed(read_json(path))


def write_sealed_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays and their seal as .npz, and return the seal."""
    own = {name: array for name, array in arrays.items() if name != SEAL}
    seal = hash_arrays(own)
    write_arrays(path, {**own, SEAL: np.array(seal)})
    return seal


def read_sealed_arrays(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Return what `write_sealed_arrays` wrote, and its seal. Raises as `read_sealed` does."""
    arrays = read_arrays(path)
    seal = str(arrays.pop(SEAL, ""))
    if seal != hash_arrays(arrays):
        raise ValueError("its content does not match its hash" if seal else "it has no hash of its content")
    return arrays, seal


def read_stated(path: Path, name: str) -> tuple[np.ndarray, str]:
    """Return one array of what `write_sealed_arrays` wrote, and the seal stated there; all else is not looked at.

    Raises as `read_arrays` does.
    """
    arrays = read_arrays(path, name, SEAL)
    return arrays[name], str(arrays[SEAL])
