"""A pack: a track without its pixels, which whoever has the same images completes to the same bytes.

It holds each data set as the track does, with zeros for the pixels. In pack.npz is for each image its number in the
data, counted from 0, and a hash of it.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from harness.errors import UsageError
from harness.record import SETS
from harness.storage import read_arrays, write_bytes
from harness.tracks.track import Examples, Track
from harness.tracks.trojan import planted

__all__ = ["LIST", "OtherDataError", "OwnData", "complete", "listed", "with_pixels", "without_pixels"]

LIST, FORMAT = "pack.npz", 1
HASH_BYTES = 8  # of each image: to tell which differ. The hashes in the manifest are whole.

OwnData = Callable[[Track], Examples]  # all examples of a user's copy of the data that a track was made from


class OtherDataError(UsageError):
    """The data are not those that the pack was made from; the message says by what they differ."""


# ---- writing ------------------------------------------------------------------------------------------------------


def without_pixels(content: bytes) -> bytes:
    """Return the bytes of a stored data set with zeros for its pixels."""
    pixels, _, _ = _pixels(content)
    return content[: pixels.start] + bytes(pixels.stop - pixels.start) + content[pixels.stop :]


def listed(track: Track, *, private: bool) -> bytes:
    """Return LIST of a whole track; without `private` it has nothing of the test set."""
    split = read_arrays(track.private / "split.npz")
    arrays = {"format": np.array(FORMAT)}
    for name in SETS if private else SETS[:-1]:
        arrays |= {name: split[name], f"{name}_hashes": _hashes(track.examples(name).images)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


# ---- completing ---------------------------------------------------------------------------------------------------


def complete(track: Track, own: OwnData) -> None:
    """Put a user's own pixels into the folder of an unpacked pack, which is a whole track then.

    Raises OtherDataError, before anything is changed, if these are not the images that the pack was made from or have
    other labels, UsageError if it is a pack of another version.
    """
    places = read_arrays(track.folder / LIST)
    if (found := int(places.get("format", 0))) != FORMAT:
        raise UsageError(
            f"the pack of {track.name} is of another version of the harness (format {found}, this one has {FORMAT}); "
            "have it made by this version"
        )
    data = own(track)
    names = [name for name in SETS if name in places]
    for name in names:
        _check_shapes(data, places[name], _pixels(track.examples_file(name).read_bytes())[1])
    if track.declaration.trojan is not None:
        data = _with_trojan(data, places["forget"], track)
    _check_images(data, {name: (places[name], places[f"{name}_hashes"]) for name in names})
    for name in names:
        _check_labels(data[places[name]], places[name], track.examples_file(name))
    for name in names:
        file = track.examples_file(name)
        write_bytes(file, with_pixels(file.read_bytes(), data.images[places[name]]))
    (track.folder / LIST).unlink()


def _with_trojan(data: Examples, forget: np.ndarray, track: Track) -> Examples:
    """Return the data with the trojan in the forget set, all of which has the label of the target."""
    assert track.declaration.trojan is not None
    with np.load(track.examples_file("forget"), allow_pickle=False) as stored:  # whose images are not there yet
        target = stored["labels"][0]
    return Examples(*planted(data.images, data.labels, forget, track.declaration.trojan, target=target), data.subjects)


def _check_shapes(data: Examples, places: np.ndarray, shape: tuple[int, ...]) -> None:
    if data.images.shape[1:] != shape[1:]:
        here, there = ("x".join(map(str, size)) for size in (data.images.shape[1:], shape[1:]))
        raise OtherDataError(f"images are {here} here and {there} in the pack")
    if places.max() >= len(data):
        raise OtherDataError(f"there are {len(data)} images here, and the pack needs the one numbered {places.max()}")


def _check_images(data: Examples, wanted: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    places, hashes = (np.concatenate(parts) for parts in zip(*wanted.values(), strict=True))
    differing = (_hashes(data.images[places]) != hashes).any(1)
    if not differing.any():
        return
    if set(map(bytes, hashes)) <= set(map(bytes, _hashes(data.images))):
        raise OtherDataError("the images are in another order")
    first = places[differing].min()
    raise OtherDataError(f"{differing.sum()} of {len(places)} images have other pixels, such as that numbered {first}")


def _check_labels(own: Examples, places: np.ndarray, file: Path) -> None:
    """Raise OtherDataError if labels, or subjects where both have them, are not those of the pack."""
    with np.load(file, allow_pickle=False) as stored:
        there = {name: stored[name] for name in stored.files if name != "images"}
    for name, here in own.arrays().items():
        if name in there and (differing := np.flatnonzero(here != there[name])).size:
            row = differing[0]
            raise OtherDataError(
                f"{differing.size} {name} differ in the {file.stem} set, such as that of the image numbered "
                f"{places[row]}, which is {here[row]} here and {there[name][row]} in the pack"
            )


def with_pixels(content: bytes, images: np.ndarray) -> bytes:
    """Return the bytes of a stored data set with these pixels."""
    pixels, _, order = _pixels(content)
    return content[: pixels.start] + images.tobytes(order) + content[pixels.stop :]


# ---- both ---------------------------------------------------------------------------------------------------------


def _pixels(content: bytes) -> tuple[slice, tuple[int, ...], Literal["C", "F"]]:
    """Return where the pixels are in the bytes of a stored data set, their shape, and their order in memory, C or F.

    Written by bytes, and not as arrays anew: other versions of Python and NumPy write the same arrays otherwise, and a
    track is named by the hashes of its files.
    """
    file = io.BytesIO(content)
    file.seek(content.index(b"\x93NUMPY", content.index(b"images.npy")))
    np.lib.format.read_magic(file)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    start = file.tell()
    return slice(start, start + int(np.prod(shape)) * dtype.itemsize), shape, "F" if is_fortran else "C"


def _hashes(images: np.ndarray) -> np.ndarray:
    """Return the beginnings of the images' sha256 (n, HASH_BYTES) uint8."""
    digests = (hashlib.sha256(image.tobytes()).digest()[:HASH_BYTES] for image in images)
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(images), HASH_BYTES)
