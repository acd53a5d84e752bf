"""Prepares a track: data, split, originals, two pools of retrained models and their records, in one folder.

Models are trained in stacks, side by side. Each finished stack is a file, so that an interrupted preparation goes on
where it stopped; the folder takes its place only when it is complete.
"""

import contextlib
import hashlib
import hmac
import json
import os
import platform
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import save_file

from data_prep.datasets import load_dataset
from data_prep.drift import Drift, drift
from data_prep.splits import split_indices
from data_prep.training import train_stack
from harness.errors import MachineError, UsageError
from harness.loaders import to_inputs
from harness.measure import Meter, build_model
from harness.record import Records
from harness.storage import hash_folder, write_arrays, write_bytes, write_json
from harness.track import (
    POOLS,
    Declaration,
    Examples,
    Manifest,
    Track,
    fingerprint,
    load_track,
    reference_hash,
    replace_folder,
)

__all__ = ["Prepared", "prepare"]

STACK_SIZE = 32  # more models at once gain nothing further and take more memory
Progress = Callable[[int, int], None]  # epochs trained so far, over all models, of how many


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
    on_progress: Progress = lambda done, total: None,
) -> Prepared:
    """Prepare a declared track as a folder of its name below `tracks`, replacing one that is there.

    Raises UsageError if the declaration does not fit its data, or if another process is preparing the same track.
    """
    started = time.monotonic()
    partial = tracks / f".{declaration.name}.partial"
    with _locked(tracks / f".{declaration.name}.lock"):
        old = _retrained_before(tracks / declaration.name)
        draft = _lay_out(declaration, declaration_file, partial)
        stacks = _stacks(draft, jobs)
        _train_missing(draft, stacks, jobs, on_progress)
        _assemble(draft, stacks, time.monotonic() - started)
        replace_folder(partial, tracks / declaration.name)
    track = load_track(tracks / declaration.name)
    if old is None or old.fingerprint != track.manifest.fingerprint:
        return Prepared(track, None)
    return Prepared(track, drift(old.retrained, _all_retrained(track), track.examples("forget").labels))


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


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError("another process is preparing this track; wait for it, then run the command again") from None
    with lock:
        yield


# ---- data and split -----------------------------------------------------------------------------------------------


def _lay_out(declaration: Declaration, declaration_file: Path, partial: Path) -> Track:
    """Write data, split and secret into the partial folder, unless an interrupted preparation of the same has."""
    examples = load_dataset(declaration.data.source, declaration_file.parent)
    sets = split_indices(examples.labels, declaration.split, declaration.forget)
    manifest = Manifest(
        fingerprint=fingerprint(declaration, {"images": examples.images, "labels": examples.labels, **sets}),
        public_hash="",
        reference_hash=None,
        n_classes=int(examples.labels.max()) + 1,
        channels=examples.images.shape[-1],
        retrained=declaration.reference.retrained,
        prepared={},
    )
    draft = Track(partial, declaration, manifest)
    fingerprint_file = partial / "fingerprint"
    if fingerprint_file.is_file() and fingerprint_file.read_text() == manifest.fingerprint:
        return draft
    shutil.rmtree(partial, ignore_errors=True)
    for name, indices in sets.items():
        folder = draft.private if name == "test" else draft.public
        write_arrays(folder / f"{name}.npz", {"images": examples.images[indices], "labels": examples.labels[indices]})
    write_arrays(draft.private / "split.npz", sets)
    write_json(draft.public / "task.json", _task(draft, examples))
    write_bytes(partial / "track.toml", declaration_file.read_bytes())
    secret = declaration.reference.published_secret or secrets.token_hex(32)
    write_bytes(draft.private / "secret", secret.encode())
    write_bytes(fingerprint_file, manifest.fingerprint.encode())
    return draft


def _task(track: Track, examples: Examples) -> dict[str, object]:
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


# ---- models -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stack:
    """Models trained together: some of the originals, or of a pool of retrained models."""

    kind: str  # `originals` or a pool's name
    first: int
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.first:04d}-{len(self.seeds)}"


def _stacks(track: Track, jobs: int) -> list[_Stack]:
    """Return the stacks a track's models are trained in, the large ones first, evenly over the jobs."""
    sizes = dict.fromkeys(POOLS, track.manifest.retrained) | {"originals": track.declaration.reference.originals}
    stacks = []
    for kind, size in sizes.items():
        n_stacks = max(-(-size // STACK_SIZE), min(jobs, size))
        stacks += [
            _Stack(kind, int(rows[0]), tuple(_seed(track, kind, int(row)) for row in rows))
            for rows in np.array_split(np.arange(size), n_stacks)
        ]
    return stacks


def _seed(track: Track, kind: str, index: int) -> int:
    message = f"{track.manifest.fingerprint}/{kind}/{index}".encode()
    return int.from_bytes(hmac.digest(track.secret, message, hashlib.sha256)[:6], "big")


def _train_missing(track: Track, stacks: list[_Stack], jobs: int, on_progress: Progress) -> None:
    """Train the stacks that have no file yet, `jobs` at a time in processes of their own."""
    missing = [stack for stack in stacks if not _part(track, stack).is_file()]
    epochs = track.declaration.training.epochs
    total = epochs * sum(len(stack.seeds) for stack in stacks)
    done_before = total - epochs * sum(len(stack.seeds) for stack in missing)
    tally = track.folder / "tally"  # one byte per model and epoch: appended to by all processes
    tally.write_bytes(b"")
    with _watching(lambda: on_progress(done_before + tally.stat().st_size, total)):
        joblib.Parallel(n_jobs=jobs)(joblib.delayed(_train_stack)(track, stack, tally) for stack in missing)
    tally.unlink()


@contextlib.contextmanager
def _watching(report: Callable[[], None]) -> Iterator[None]:
    """Call `report` twice a second while the block runs, and once at its end."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            report()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    report()


def _train_stack(track: Track, stack: _Stack, tally: Path) -> None:
    """Train one stack and write its part: the records, and for originals the weights."""
    torch.set_num_threads(1)
    names = ("retain", "forget") if stack.kind == "originals" else ("retain",)
    sets = [track.examples(name) for name in names]
    data = track.declaration.data
    images = np.concatenate([examples.images for examples in sets])

    def on_epoch() -> None:
        with tally.open("ab") as file:
            file.write(b"." * len(stack.seeds))

    models = train_stack(
        lambda: build_model(track),
        to_inputs(images, scale=data.scale, mean=data.mean, std=data.std),
        torch.from_numpy(np.concatenate([examples.labels for examples in sets])),
        track.declaration.training,
        seeds=list(stack.seeds),
        on_epoch=on_epoch,
    )
    meter = Meter(track)
    records = [meter.record({name: value.numpy() for name, value in weights.items()}) for weights in models]
    if stack.kind == "originals":
        for index, weights in enumerate(models, start=stack.first):
            save_file(weights, track.public / f"original-{index}.safetensors")
    write_arrays(_part(track, stack), Records.concatenate(records).arrays())


def _part(track: Track, stack: _Stack) -> Path:
    return track.folder / "parts" / f"{stack.name}.npz"


def _assemble(track: Track, stacks: list[_Stack], seconds: float) -> None:
    """Join the parts into one file per kind, and write the manifest."""
    for kind in ("originals", *POOLS):
        parts = []
        for stack in sorted((stack for stack in stacks if stack.kind == kind), key=lambda stack: stack.first):
            with np.load(_part(track, stack), allow_pickle=False) as arrays:
                parts.append(Records.from_arrays(arrays))
        name = kind if kind == "originals" else f"retrained-{kind}"
        write_arrays(track.private / f"{name}.npz", Records.concatenate(parts).arrays())
    manifest = track.manifest.model_copy(
        update={
            "public_hash": hash_folder(track.public),
            "reference_hash": reference_hash(track.private),
            "prepared": {
                "torch": version("torch"),
                "device": "cpu",
                "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
                "seconds": round(seconds, 1),
            },
        }
    )
    write_bytes(track.folder / "manifest.json", (json.dumps(manifest.model_dump(), indent=2) + "\n").encode())
    shutil.rmtree(track.folder / "parts")
    (track.folder / "fingerprint").unlink()
