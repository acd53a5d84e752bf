"""What names a track: the sha256 of all that it is, of what its siblings share, of its reference, of its secret."""

import hashlib
from pathlib import Path

import numpy as np

from harness.storage import hash_arrays
from harness.tracks.declaration import Declaration

__all__ = ["family", "fingerprint", "reference_hash", "secret_commitment"]

COMMITMENT = b"unlearning-harness/secret-commitment/1\0"  # a hash for this purpose is of no use for another


def fingerprint(declaration: Declaration, data: dict[str, np.ndarray]) -> str:
    """Return the sha256 of a declaration and of arrays by name (data, own architecture and split).

    The secret does not count, nor does what changes nothing that is prepared: what runs may use besides time, and where
    a pack can be had.
    """
    used = {"memory_mb", "processes", "scratch_mb"}
    uncounted: dict[str, bool | set[str]] = {"reference": {"published_secret"}, "limits": used, "pack": True}
    declared = declaration.model_dump_json(exclude=uncounted)
    return hash_arrays(data, after=declared.encode())


def family(declaration: Declaration, data: dict[str, np.ndarray]) -> str:
    """Return the sha256 of what tracks share that differ in what is forgotten: all that their originals depend on.

    data: arrays by name, of data, own architecture and split, in which retain and forget set are one training set.
    """
    whole, number = {"data", "model", "training", "pruning"}, {"reference": {"originals"}}
    shared = [declaration.model_dump_json(include=whole), declaration.model_dump_json(include=number)]
    return hash_arrays(data, after="".join(shared).encode())


def reference_hash(private: Path) -> str:
    """Return the sha256 of the private part without its secret."""
    digest = hashlib.sha256()
    for path in sorted(private.glob("*.npz")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def secret_commitment(secret: bytes) -> str:
    """Return the sha256 of a secret, which cannot be told from it if it is at least 32 random bytes."""
    return hashlib.sha256(COMMITMENT + secret).hexdigest()
