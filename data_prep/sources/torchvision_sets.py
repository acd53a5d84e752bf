"""Data sets of torchvision, by name: downloaded and checked by torchvision, or read from a copy."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.arrays import read_npz_pair
from data_prep.sources.dataset import Dataset
from harness.errors import MachineError, UsageError
from harness.tracks.track import Examples

__all__ = ["TORCHVISION", "read_torchvision"]

# How each data set is asked for its training and its test half.
TORCHVISION: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST"), ({"train": True}, {"train": False})),
    "SVHN": ({"split": "train"}, {"split": "test"}),
}


def read_torchvision(name: str, *, cache: Path, copy: Path | None) -> Dataset:
    """Return a data set of torchvision.

    cache: where it is downloaded to. copy: a folder that holds it already, as torchvision lays it out or as `train.npz`
    and `test.npz`; then nothing is downloaded.
    Raises UsageError for a name not in TORCHVISION and for a folder without it, MachineError if the download fails.
    """
    if name not in TORCHVISION:
        raise UsageError(f"no data source torchvision:{name}; there are {', '.join(TORCHVISION)}")
    if copy is not None and (copy / "train.npz").is_file():
        return read_npz_pair(copy)
    import torchvision

    kind = getattr(torchvision.datasets, name)
    try:
        halves = [kind(root=copy or cache / name, download=copy is None, **half) for half in TORCHVISION[name]]
    except RuntimeError as error:
        if copy is None:
            raise MachineError(_cannot_download(name, error)) from None
        raise UsageError(f"{copy} holds neither {name} as torchvision stores it nor train.npz and test.npz") from None
    except OSError as error:
        raise MachineError(_cannot_download(name, error)) from None
    names = getattr(halves[0], "classes", None)
    return Dataset.joined(_examples(halves[0]), _examples(halves[1]), tuple(names) if names else None)


def _cannot_download(name: str, error: Exception) -> str:
    return f"{name} could not be downloaded ({error}); give a folder that has it: --data FOLDER"


def _examples(half: Any) -> Examples:
    """Return one half; torchvision stores images as (n, height, width[, channels]), SVHN's with the channels first."""
    images = np.asarray(half.data)
    if type(half).__name__ == "SVHN":
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 3:
        images = images[..., None]
    labels = half.labels if hasattr(half, "labels") else half.targets
    return Examples(np.ascontiguousarray(images), np.asarray(labels).astype(np.int64))
