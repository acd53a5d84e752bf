"""What names a track: the sha256 of all that it is, of what its siblings share, of its reference."""

import hashlib
from pathlib import Path

import numpy as np

from harness.tracks.declaration import Declaration

__all__ = ["family", "fingerprint", "reference_hash"]


def fingerprint(declaration: Declaration, data: dict[str, np.ndarray]) -> str:
    """Return the sha256 of a declaration and of arrays by name (data, own architecture and split).

    The secret does not count, nor does what runs may use besides time: it changes nothing that is prepared.
    """
    used = {"memory_mb", "processes", "scratch_mb"}
    return _hash_of(
        declaration.model_dump_json(exclude={"reference": {"published_secret"}, "limits": used}),
        data,
    )


def family(declaration: Declaration, data: dict[str, np.ndarray]) -> str:
    """Return the sha256 of what tracks share that differ in what is forgotten: all that their originals depend on.

    data: arrays by name, of data, own architecture and split, in which retain and forget set are one training set.
    """
    whole, number = {"data", "model", "training", "pruning"}, {"reference": {"originals"}}
    shared = [declaration.model_dump_json(include=whole), declaration.model_dump_json(include=number)]
    return _hash_of("".join(shared), data)


def _hash_of(declared: str, data: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(declared.encode())
    for name, array in sorted(data.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\0".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def reference_hash(private: Path) -> str:
    """Return the sha256 of the private part without its secret."""
    digest = hashlib.sha256()
    for path in sorted(private.glob("*.npz")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
