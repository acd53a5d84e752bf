"""The folder a track begins as: data, split and secret, without models."""

import secrets
import shutil
from pathlib import Path

import numpy as np
import torch

from data_prep.datasets import load_dataset
from data_prep.splits import split_indices
from harness.errors import UsageError
from harness.loaders import to_inputs
from harness.models import own_file
from harness.runs.measure import build_model
from harness.storage import write_arrays, write_bytes, write_json
from harness.tracks.declaration import Declaration, read_declaration
from harness.tracks.hashes import family, fingerprint
from harness.tracks.track import Examples, Manifest, Track

__all__ = ["is_draft_of", "lay_out", "mark_as_draft"]


def lay_out(
    declaration: Declaration, declaration_file: Path, folder: Path, *, cache: Path, data: Path | None = None
) -> Track:
    """Write data, split and secret into a folder, unless an interrupted preparation of the same has; return the draft.

    cache: where downloads are kept. data: a folder that has the source's data already.
    Raises UsageError if the declaration does not fit its data.
    """
    dataset = load_dataset(declaration.data.source, folder=declaration_file.parent, cache=cache, copy=data)
    examples = dataset.examples
    sets = split_indices(dataset, declaration.split, declaration.forget, folder=declaration_file.parent)
    arrays = examples.arrays() | _own_architecture(declaration, declaration_file)
    manifest = Manifest(
        fingerprint=fingerprint(declaration, arrays | sets),
        public_hash="",
        reference_hash=None,
        n_classes=int(examples.labels.max()) + 1,
        class_names=None if dataset.class_names is None else list(dataset.class_names),
        channels=examples.images.shape[-1],
        retrained=declaration.reference.retrained,
        prepared={},
        sibling=read_declaration(declaration_file).siblings.index(declaration),
        family=_family(declaration, arrays, sets),
    )
    draft = Track(folder, declaration, manifest)
    if is_draft_of(draft):
        return draft
    shutil.rmtree(folder, ignore_errors=True)
    for name, indices in sets.items():
        write_arrays(draft.examples_file(name), examples[indices].arrays())
    write_arrays(draft.private / "split.npz", sets)
    for name, content in _own_architecture(declaration, declaration_file).items():
        write_bytes(draft.public / name, content.tobytes())
    _check_model(draft, examples[:2])
    write_json(draft.public / "task.json", _task(draft))
    write_bytes(folder / "track.toml", declaration_file.read_bytes())
    secret = declaration.reference.published_secret or secrets.token_hex(32)
    write_bytes(draft.private / "secret", secret.encode())
    mark_as_draft(draft)
    return draft


def _own_architecture(declaration: Declaration, declaration_file: Path) -> dict[str, np.ndarray]:
    """Return the bytes of the file of an own architecture by its name, if the declaration has one that is there."""
    own = own_file(declaration.model.name)
    if own is None or not (declaration_file.parent / own).is_file():
        return {}
    return {own: np.frombuffer((declaration_file.parent / own).read_bytes(), np.uint8)}


def _family(declaration: Declaration, data: dict[str, np.ndarray], sets: dict[str, np.ndarray]) -> str | None:
    """Return the name of what a track shares with its siblings, None if it has none."""
    if declaration.forget.forget_sets == 1:
        return None
    train = np.sort(np.concatenate([sets["retain"], sets["forget"]]))
    return family(declaration, data | {"train": train, "val": sets["val"], "test": sets["test"]})


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


def mark_as_draft(draft: Track) -> None:
    """Note whose beginnings the folder holds, so that an interrupted preparation of the same goes on there."""
    write_bytes(draft.folder / "draft", _draft_mark(draft).encode())


def is_draft_of(draft: Track) -> bool:
    """Whether the folder holds the beginnings of this very track."""
    mark = draft.folder / "draft"
    return mark.is_file() and mark.read_text() == _draft_mark(draft)


def _draft_mark(draft: Track) -> str:
    return f"{draft.manifest.fingerprint} {draft.manifest.retrained}"
