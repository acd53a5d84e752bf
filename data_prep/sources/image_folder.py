"""Images in folders, one per class: FOLDER/cat/1.png, or FOLDER/train/cat/1.png beside FOLDER/test/cat/2.png."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep.sources.dataset import Dataset, natural_order
from data_prep.sources.picture import Picture, is_picture, read_picture
from harness.errors import UsageError
from harness.tracks.track import Examples

__all__ = ["read_image_folder"]

SUFFIXES = {  # of pictures: a file so called is an example, or an error if it cannot be read
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".tga"),
    *(".ico", ".exr", ".hdr", ".dcm", ".dng", ".cr2", ".nef", ".arw", ".raw"),
}
# What systems and archivers leave in folders, besides hidden files.
LEFT_BEHIND = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__"),
    *("@eadir", "lost+found", "$recycle.bin", "system volume information"),
}
ABOUT = {"readme", "license", "licence", "citation"}  # nobody takes these for labels
TRAIN, TEST, VAL = ("train", "training"), ("test", "testing"), ("val", "valid", "validation", "dev")


def read_image_folder(folder: Path) -> Dataset:
    """Return the images below a folder; classes are numbered in the natural order of their names: 1, 2, 10.

    All images have one size; they are grey if all are, else RGB. What else lies there is passed over, and noted.
    Raises UsageError naming the file that does not fit.
    """
    halves = _halves(folder)
    classes = _classes(halves)
    found = _Found()
    counts = [found.read(half, classes) for half in halves]
    found.check_sizes()
    mode = "L" if all(picture.image.mode == "L" for picture in found.pictures) else "RGB"
    pixels = np.stack([np.asarray(picture.image.convert(mode)) for picture in found.pictures])
    examples = Examples(pixels if pixels.ndim == 4 else pixels[..., None], np.array(found.labels, np.int64))
    return Dataset(examples, sum(counts[1:]), classes, tuple(found.notes(folder)))


@dataclass
class _Found:
    """The pictures of one or two folders of classes, and what lay beside them."""

    pictures: list[Picture] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)

    def read(self, folder: Path, classes: tuple[str, ...]) -> int:
        """Read the pictures of all classes below a folder; return how many there are."""
        before = len(self.pictures)
        self.passed_over += [path for path in _visible(folder) if path.is_file() and path.stem.lower() not in ABOUT]
        for label, name in enumerate(classes):
            files = [path for path in _files(folder / name) if self._is_example(path)]
            if not files:
                raise UsageError(f"{folder / name} holds no images; fill it or remove it")
            for file in files:
                self._take(file, label)
        return len(self.pictures) - before

    def _is_example(self, file: Path) -> bool:
        if file.suffix.lower() in SUFFIXES or is_picture(file):
            return True
        self.passed_over.append(file)
        return False

    def _take(self, file: Path, label: int) -> None:
        self.pictures.append(read_picture(file))
        self.labels.append(label)
        self.files.append(file)

    def check_sizes(self) -> None:
        """Raise UsageError naming a picture that differs in size from most."""
        sizes = Counter(picture.image.size for picture in self.pictures)
        usual, n = sizes.most_common(1)[0]
        odd = next((place for place, picture in enumerate(self.pictures) if picture.image.size != usual), None)
        if odd is not None:
            width, height = self.pictures[odd].image.size
            raise UsageError(
                f"{self.files[odd]} is {width} x {height} as a viewer shows it, {n} of {len(self.pictures)} images are "
                f"{usual[0]} x {usual[1]}; bring all images to one size"
            )

    def notes(self, folder: Path) -> Iterator[str]:
        """Yield what was passed over, and how transparent pictures are seen."""
        if self.passed_over:
            n, example = len(self.passed_over), self.passed_over[0].relative_to(folder)
            yield f"passed over in {folder}, as no image of a class: {n} file{'s' if n > 1 else ''}, such as {example}"
        grey = sum(picture.image.mode == "L" for picture in self.pictures)
        if 0 < grey < len(self.pictures):
            yield f"grey images among images in colour, which may tell a class: {grey} of {len(self.pictures)}"
        if n := sum(picture.is_transparent for picture in self.pictures):
            yield f"images with transparent parts, which are seen over white: {n} of {len(self.pictures)}"


def _halves(folder: Path) -> list[Path]:
    """Return the folders of the training and of the test set, or the folder itself if it is not so divided."""
    inside = _folders(folder)
    by_name = {path.name.lower(): path for path in inside}
    train, test, val = ([by_name[name] for name in names if name in by_name] for names in (TRAIN, TEST, VAL))
    is_divided = len(inside) > 1 and by_name.keys() <= {*TRAIN, *TEST, *VAL}
    if train and test:
        if val:
            raise UsageError(
                f"{val[0]} lies beside train and test; a val set is drawn as [split] says: move these images "
                "into train, or the folder elsewhere"
            )
        return [train[0], test[0]]
    if is_divided:
        raise UsageError(
            f"{folder} is divided into {' and '.join(sorted(path.name for path in inside))}; "
            "name the two folders train and test, or give the folder of one of them as source"
        )
    return [folder]


def _classes(halves: list[Path]) -> tuple[str, ...]:
    """Return the names of the classes, which have to be the same in both halves."""
    names = [{path.name for path in _folders(half)} for half in halves]
    if differing := names[0] ^ names[-1]:
        one = natural_order(differing)[0]
        there, missing = halves if one in names[0] else reversed(halves)
        raise UsageError(f"the class {one} is in {there} and not in {missing}; both need the same folders")
    for name in names[0]:
        if not name.isprintable():  # bytes that are no text have no printable name either
            raise UsageError(f"the folder {name!r} in {halves[0]} has a name that cannot be printed; rename it")
    if len(names[0]) == 1 and len(_folders(halves[0] / next(iter(names[0])))) > 1:
        inner = halves[0] / next(iter(names[0]))
        raise UsageError(f"{halves[0]} holds one folder; if the classes are in there, give {inner} as source")
    if len(names[0]) < 2:
        raise UsageError(f"{halves[0]} must hold a folder of images for each of at least two classes")
    return natural_order(names[0])


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    """Return what lies in a folder, in the order of the names, without what systems left there."""
    try:
        return sorted(path for path in folder.iterdir() if not _is_left_behind(path.name))
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror})") from None


def _files(folder: Path) -> list[Path]:
    """Return the files of a class, also those in folders within, without what systems left there."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not _is_left_behind(name)]
        if real not in seen:
            found += [Path(place) / name for name in names if not _is_left_behind(name)]
        seen.add(real)
    return sorted(found)


def _is_left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND
