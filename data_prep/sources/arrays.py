"""Data in .npz files: `images` uint8 (n, height, width, channels), `labels` (n,), perhaps `subjects` (n,)."""

from pathlib import Path

import numpy as np

from data_prep.sources.dataset import Dataset
from harness.errors import UsageError
from harness.storage import read_arrays
from harness.tracks.track import Examples

__all__ = ["read_npz", "read_npz_pair"]


def read_npz(path: Path) -> Dataset:
    """Return the data set in one file. Raises UsageError if there is none, or if its arrays are unfit."""
    arrays = _arrays(path)
    return Dataset(_examples(path, arrays), class_names=_class_names(arrays))


def read_npz_pair(folder: Path) -> Dataset:
    """Return the data set in `train.npz` and `test.npz` of a folder. Raises UsageError as `read_npz` does."""
    train, test = (_arrays(folder / f"{name}.npz") for name in ("train", "test"))
    first, second = _examples(folder / "train.npz", train), _examples(folder / "test.npz", test)
    if first.images.shape[1:] != second.images.shape[1:]:
        shapes = f"{first.images.shape[1:]} and {second.images.shape[1:]}"
        raise UsageError(f"{folder}: the images of train.npz and test.npz differ in shape: {shapes}")
    if (first.subjects is None) != (second.subjects is None):
        raise UsageError(f"{folder}: only one of train.npz and test.npz has subjects")
    return Dataset.joined(first, second, _class_names(train))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path)
        if missing := {"images", "labels"} - set(arrays):
            raise KeyError(", ".join(sorted(missing)))
    except FileNotFoundError:
        raise UsageError(f"no data file {path}") from None
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is no .npz with `images` and `labels` ({error})") from None
    return arrays


def _examples(path: Path, arrays: dict[str, np.ndarray]) -> Examples:
    images, labels, subjects = arrays["images"], arrays["labels"], arrays.get("subjects")
    if images.dtype != np.uint8 or images.ndim != 4:
        raise UsageError(
            f"{path}: images must be uint8 (n, height, width, channels), not {images.dtype} {images.shape}"
        )
    if not len(images):
        raise UsageError(f"{path}: images holds no examples")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise UsageError(f"{path}: labels must be {len(images)} integers from 0, not {labels.dtype} {labels.shape}")
    if subjects is not None and subjects.shape != labels.shape:
        raise UsageError(f"{path}: subjects must name whose image each of the {len(images)} is, not {subjects.shape}")
    return Examples(images, labels.astype(np.int64), subjects)


def _class_names(arrays: dict[str, np.ndarray]) -> tuple[str, ...] | None:
    return tuple(map(str, arrays["class_names"])) if "class_names" in arrays else None
