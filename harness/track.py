"""A prepared track: the folder that everything is run on and scored against.

    FOLDER/track.toml        the declaration
    FOLDER/manifest.json     hashes of all below, versions, when and where it was prepared
    FOLDER/public/           what a submission may see: retain, forget and val set, original models
    FOLDER/private/          the reference: secret, test set, split, records of originals and of retrained models

`data_prep` writes this folder, everybody else reads it. Imports no torch.
"""

import contextlib
import hashlib
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.declaration import Declaration, Positive, Section, parse_declaration
from harness.errors import MachineError, UsageError
from harness.record import Records
from harness.storage import hash_folder, read_arrays, write_json

__all__ = [
    "ORIGINALS",
    "POOLS",
    "Examples",
    "Manifest",
    "Track",
    "export_track",
    "import_track",
    "load_track",
    "siblings",
]

ORIGINALS = "originals"
POOLS = ("scoring", "ceiling")  # of retrained models: one to score against, one to score as if it were a submission


class Manifest(Section):
    """Names of what a prepared folder holds, and how it came about."""

    fingerprint: str  # sha256 of declaration, data and split
    public_hash: str  # sha256 of public/
    reference_hash: str | None  # sha256 of private/ without the secret; None in a public export
    n_classes: Positive
    class_names: list[str] | None = None
    channels: Positive
    retrained: Positive  # models in each of the two pools
    prepared: dict[str, Any]  # versions, device, seconds
    sibling: int = 0  # which of the tracks that its declaration stands for
    family: str | None = None  # sha256 of all that siblings share; None for a track without


@dataclass(frozen=True)
class Examples:
    """One data set of a track."""

    images: np.ndarray  # (n, height, width, channels) uint8
    labels: np.ndarray  # (n,) int64
    subjects: np.ndarray | None = None  # (n,) integers or names: whose image it is, where the data say

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray | slice) -> "Examples":
        """Return some of the examples."""
        return Examples(**{name: array[rows] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, as they are stored."""
        return {name: array for name, array in vars(self).items() if array is not None}


@dataclass(frozen=True)
class Track:
    """A prepared track on disk; arrays are read when they are asked for."""

    folder: Path
    declaration: Declaration
    manifest: Manifest

    @property
    def name(self) -> str:
        """The track's name."""
        return self.declaration.name

    @property
    def public(self) -> Path:
        """The folder a submission may see."""
        return self.folder / "public"

    @property
    def private(self) -> Path:
        """The folder a submission must never see."""
        return self.folder / "private"

    @property
    def secret(self) -> bytes:
        """The key all seeds of runs are derived with."""
        return bytes.fromhex((self.private / "secret").read_text().strip())

    def examples(self, name: str) -> Examples:
        """Return the retain, forget, val or test set."""
        arrays = read_arrays(self.examples_file(name))
        return Examples(arrays["images"], arrays["labels"], arrays.get("subjects"))

    def examples_file(self, name: str) -> Path:
        """Return the file of a data set; the test set is private."""
        return (self.private if name == "test" else self.public) / f"{name}.npz"

    def original(self, index: int) -> dict[str, np.ndarray]:
        """Return the weights of one original model by name."""
        from safetensors.numpy import load_file

        return dict(load_file(self.public / f"original-{index}.safetensors"))

    def originals(self) -> Records:
        """Return the records of the original models."""
        return Records.from_arrays(read_arrays(self.records_file(ORIGINALS)))

    def retrained(self, pool: str) -> Records:
        """Return the records of one of the two POOLS of retrained models."""
        return Records.from_arrays(read_arrays(self.records_file(pool)))

    def records_file(self, kind: str) -> Path:
        """Return the file of records of the ORIGINALS or of one of the POOLS."""
        return self.private / (f"{kind}.npz" if kind == ORIGINALS else f"retrained-{kind}.npz")


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


def load_track(folder: Path) -> Track:
    """Return a prepared track after checking its hashes. Raises MachineError if a file is missing or damaged."""
    remedy = f"remove {folder}, or prepare it anew: harness prepare {folder.name} --force"
    try:
        declaration = parse_declaration((folder / "track.toml").read_text(encoding="utf-8"))
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
        if not 0 <= manifest.sibling < len(declaration.siblings):
            raise ValueError(f"sibling {manifest.sibling} is none of its declaration's")
        track = Track(folder, declaration.siblings[manifest.sibling], manifest)
        intact = hash_folder(track.public) == manifest.public_hash
        if manifest.reference_hash is not None:
            intact = intact and reference_hash(track.private) == manifest.reference_hash and bool(track.secret)
    except (OSError, ValueError) as error:
        raise MachineError(f"the track {folder.name} is damaged ({error}); {remedy}") from None
    if not intact:
        raise MachineError(f"the track {folder.name} is damaged (its files do not match their hashes); {remedy}")
    return track


def siblings(track: Track) -> list[Track]:
    """Return the other intact tracks in the folder of a track or a draft that share its data and originals."""
    family_name, found = track.manifest.family, []
    if family_name is None:
        return []
    for file in sorted(track.folder.parent.glob("[!.]*/manifest.json")):
        if family_name in file.read_text(encoding="utf-8", errors="replace"):
            with contextlib.suppress(MachineError):
                found.append(load_track(file.parent))
    return [other for other in found if other.name != track.name]


def export_track(track: Track, file: Path, *, private: bool) -> None:
    """Write a track as one file: its public part, or with `private` all of it, the reference and the secret too."""
    partial = file.with_name(f".{file.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in track.folder.rglob("*") if path.is_file()):
            name = path.relative_to(track.folder)
            if name.parts[0] == "private" and not private:
                continue
            content = path.read_bytes()
            if name.name == "manifest.json" and not private:
                content = track.manifest.model_copy(update={"reference_hash": None}).model_dump_json(indent=2).encode()
            archive.writestr(zipfile.ZipInfo(name.as_posix()), content, zipfile.ZIP_DEFLATED)
    os.replace(partial, file)


def import_track(file: Path, tracks: Path) -> Track:
    """Unpack an exported track below the folder `tracks` under its own name, replacing one of that name.

    Raises UsageError if the file is no track, MachineError if it is damaged.
    """
    tracks.mkdir(parents=True, exist_ok=True)
    unpacked = tracks / f".import-{os.getpid()}"
    try:
        with zipfile.ZipFile(file) as archive:
            _check_names(archive)
            archive.extractall(unpacked)
        parse_declaration((unpacked / "track.toml").read_text(encoding="utf-8"))
        name = load_track(unpacked).name
        replace_folder(unpacked, tracks / name)
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        hint = "make one with harness prepare TRACK --export FILE"
        raise UsageError(f"{file} is no exported track ({error}); {hint}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return load_track(tracks / name)


def _check_names(archive: zipfile.ZipFile) -> None:
    expected = {"track.toml", "manifest.json", "public", "private"}
    for name in archive.namelist():
        parts = Path(name).parts
        if ".." in parts or not expected.intersection(parts[:1]):
            raise ValueError(f"it holds an unexpected file {name!r}")


def replace_folder(new: Path, folder: Path) -> None:
    """Put the folder `new` in the place of `folder`, which is kept aside until the new one is there."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes a prepared folder complete."""
    write_json(folder / "manifest.json", manifest.model_dump())
