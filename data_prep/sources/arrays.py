"""Data in .npz files: `images` uint8 (n, height, width, channels), `labels` (n,), perhaps `subjects` (n,)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.sources.dataset import Dataset, natural_order
from harness.errors import UsageError
from harness.storage import read_arrays
from harness.tracks.track import Examples

__all__ = ["read_npz", "read_npz_pair"]

Arrays = dict[str, np.ndarray]


def read_npz(path: Path) -> Dataset:
    """Return the data set in one file. Raises UsageError if there is none, or if its arrays are unfit."""
    (examples,), names = _read([path])
    return Dataset(examples, class_names=names, notes=_notes(path, examples.labels, names))


def read_npz_pair(folder: Path) -> Dataset:
    """Return the data set in `train.npz` and `test.npz` of a folder. Raises UsageError as `read_npz` does."""
    (first, second), names = _read([folder / "train.npz", folder / "test.npz"])
    if first.images.shape[1:] != second.images.shape[1:]:
        shapes = f"{first.images.shape[1:]} and {second.images.shape[1:]}"
        raise UsageError(f"{folder}: the images of train.npz and test.npz differ in shape: {shapes}")
    if (first.subjects is None) != (second.subjects is None):
        raise UsageError(f"{folder}: only one of train.npz and test.npz has subjects")
    return Dataset.joined(first, second, names, _notes(folder, first.labels, names))


def _read(paths: Sequence[Path]) -> tuple[list[Examples], tuple[str, ...] | None]:
    """Return the examples of some files of one data set, and the names of its classes."""
    arrays = [_arrays(path) for path in paths]
    labels = [_column(one["labels"]) for one in arrays]
    names = _class_names(paths[0], arrays[0])
    if names is None and all(one.dtype.kind in "US" for one in labels):
        names = natural_order(set(map(_text, np.concatenate(labels))))
    examples = [_examples(*some, names) for some in zip(paths, arrays, labels, strict=True)]
    if len(np.unique(np.concatenate([one.labels for one in examples]))) < 2:
        raise UsageError(f"{paths[0]}: labels name one class only; a track needs two")
    return examples, names


def _arrays(path: Path) -> Arrays:
    try:
        arrays = read_arrays(path)
        if missing := {"images", "labels"} - set(arrays):
            there = ", ".join(sorted(arrays)) or "nothing"
            raise KeyError(f"no {' and no '.join(sorted(missing))} in it, but {there}")
    except FileNotFoundError:
        raise UsageError(f"no data file {path}") from None
    except (OSError, ValueError, KeyError) as error:
        said = str(error.args[0] if isinstance(error, KeyError) else error)
        if "Object arrays" in said:
            said = "it holds Python objects: save numbers and texts as arrays of their own type"
        raise UsageError(f"{path} is no .npz with `images` and `labels` ({said})") from None
    return arrays


def _examples(path: Path, arrays: Arrays, labels: np.ndarray, names: tuple[str, ...] | None) -> Examples:
    images, subjects = _pixels(path, arrays["images"]), arrays.get("subjects")
    labels = _labels(path, labels, len(images), names)
    if subjects is not None and _column(subjects).shape != labels.shape:
        raise UsageError(f"{path}: subjects must name whose image each of the {len(images)} is, not {subjects.shape}")
    return Examples(images, labels, None if subjects is None else _column(subjects))


def _column(array: np.ndarray) -> np.ndarray:
    """Return an array (n,) for one of (n, 1), any other as it is."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


# ---- images -------------------------------------------------------------------------------------------------------


def _pixels(path: Path, images: np.ndarray) -> np.ndarray:
    """Return pixels uint8 (n, height, width, channels) of whole numbers from 0 to 255; grey ones may lack the last."""
    if images.ndim == 3:
        images = images[..., None]
    remedy = _remedy(images)
    if remedy is None:
        return images.astype(np.uint8)
    described = f"{images.dtype} {images.shape}"
    raise UsageError(f"{path}: images must be uint8 (n, height, width, channels), not {described}: {remedy}")


def _remedy(images: np.ndarray) -> str | None:
    """Return what to do with images (n, height, width, channels) that are no pixels, None if they are."""
    if not images.size:
        return "it holds no examples"
    if images.ndim != 4:
        return "bring it to four axes with images.reshape(n, height, width, channels)"
    if images.shape[1] in (1, 3, 4) and min(images.shape[2:]) > 4:
        return "the channels come last, images.transpose(0, 2, 3, 1)"
    if images.dtype.kind == "b":
        return "store images.astype('uint8') * 255"
    if images.dtype.kind not in "uif":
        return "pixels are numbers"
    lowest, highest = images.min(), images.max()
    if images.dtype.kind == "f":
        if not np.isfinite(images).all():
            return "it holds values that are no finite numbers"
        if lowest >= 0 and highest <= 1:
            return "store (images * 255).round().astype('uint8')"
        return f"its values are {lowest:g} to {highest:g}; bring them to 0 to 255 and store whole numbers"
    if lowest < 0 or highest > 255:
        return f"its values are {lowest} to {highest}; bring them to 0 to 255"
    return None


# ---- labels -------------------------------------------------------------------------------------------------------


def _labels(path: Path, labels: np.ndarray, n: int, names: tuple[str, ...] | None) -> np.ndarray:
    """Return the classes (n,) int64 that labels name, by number or by name."""
    wanted = f"{path}: labels must be {n} integers from 0, or names of classes"
    if labels.ndim == 2 and len(labels) == n:
        raise UsageError(
            f"{wanted}, not {labels.dtype} {labels.shape}: store labels.argmax(1) if each row marks a class"
        )
    if labels.shape != (n,):
        raise UsageError(f"{wanted}, not {labels.dtype} {labels.shape}")
    if labels.dtype.kind in "US" and names is not None:
        return _numbered(path, labels, names)
    if labels.dtype.kind not in "buif" or not np.isfinite(labels).all() or (labels != np.floor(labels)).any():
        raise UsageError(f"{wanted}, not {labels.dtype} {labels.shape}")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= max(n, len(names or ())):
        raise UsageError(f"{wanted}, not {lowest} to {highest}; number the classes from 0 without gaps")
    if names is not None and highest >= len(names):
        raise UsageError(f"{path}: class_names has {len(names)} names, and labels go up to {highest}")
    return labels.astype(np.int64)


def _numbered(path: Path, labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    number = {name: label for label, name in enumerate(names)}
    texts = [_text(label) for label in labels]
    if unknown := set(texts) - set(names):
        raise UsageError(f"{path}: labels has {min(unknown)!r}, which is not in class_names")
    return np.array([number[text] for text in texts], np.int64)


def _class_names(path: Path, arrays: Arrays) -> tuple[str, ...] | None:
    if "class_names" not in arrays:
        return None
    if arrays["class_names"].ndim != 1:
        raise UsageError(f"{path}: class_names must be a list of names, not {arrays['class_names'].shape}")
    return tuple(map(_text, arrays["class_names"]))


def _text(name: np.generic) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _notes(path: Path, labels: np.ndarray, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return a sentence if there are classes without an example, as where labels begin at 1."""
    n_classes = max(int(labels.max()) + 1, len(names or ()))
    missing = np.setdiff1d(np.arange(n_classes), labels)
    if not len(missing):
        return ()
    some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return (f"{path.name}: no example has the label {some}; nets have an output for each of {n_classes} classes",)
