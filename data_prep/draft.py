"""The folder a track begins as: data, split and secret, without models."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data_prep.architecture import begins_alike, check_architecture, modules_beside, takes_single_examples
from data_prep.datasets import load_dataset
from data_prep.poisoning import poisoned
from data_prep.sources.dataset import Dataset
from data_prep.splits import class_number, cut_into_requests, split_indices
from harness.errors import MachineError, UsageError
from harness.models import own_file
from harness.record import SETS
from harness.storage import write_arrays, write_bytes, write_json
from harness.tracks.batch_size import without_single
from harness.tracks.declaration import Declaration, read_declaration
from harness.tracks.hashes import family, fingerprint
from harness.tracks.track import Manifest, Track, class_name

__all__ = ["OnNote", "is_draft_of", "lay_out", "mark_as_draft"]

OnNote = Callable[[str], None]  # a sentence for whoever prepares the track, before anything is trained
MOST_NAMED = 5  # classes in a sentence


def lay_out(
    declaration: Declaration,
    declaration_file: Path,
    folder: Path,
    *,
    cache: Path,
    data: Path | None = None,
    retrained: int | None = None,
    on_note: OnNote = lambda note: None,
) -> Track:
    """Write data, split and secret into a folder, unless an interrupted preparation of the same has; return the draft.

    cache: where downloads are kept. data: a folder that has the source's data already. retrained: how many models each
    pool is to have, by default as declared.
    Raises UsageError if the declaration does not fit its data, and leaves no folder then.
    """
    wanted = declaration.data
    dataset = load_dataset(
        wanted.source,
        folder=declaration_file.parent,
        cache=cache,
        copy=data,
        downscale=wanted.downscale,
        label=wanted.label,
        categorical=wanted.categorical,
    )
    _check_channels(declaration, dataset.examples.images.shape[-1])
    if declaration.training.augment and dataset.examples.images.shape[2] == 1:
        raise UsageError("training.augment crops and flips images, and the data are a table; leave it out")
    sets = split_indices(dataset, declaration.split, declaration.forget, folder=declaration_file.parent)
    split = sets | cut_into_requests(dataset, declaration.split, declaration.forget, sets)
    planted = dataset if declaration.trojan is None else poisoned(dataset, sets, declaration.trojan)
    own = _own_architecture(declaration, declaration_file)
    manifest = _manifest(declaration, declaration_file, planted, split, own, retrained)
    draft = Track(folder, declaration, manifest)
    for note in (*planted.notes, *_remarks(dataset, declaration, sets)):
        on_note(note)
    if not is_draft_of(draft):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _write(draft, planted, split, own, on_note)
        except (UsageError, MachineError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        secret = declaration.reference.published_secret or secrets.token_hex(32)
        write_bytes(draft.private / "secret", secret.encode())
        mark_as_draft(draft)
    write_bytes(folder / "track.toml", declaration_file.read_bytes())  # which may say other limits of runs than before
    return draft


def _manifest(
    declaration: Declaration,
    declaration_file: Path,
    dataset: Dataset,
    split: dict[str, np.ndarray],
    own: dict[str, np.ndarray],
    retrained: int | None,
) -> Manifest:
    examples = dataset.examples
    arrays = examples.arrays() | own
    return Manifest(
        fingerprint=fingerprint(declaration, arrays | split),
        public_hash="",
        reference_hash=None,
        n_classes=dataset.n_classes,
        class_names=None if dataset.class_names is None else list(dataset.class_names),
        channels=examples.images.shape[-1],
        retrained=retrained or declaration.reference.retrained,
        prepared={},
        sibling=read_declaration(declaration_file).siblings.index(declaration),
        family=_family(declaration, arrays, split),
        inputs=examples.images[0].size if declaration.model.is_for_vectors else None,
    )


def _write(
    draft: Track, dataset: Dataset, split: dict[str, np.ndarray], own: dict[str, np.ndarray], on_note: OnNote
) -> None:
    """Write data, split and architecture. Raises UsageError if these do not fit each other."""
    for name in SETS:
        write_arrays(draft.examples_file(name), dataset.examples[split[name]].arrays())
    write_arrays(draft.private / "split.npz", split)
    for name, content in own.items():
        write_bytes(draft.public / name, content.tobytes())
    check_architecture(draft, draft.examples("retain"))
    if not draft.declaration.model.is_forest and begins_alike(draft):
        on_note(
            "all nets begin with the same weights, as where net.py sets a seed or reads weights: models will differ by "
            "the order of their batches alone"
        )
    batch_size, declared = _batch_size_of_runs(draft), draft.declaration.training.batch_size
    if batch_size != declared:
        on_note(
            f"runs get batches of {batch_size}, not of {declared}, which would leave a last batch of one example: "
            "the net cannot train on that"
        )
    write_json(draft.public / "task.json", _task(draft, batch_size))


def _check_channels(declaration: Declaration, channels: int) -> None:
    for key, values in (("mean", declaration.data.mean), ("std", declaration.data.std)):
        if len(values) not in (1, channels):
            has = f"{len(values)} values and the images have {channels} channel{'' if channels == 1 else 's'}"
            raise UsageError(f"data.{key} has {has}; give one for all, or one for each")


def _own_architecture(declaration: Declaration, declaration_file: Path) -> dict[str, np.ndarray]:
    """Return the bytes of the file of an own architecture by its name, if the declaration has one that is there.

    Raises UsageError if it does not lie beside the declaration, or needs what does.
    """
    own = own_file(declaration.model.name)
    if own is None:
        return {}
    if Path(own).is_absolute() or ".." in Path(own).parts:
        raise UsageError(f"model: {own} has to lie beside {declaration_file.name}, from where it is copied")
    file = declaration_file.parent / own
    if not file.is_file():
        return {}
    if beside := modules_beside(file):
        raise UsageError(f"model: {own} imports {', '.join(beside)}; an architecture is one file: copy it in there")
    return {own: np.frombuffer(file.read_bytes(), np.uint8)}


def _remarks(dataset: Dataset, declaration: Declaration, sets: dict[str, np.ndarray]) -> Iterator[str]:
    """Yield what may not be as its author thinks: which class is forgotten, and which are missing where."""
    forget = declaration.forget
    forgotten = None if forget.label is None else class_number(forget.label, dataset, section="forget", key="label")
    if forgotten is not None:
        n, among = len(sets["forget"]), len(sets["forget"]) + len(sets["retain"])
        number, names = str(forgotten), dataset.class_names or ()
        is_other = number in names and names[forgotten] != number
        other = f'; the class called {number} is label = "{number}"' if is_other else ""
        name = class_name(forgotten, dataset.class_names)
        yield f"to be forgotten: class {name}, {n} of {among} training examples{other}"
    yield from _missing(dataset, sets, forgotten)


def _missing(dataset: Dataset, sets: dict[str, np.ndarray], forgotten: int | None) -> Iterator[str]:
    """Yield which classes, but for one that is forgotten, have no example in a set."""
    labels = dataset.examples.labels
    retain, forget, val, test = (labels[sets[name]] for name in ("retain", "forget", "val", "test"))
    trained = np.concatenate([retain, forget])
    for name, missing, so in (
        ("training", np.setdiff1d(labels, trained), ", which no model learns"),
        ("retain", np.setdiff1d(trained, retain), ""),
        ("val", np.setdiff1d(labels, val), ""),
        ("test", np.setdiff1d(labels, test), ""),
    ):
        others = [class_name(int(label), dataset.class_names) for label in missing if label != forgotten]
        if others:
            named = ", ".join(f"class {other}" for other in others[:MOST_NAMED])
            more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
            yield f"the {name} set has no example of {named}{more}{so}"


def _family(declaration: Declaration, data: dict[str, np.ndarray], split: dict[str, np.ndarray]) -> str | None:
    """Return the name of what a track shares with its siblings, None if it has none."""
    if declaration.forget.forget_sets == 1:
        return None
    train = np.sort(np.concatenate([split["retain"], split["forget"]]))
    return family(declaration, data | {"train": train, "val": split["val"], "test": split["test"]})


def _batch_size_of_runs(track: Track) -> int:
    """Return the size of the batches that submissions get: as declared, but that no set leaves a last batch of one.

    Unless a net can be trained on that too. It is the nearest larger size then.
    """
    declared = track.declaration.training.batch_size
    forgotten = np.bincount(track.requests())
    later = np.cumsum(forgotten[::-1])[::-1] - forgotten  # what later requests forget is still retained
    retained = len(track.examples("retain")) + later
    sizes = [*retained.tolist(), *forgotten.tolist(), len(track.examples("val"))]
    larger = without_single(declared, sizes)
    return declared if larger != declared and takes_single_examples(track) else larger


def _task(track: Track, batch_size: int) -> dict[str, object]:
    """Return what the process that runs a submission needs to know."""
    declaration, options = track.declaration, track.model_options
    return {
        "model": declaration.model.name,
        "width": declaration.model.width,
        "n_classes": track.manifest.n_classes,
        "channels": track.manifest.channels,
        "scale": declaration.data.scale,
        "mean": declaration.data.mean,
        "std": declaration.data.std,
        "batch_size": batch_size,
        "originals": declaration.reference.originals,
    } | ({"options": options} if options else {})


def mark_as_draft(draft: Track) -> None:
    """Note whose beginnings the folder holds, so that an interrupted preparation of the same goes on there.

    How many retrained models it is to have may change on the way; what is stacked in other numbers is trained anew.
    """
    write_bytes(draft.folder / "draft", _draft_mark(draft).encode())


def is_draft_of(draft: Track) -> bool:
    """Whether the folder holds the beginnings of this very track, of its secret and of the models it grows from."""
    mark = draft.folder / "draft"
    return mark.is_file() and mark.read_text() == _draft_mark(draft)


def _draft_mark(draft: Track) -> str:
    secret = draft.declaration.reference.published_secret or "drawn"
    return f"{draft.manifest.fingerprint} from {draft.manifest.reference_hash}, secret {secret}"
