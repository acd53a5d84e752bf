"""A prepared track: the folder that everything is run on and scored against.

    FOLDER/track.toml        the declaration
    FOLDER/manifest.json     hashes of all below, versions, when and where it was prepared
    FOLDER/public/           what a submission may see: retain, forget and val set, original models
    FOLDER/private/          the reference: secret, test set, split, records of originals and of retrained models

`data_prep` writes this folder, everybody else reads it. Imports no torch.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from harness.environment import ELSEWHERE
from harness.errors import MachineError, UsageError
from harness.record import SETS, TRIGGERED, Records, record_bytes
from harness.storage import hash_arrays, hash_folder, read_arrays, write_json
from harness.tracks.declaration import Declaration, Positive, TomlSection, parse_declaration, problems
from harness.tracks.hashes import reference_hash, secret_commitment
from harness.tracks.trojan import with_trigger

__all__ = [
    "ORIGINALS",
    "POOLS",
    "REQUESTS",
    "Examples",
    "Manifest",
    "Track",
    "class_name",
    "damage",
    "load_track",
    "read_track",
    "siblings",
    "write_manifest",
]

ORIGINALS = "originals"
REQUESTS = "requests"  # the name, in the split, of the deletion request that each forget example is of
POOLS = ("scoring", "ceiling")  # of retrained models: one to score against, one to score as if it were a submission


def class_name(label: int, names: Sequence[str] | None) -> str:
    """Return how a class is shown: its number, and its name if the data have names."""
    return str(label) if names is None else f"{label}, {names[label]!r}"


class Manifest(TomlSection):
    """Names of what a prepared folder holds, and how it came about."""

    fingerprint: str  # sha256 of declaration, data and split
    public_hash: str  # sha256 of public/
    reference_hash: str | None  # sha256 of private/ without the secret; None in a public export
    n_classes: Positive
    class_names: list[str] | None = None
    channels: Positive
    retrained: Positive  # models in each of the two pools
    prepared: dict[str, Any]  # versions, device, seconds, the way in which models were trained
    secret_commitment: str | None = None  # None in a public export, and in tracks of earlier versions
    sibling: int = 0  # which of the tracks that its declaration stands for
    family: str | None = None  # sha256 of all that siblings share; None for a track without
    # values of an example, where nets are made for so many; left out where they take images of any size
    inputs: Positive | None = Field(default=None, exclude_if=lambda value: value is None)


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
    def model_options(self) -> dict[str, Any]:
        """What `harness.models.build` is told of a model for vectors; nothing for others."""
        return self.declaration.model.options | ({"inputs": self.manifest.inputs} if self.manifest.inputs else {})

    @property
    def usual_runs(self) -> int:
        """How many runs an evaluation has by default: as many as declared, if there are models for so many."""
        return min(self.declaration.evaluation.runs, self.manifest.retrained)

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
        self.require_private()
        return bytes.fromhex((self.private / "secret").read_text().strip())

    @cached_property
    def runs_hash(self) -> str:
        """What names all that runs are made from: the hash of public/, wherever that leaves nothing open.

        Deletion requests lie in private/ alone, and a sibling that has the originals of another draws a secret of its
        own.
        """
        if self.manifest.family is None and self.declaration.forget.requests == 1:
            return self.manifest.public_hash
        named = self.manifest.public_hash + secret_commitment(self.secret)
        return hash_arrays(self._split(), after=named.encode())

    def examples(self, name: str) -> Examples:
        """Return the retain, forget, val or test set."""
        if name == "test":
            self.require_private()
        arrays = read_arrays(self.examples_file(name))
        return Examples(arrays["images"], arrays["labels"], arrays.get("subjects"))

    def training_ids(self) -> dict[str, np.ndarray]:
        """Return the positions of the retain and forget set's examples in the training set, which has the data's order.

        They are the same for all tracks that train on the same examples, whatever is to be forgotten.
        """
        split = self._split()
        training = np.sort(np.concatenate([split["retain"], split["forget"]]))
        return {name: np.searchsorted(training, split[name]) for name in ("retain", "forget")}

    def requests(self) -> np.ndarray:
        """Return which deletion request each forget example is of, (n_forget,), numbered from 0."""
        split = self._split()
        return split[REQUESTS] if REQUESTS in split else np.zeros_like(split["forget"])

    def recorded(self) -> dict[str, Examples]:
        """Return what every model is measured on, by name: the four sets and, with a trojan, TRIGGERED.

        Those are the test images of other classes than the target, with the trigger and labelled as the target.
        """
        sets = {name: self.examples(name) for name in SETS}
        trojan = self.declaration.trojan
        if trojan is not None:
            test, target = sets["test"], sets["forget"].labels[0]  # all of the forget set bear it
            others = test[test.labels != target]
            sets[TRIGGERED] = Examples(with_trigger(others.images, trojan), np.full_like(others.labels, target))
        return sets

    def record_bytes(self, *, requests: int = 1) -> int:
        """Return the size of the record of a model, or of a run of so many deletion requests."""
        sizes = {name: len(examples) for name, examples in self.recorded().items()}
        return record_bytes(sizes, self.manifest.n_classes, requests=requests)

    def examples_file(self, name: str) -> Path:
        """Return the file of a data set; the test set is private."""
        return (self.private if name == "test" else self.public) / f"{name}.npz"

    def original(self, index: int) -> dict[str, np.ndarray]:
        """Return the weights of one original model by name."""
        from safetensors.numpy import load_file

        return dict(load_file(self.public / f"original-{index}.safetensors"))

    def originals(self) -> Records:
        """Return the records of the original models."""
        return self._records(ORIGINALS)

    def retrained(self, pool: str) -> Records:
        """Return the records of one of the two POOLS of retrained models."""
        return self._records(pool)

    def records_file(self, kind: str) -> Path:
        """Return the file of records of the ORIGINALS or of one of the POOLS."""
        return self.private / (f"{kind}.npz" if kind == ORIGINALS else f"retrained-{kind}.npz")

    def require_private(self) -> None:
        """Raise UsageError if the public part alone is here."""
        if self.manifest.reference_hash is None and not self.private.exists():  # a draft has no hash yet
            raise UsageError(
                f"only the public part of {self.name} is here: its test set, retrained models and secret, without "
                "which nothing is run or scored, are with whoever prepared it. Where you have all of it, as written "
                f"by --export-private: harness prepare {self.name} --import FILE --force"
            )

    def _split(self) -> dict[str, np.ndarray]:
        """Return where in the data the examples of each set are, and which request each forget example is of."""
        self.require_private()
        return read_arrays(self.private / "split.npz")

    def _records(self, kind: str) -> Records:
        self.require_private()
        return Records.from_arrays(read_arrays(self.records_file(kind)))


def load_track(folder: Path) -> Track:
    """Return a prepared track after checking its hashes. Raises MachineError if a file is missing or damaged."""
    anew = f"harness prepare {folder.name} --force, with the .toml file in place of the name for a track of your own"
    remedy = f"remove {folder}, or prepare it anew: {anew}"
    try:
        track = read_track(folder)
        damaged = damage(track)
    except PermissionError as error:
        raise MachineError(f"cannot read {error.filename}: {error.strerror}. {ELSEWHERE}") from None
    except (OSError, ValueError) as error:
        raise MachineError(f"the track {folder.name} is damaged ({error}); {remedy}") from None
    if damaged:
        raise MachineError(f"the track {folder.name} is damaged ({damaged}); {remedy}")
    return track


def read_track(folder: Path) -> Track:
    """Return a track without a look at its hashes. Raises OSError or ValueError if there is none."""
    try:
        declaration = parse_declaration((folder / "track.toml").read_text(encoding="utf-8"))
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
    except ValidationError as error:
        raise ValueError("; ".join(problems(error))) from None
    if not 0 <= manifest.sibling < len(declaration.siblings):
        raise ValueError(f"sibling {manifest.sibling} is none of its declaration's")
    return Track(folder, declaration.siblings[manifest.sibling], manifest)


def damage(track: Track) -> str:
    """Return which parts of a track are not what its hashes say; nothing if it is intact.

    Raises OSError or ValueError if a file is missing or unfit.
    """
    damaged = ", ".join(_damaged(track))
    return f"{damaged}: not what its hashes say" if damaged else ""


def _damaged(track: Track) -> Iterator[str]:
    """Yield the parts of a track that do not match the hashes in its manifest."""
    manifest = track.manifest
    if hash_folder(track.public) != manifest.public_hash:
        yield "public/"
    if manifest.reference_hash is None:
        return
    if reference_hash(track.private) != manifest.reference_hash:
        yield "private/*.npz"
    secret = track.secret
    if not secret or manifest.secret_commitment not in (None, secret_commitment(secret)):
        yield "private/secret"


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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes a prepared folder complete."""
    write_json(folder / "manifest.json", manifest.model_dump())
