"""Prepares a track: data, split, secret, originals and two pools of retrained models with their records, in one folder.

The folder is built beside its place and takes it only when it is complete; an interrupted preparation is resumed.
"""

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from data_prep import reference
from data_prep.datasets import load_dataset
from data_prep.drift import Drift, drift
from data_prep.reference import Progress
from data_prep.splits import split_indices
from harness.declaration import Declaration
from harness.environment import environment
from harness.errors import MachineError, UsageError
from harness.loaders import to_inputs
from harness.measure import build_model
from harness.models import own_file
from harness.record import Records
from harness.storage import hash_folder, write_arrays, write_bytes, write_json
from harness.track import (
    ORIGINALS,
    POOLS,
    Examples,
    Manifest,
    Track,
    fingerprint,
    load_track,
    reference_hash,
    replace_folder,
    write_manifest,
)

__all__ = ["Prepared", "grow", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A prepared track, and how far it is from the one it replaced, if that was of the same data and split."""

    track: Track
    drift: Drift | None


def prepare(
    declaration: Declaration,
    declaration_file: Path,
    tracks: Path,
    *,
    jobs: int,
    data: Path | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Prepared:
    """Prepare a declared track as a folder of its name below `tracks`, replacing one that is there.

    data: a folder that has the source's data already; else they are downloaded where that is possible.
    Raises UsageError if the declaration does not fit its data, or if another process is preparing the same track.
    """
    started = time.monotonic()
    place = tracks / declaration.name
    with _locked(place):
        before = _retrained_before(place)
        draft = _lay_out(declaration, declaration_file, _partial(place), data)
        stacks = reference.plan(draft, jobs, present={})
        reference.train_missing(draft, stacks, jobs, on_progress)
        reference.join(draft, stacks)
        _complete(draft, place, time.monotonic() - started)
    track = load_track(place)
    if before is None or before.fingerprint != track.manifest.fingerprint:
        return Prepared(track, None)
    return Prepared(track, drift(before.retrained, _all_retrained(track), track.examples("forget").labels))


def grow(track: Track, retrained: int, *, jobs: int, on_progress: Progress = lambda done, total: None) -> Track:
    """Add retrained models until each pool holds so many; those there are stay as they are.

    Raises UsageError if another process is preparing the same track.
    """
    started = time.monotonic()
    if retrained <= track.manifest.retrained:
        return track
    present = dict.fromkeys(POOLS, track.manifest.retrained) | {ORIGINALS: track.declaration.reference.originals}
    with _locked(track.folder):
        grown = track.manifest.model_copy(update={"retrained": retrained})
        draft = Track(_partial(track.folder), track.declaration, grown)
        resumed = _is_draft_of(draft)
        if not resumed:
            shutil.rmtree(draft.folder, ignore_errors=True)
            shutil.copytree(track.folder, draft.folder)
        stacks = reference.plan(draft, jobs, present=present)
        if not resumed:
            reference.split_off(draft, stacks)
            _mark_as_draft(draft)
        reference.train_missing(draft, stacks, jobs, on_progress)
        reference.join(draft, stacks)
        _complete(draft, track.folder, time.monotonic() - started)
    return load_track(track.folder)


def _partial(place: Path) -> Path:
    return place.with_name(f".{place.name}.partial")


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError("another process is preparing this track; wait for it, then run the command again") from None
    with lock:
        yield


@dataclass(frozen=True)
class _Before:
    fingerprint: str
    retrained: Records


def _retrained_before(folder: Path) -> _Before | None:
    """Return the retrained models of the track that is about to be replaced; None if there is none, or none intact."""
    if not folder.exists():
        return None
    try:
        track = load_track(folder)
        return _Before(track.manifest.fingerprint, _all_retrained(track))
    except MachineError:
        return None


def _all_retrained(track: Track) -> Records:
    return Records.concatenate(track.retrained(pool) for pool in POOLS)


# ---- the folder ---------------------------------------------------------------------------------------------------


def _lay_out(declaration: Declaration, declaration_file: Path, partial: Path, data: Path | None) -> Track:
    """Write data, split and secret into the partial folder, unless an interrupted preparation of the same has."""
    cache = partial.parent.parent / "data"
    dataset = load_dataset(declaration.data.source, folder=declaration_file.parent, cache=cache, copy=data)
    examples = dataset.examples
    sets = split_indices(dataset, declaration.split, declaration.forget, folder=declaration_file.parent)
    manifest = Manifest(
        fingerprint=fingerprint(declaration, {**examples.arrays(), **sets}),
        public_hash="",
        reference_hash=None,
        n_classes=int(examples.labels.max()) + 1,
        class_names=None if dataset.class_names is None else list(dataset.class_names),
        channels=examples.images.shape[-1],
        retrained=declaration.reference.retrained,
        prepared={},
    )
    draft = Track(partial, declaration, manifest)
    if _is_draft_of(draft):
        return draft
    shutil.rmtree(partial, ignore_errors=True)
    for name, indices in sets.items():
        write_arrays(draft.examples_file(name), examples[indices].arrays())
    write_arrays(draft.private / "split.npz", sets)
    own = own_file(declaration.model.name)
    if own is not None and (declaration_file.parent / own).is_file():
        write_bytes(draft.public / own, (declaration_file.parent / own).read_bytes())
    _check_model(draft, examples[:2])
    write_json(draft.public / "task.json", _task(draft))
    write_bytes(partial / "track.toml", declaration_file.read_bytes())
    secret = declaration.reference.published_secret or secrets.token_hex(32)
    write_bytes(draft.private / "secret", secret.encode())
    _mark_as_draft(draft)
    return draft


def _check_model(track: Track, examples: Examples) -> None:
    """Raise UsageError unless the declared architecture takes these images and gives one logit per class."""
    data = track.declaration.data
    try:
        inputs = to_inputs(examples.images, scale=data.scale, mean=data.mean, std=data.std)
        with torch.no_grad():
            shape = tuple(build_model(track).eval()(inputs).shape)
    except Exception as error:  # noqa: BLE001 - whatever a declared or an own architecture raises is the declaration's
        raise UsageError(f"model: {error}") from None
    if shape != (len(examples), track.manifest.n_classes):
        raise UsageError(f"model: outputs are {shape} for {len(examples)} images of {track.manifest.n_classes} classes")


def _task(track: Track) -> dict[str, object]:
    """Return what the process that runs a submission needs to know."""
    declaration = track.declaration
    return {
        "model": declaration.model.name,
        "width": declaration.model.width,
        "n_classes": track.manifest.n_classes,
        "channels": track.manifest.channels,
        "scale": declaration.data.scale,
        "mean": declaration.data.mean,
        "std": declaration.data.std,
        "batch_size": declaration.training.batch_size,
        "originals": declaration.reference.originals,
    }


def _mark_as_draft(draft: Track) -> None:
    write_bytes(draft.folder / "draft", _draft_mark(draft).encode())


def _is_draft_of(draft: Track) -> bool:
    """Whether the folder holds the beginnings of this very track."""
    mark = draft.folder / "draft"
    return mark.is_file() and mark.read_text() == _draft_mark(draft)


def _draft_mark(draft: Track) -> str:
    return f"{draft.manifest.fingerprint} {draft.manifest.retrained}"


def _complete(draft: Track, place: Path, seconds: float) -> None:
    """Write the manifest and put the folder in its place."""
    here = environment()
    found = {"torch": here["torch"], "device": "cpu", "machine": here["machine"], "seconds": round(seconds, 1)}
    hashes = {"public_hash": hash_folder(draft.public), "reference_hash": reference_hash(draft.private)}
    manifest = draft.manifest.model_copy(update={**hashes, "prepared": found})
    write_manifest(draft.folder, manifest)
    (draft.folder / "draft").unlink()
    replace_folder(draft.folder, place)
