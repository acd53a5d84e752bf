"""Images in folders, one per class: FOLDER/cat/1.png, or FOLDER/train/cat/1.png beside FOLDER/test/cat/2.png."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_prep.sources.dataset import Dataset
from harness.errors import UsageError
from harness.tracks.track import Examples

__all__ = ["read_image_folder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_image_folder(folder: Path) -> Dataset:
    """Return the images below a folder; classes are numbered in the order of their names.

    All images have one size; they are grey if all are, else RGB. Raises UsageError naming the file that does not fit.
    """
    halves = [folder / "train", folder / "test"]
    if not all(half.is_dir() for half in halves):
        classes = _classes(folder)
        return Dataset(_read(folder, classes), class_names=classes)
    classes = _classes(halves[0])
    train, test = (_read(half, classes) for half in halves)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UsageError(f"{folder}: images of train and test differ in size or colour")
    return Dataset.joined(train, test, classes)


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(classes) < 2:
        raise UsageError(f"{folder} must hold a folder of images for each of at least two classes")
    return classes


def _read(folder: Path, classes: tuple[str, ...]) -> Examples:
    images: list[Image.Image] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).glob("*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise UsageError(f"{folder / name} holds no images ({', '.join(SUFFIXES)})")
        for file in files:
            images.append(_image(file))
            if images[-1].size != images[0].size:
                sizes = f"{_size(images[-1])}, others are {_size(images[0])}"
                raise UsageError(f"{file} is {sizes}; bring all images to one size")
        labels += [label] * len(files)
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    pixels = np.stack([np.asarray(image.convert(mode)) for image in images])
    return Examples(pixels if pixels.ndim == 4 else pixels[..., None], np.array(labels, np.int64))


def _image(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            return image.copy()
    except (OSError, UnidentifiedImageError):
        raise UsageError(f"{file} cannot be read as an image") from None


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"
