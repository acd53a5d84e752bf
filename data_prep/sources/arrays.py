"""Data in .npz files: `images` uint8 (n, height, width, channels), `labels` (n,), perhaps `subjects` (n,)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.sources.dataset import Dataset, natural_order
from harness.errors import UsageError
from harness.spelling import did_you_mean_file
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
    names = _common_names(paths, arrays)
    if names is None and all(one.dtype.kind in "US" for one in labels):
        names = natural_order(set(map(_text, np.concatenate(labels))))
    examples = [_examples(*some, names) for some in zip(paths, arrays, labels, strict=True)]
    classes = np.unique(np.concatenate([one.labels for one in examples]))
    if len(classes) < 2:
        raise UsageError(f"{paths[0]}: labels name one class only; a track needs two")
    if names is None:
        _check_gaps(paths, classes)
    return examples, names


def _arrays(path: Path) -> Arrays:
    try:
        arrays = read_arrays(path)
        if missing := {"images", "labels"} - set(arrays):
            there = ", ".join(sorted(arrays)) or "nothing"
            raise KeyError(f"no {' and no '.join(sorted(missing))} in it, but {there}")
    except FileNotFoundError:
        raise UsageError(f"no data file {path}{did_you_mean_file(path, {path.suffix})}") from None
    except (OSError, ValueError, KeyError) as error:
        said = str(error.args[0] if isinstance(error, KeyError) else error)
        if "Object arrays" in said:
            said = "it holds Python objects: save numbers and texts as arrays of their own type"
        raise UsageError(f"{path} is no .npz with `images` and `labels` ({said})") from None
    return arrays


def _examples(path: Path, arrays: Arrays, labels: np.ndarray, names: tuple[str, ...] | None) -> Examples:
    images, subjects = _pixels(path, arrays["images"]), arrays.get("subjects")
    labels = _labels(path, labels, len(images), names)
    return Examples(images, labels, None if subjects is None else _subjects(path, _column(subjects), len(images)))


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
            unfit = np.argwhere(~np.isfinite(images))[0][0]
            return f"images[{unfit}] holds values that are no finite numbers; mend it or leave it out"
        if lowest >= 0 and highest <= 1:
            return "store (images * 255).round().astype('uint8')"
        if lowest >= 0 and highest <= 255 and (images == np.floor(images)).all():
            return "store images.astype('uint8')"
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
    if labels.dtype.kind not in "buif":
        raise UsageError(f"{wanted}, not {labels.dtype} {labels.shape}")
    _check_whole(path, "labels", labels)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= max(n, len(names or ())):
        raise UsageError(f"{wanted}, not {lowest} to {highest}; number the classes from 0 without gaps")
    if names is not None and highest >= len(names):
        raise UsageError(f"{path}: class_names has {len(names)} names, and labels go up to {highest}")
    return labels.astype(np.int64)


def _check_whole(path: Path, name: str, values: np.ndarray) -> None:
    """Raise UsageError that names the first of some numbers that is not whole, as NaN is not."""
    unfit = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
    if len(unfit):
        raise UsageError(
            f"{path}: {name}[{unfit[0]}] is {values[unfit[0]]}, where {name} must be whole numbers or names; mend or "
            f"leave out the {len(unfit)} such of {len(values)} examples"
        )


def _check_gaps(paths: Sequence[Path], classes: np.ndarray) -> None:
    """Raise UsageError if numbers are left out, as where labels begin at 1: nobody says that there are such classes."""
    lowest, highest = int(classes[0]), int(classes[-1])
    missing = np.setdiff1d(np.arange(highest), classes)
    if not len(missing):
        return
    remedy = "store class_names with a name for each number"
    if len(missing) == lowest:
        remedy = f"store labels - {lowest}, or {remedy.removeprefix('store ')}"
    elif len(paths) == 1:
        remedy = f"store np.unique(labels, return_inverse=True)[1], or {remedy.removeprefix('store ')}"
    raise UsageError(f"{paths[0]}: labels go up to {highest}, and no example has {_some(missing)}: {remedy}")


def _some(labels: np.ndarray) -> str:
    return ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")


def _numbered(path: Path, labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    number = {name: label for label, name in enumerate(names)}
    texts = [_text(label) for label in labels]
    _check_texts(path, "labels", texts)
    if unknown := set(texts) - set(names):
        raise UsageError(f"{path}: labels has {min(unknown)!r}, which is not in class_names")
    return np.array([number[text] for text in texts], np.int64)


def _common_names(paths: Sequence[Path], arrays: Sequence[Arrays]) -> tuple[str, ...] | None:
    """Return the class names of all files; one without any has those of the first. Raises UsageError if they differ."""
    first, *others = (_class_names(*each) for each in zip(paths, arrays, strict=True))
    for path, names in zip(paths[1:], others, strict=True):
        if names is not None and names != first:
            raise UsageError(f"{path}: class_names are not those of {paths[0].name}; give both files the same list")
    return first


def _class_names(path: Path, arrays: Arrays) -> tuple[str, ...] | None:
    if "class_names" not in arrays:
        return None
    if arrays["class_names"].ndim != 1:
        raise UsageError(f"{path}: class_names must be a list of names, not {arrays['class_names'].shape}")
    names = tuple(map(_text, arrays["class_names"]))
    _check_texts(path, "class_names", names)
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{path}: class_names has {twice[0]!r} twice; give each class a name of its own")
    return names


def _check_texts(path: Path, name: str, texts: Sequence[str]) -> None:
    """Raise UsageError that names the first of some texts that says nothing, as where a table had no value."""
    unfit = next((place for place, text in enumerate(texts) if not text.strip()), None)
    if unfit is not None:
        raise UsageError(f"{path}: {name}[{unfit}] is {texts[unfit]!r}, where a name must be; give it one")


def _subjects(path: Path, subjects: np.ndarray, n: int) -> np.ndarray:
    """Return the subjects (n,), integers or names. Raises UsageError for anything else."""
    if subjects.shape != (n,) or subjects.dtype.kind not in "buifUS":
        described = f"{subjects.dtype} {subjects.shape}"
        raise UsageError(
            f"{path}: subjects must name whose image each of the {n} is, by number or name, not {described}"
        )
    if subjects.dtype.kind in "US":
        _check_texts(path, "subjects", [_text(subject) for subject in subjects])
    else:
        _check_whole(path, "subjects", subjects)
    return subjects


def _text(name: np.generic) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _notes(path: Path, labels: np.ndarray, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return sentences on classes without an example, and on one that may be none."""
    n_classes = max(int(labels.max()) + 1, len(names or ()))
    missing = np.setdiff1d(np.arange(n_classes), labels)
    notes = []
    if len(missing):
        outputs = f"nets have an output for each of {n_classes} classes"
        notes.append(f"{path.name}: no example has the label {_some(missing)}; {outputs}")
    if "nan" in (names or ()):
        notes.append(
            f"{path.name}: a class is called 'nan', as examples without a label are where a table had no value"
        )
    return tuple(notes)
