"""A track small enough to be prepared within minutes: `cifar10` with few models and epochs, on a CPU digits.

Its images are those it is given, or drawn ones that are as easy to tell apart: a step takes as long with either.
"""

import io
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.gpu.steps import ROOT, Task
from harness.errors import MachineError, UsageError
from harness.storage import read_arrays, write_arrays, write_bytes
from harness.tracks import catalogue
from harness.tracks.track import Track

__all__ = ["DECLARED_EPOCHS", "DRAWN", "Images", "declared", "images_for", "opened"]

DECLARATIONS = ROOT / "data_prep" / "tracks"
DECLARED_EPOCHS = 120  # of both declarations: a training that a run gets a share of
NAMES = {"cuda": "gpu-small", "cpu": "gpu-tiny"}
LIMIT_SECONDS = 20.0  # of a run: fixed, so that a slow calibration costs no other step
SMALL = {
    'name = "cifar10"': f'name = "{NAMES["cuda"]}"',
    f"epochs = {DECLARED_EPOCHS}": "epochs = 4",
    "originals = 4\nretrained = 64": "originals = 2\nretrained = 16",
    "threads = 4": f"threads = 4\nseconds = {LIMIT_SECONDS}",
    "runs = 64": "runs = 16",
}
TINY = {
    'name = "digits"': f'name = "{NAMES["cpu"]}"',
    f"epochs = {DECLARED_EPOCHS}": "epochs = 8",
    "originals = 8\nretrained = 64": "originals = 2\nretrained = 16",
    "runs = 64": f"runs = 16\n\n[limits]\nseconds = {LIMIT_SECONDS}",
}
CIFAR10, PACKED, DRAWN = "cifar10", "cifar10 as JPEG", "synthetic"
N_TRAIN, N_TEST, N_CLASSES, SHAPE = 50_000, 10_000, 10, (32, 32, 3)
NOISE = 64  # of a drawn image beside its class's pattern, in grey levels of 256


class Images(NamedTuple):
    """Where CIFAR-10's images are, as `prepare --data` takes them, or drawn ones in their place."""

    folder: Path
    kind: str  # CIFAR10, PACKED or DRAWN


def declared(device: str, folder: Path) -> Path:
    """Write the declaration of the small track for a kind of device into a folder, and return its file."""
    source, changes = ("cifar10", SMALL) if device == "cuda" else ("digits", TINY)
    text = (DECLARATIONS / f"{source}.toml").read_text()
    for whole, part in changes.items():
        assert text.count(whole) == 1, whole
        text = text.replace(whole, part)
    file = folder / f"{NAMES[device]}.toml"
    write_bytes(file, text.encode())
    return file


def opened(task: Task, device: str) -> Track | None:
    """Return the small track for a kind of device, None if it has not been prepared."""
    try:
        return catalogue.open_track(NAMES[device], Path(task.home) / "tracks")
    except (UsageError, MachineError):
        return None


def images_for(task: Task) -> Images:
    """Return images of CIFAR-10: those there are, unpacked if need be, or drawn ones."""
    given, own = None if task.data is None else Path(task.data), Path(task.home) / "images"
    if given is not None and given.is_dir():
        return Images(given, CIFAR10)
    if not (own / "test.npz").is_file():
        for part, n in (("train", N_TRAIN), ("test", N_TEST)):
            write_arrays(own / f"{part}.npz", drawn(n) if given is None else unpacked(given, part))
    return Images(own, DRAWN if given is None else PACKED)


def unpacked(file: Path, part: str) -> dict[str, np.ndarray]:
    """Return the images (n, 32, 32, 3) uint8 and labels (n,) of a file that holds them as JPEGs, end to end.

    part: train or test; the file has PART_jpeg (bytes), PART_offsets (n + 1) and PART_labels (n).
    """
    from PIL import Image

    packed = read_arrays(file)
    blob, offsets = packed[f"{part}_jpeg"].tobytes(), packed[f"{part}_offsets"].tolist()
    parts = (io.BytesIO(blob[begin:end]) for begin, end in itertools.pairwise(offsets))
    images = np.stack([np.asarray(Image.open(one).convert("RGB")) for one in parts])
    return {"images": images, "labels": packed[f"{part}_labels"].astype(np.int64)}


def drawn(n: int) -> dict[str, np.ndarray]:
    """Return n images (n, 32, 32, 3) uint8 of ten patterns under noise, and their labels (n,)."""
    generator = np.random.default_rng(n)
    patterns = np.random.default_rng(0).integers(256, size=(N_CLASSES, *SHAPE), dtype=np.int16)
    labels = generator.integers(N_CLASSES, size=n)
    noise = generator.integers(-NOISE, NOISE + 1, size=(n, *SHAPE), dtype=np.int16)
    images = (patterns[labels] + noise).clip(0, 255).astype(np.uint8)
    return {"images": images, "labels": labels}
