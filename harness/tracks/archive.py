"""Tracks as one file each, to hand on: with the private part or without it, with the images or as a pack, without."""

import contextlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import MachineError, UsageError
from harness.quoting import quoted
from harness.record import SETS
from harness.spelling import did_you_mean_file
from harness.storage import files_in, replace_folder, replacing
from harness.tracks.declaration import Declaration
from harness.tracks.pack import LIST, OwnData, complete, listed, without_pixels
from harness.tracks.track import Track, damage, load_track, read_track
from harness.tracks.tuning_track import preparing_command, tuned_for

__all__ = ["export_track", "import_track", "is_pack"]

CONTENTS = {"track.toml", "manifest.json", "public", "private", LIST}
HINT = "make one with harness prepare TRACK --export FILE"


def export_track(track: Track, file: Path, *, private: bool, images: bool = True) -> None:
    """Write a track as one file: its public part, or with `private` all of it, the reference and the secret too.

    Without `images` it is a pack, to be completed where the same images are. That takes the track's private part.
    """
    if private or not images:
        track.require_private()
    mode = 0o600 if private else 0o644
    with replacing(file, mode) as opened, zipfile.ZipFile(opened, "w") as archive:
        for name, content in _contents(track, private=private, images=images):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)


def _contents(track: Track, *, private: bool, images: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a track that are handed on, each with its content."""
    data = {track.examples_file(name) for name in SETS}
    for path in files_in(track.folder):
        name = path.relative_to(track.folder)
        if name.parts[0] not in CONTENTS or (name.parts[0] == "private" and not private):
            continue
        content = path.read_bytes()
        if name.name == "manifest.json" and not private:
            public = track.manifest.model_copy(update={"reference_hash": None, "secret_commitment": None})
            content = public.model_dump_json(indent=2).encode()
        if path in data and not images:
            content = without_pixels(content)
        yield name.as_posix(), content
    if not images:
        yield LIST, listed(track, private=private)


def is_pack(file: Path) -> bool:
    """Whether an exported track has no images. Raises UsageError if the file is no exported track."""
    with _read(file), zipfile.ZipFile(file) as archive:
        return LIST in archive.namelist()


def import_track(
    file: Path,
    tracks: Path,
    *,
    expected: Mapping[str, Declaration | None] | None = None,
    may_replace: bool = False,
    own: OwnData | None = None,
) -> Track:
    """Unpack an exported track below the folder `tracks` under its own name, unless this very track is there.

    expected: the names that it may have, each with the declaration that it has to be of, if one is known.
    may_replace: whether it takes the place of another track of its name. own: what reads the images of a pack.
    Raises UsageError if the file is no track, or one that is not to be unpacked, such as a pack of other images
    (OtherDataError), MachineError if it is damaged.
    """
    with _unpacked(file, tracks) as track:
        has_images, place = not (track.folder / LIST).exists(), tracks / track.name
        if has_images:
            _check_whole(track, file)
        _check_expected(track, file, expected)
        if place.exists() and not may_replace:
            _check_same(track, file, place)
        else:
            if not has_images:
                _complete(track, file, own)
            replace_folder(track.folder, place)
    return load_track(place)


@contextlib.contextmanager
def _unpacked(file: Path, tracks: Path) -> Iterator[Track]:
    """Unpack an exported track into a folder beside its place, which is gone afterwards if it was not put there."""
    tracks.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tracks, prefix=".import-", ignore_cleanup_errors=True) as folder:
        with _read(file), zipfile.ZipFile(file) as archive:
            _check_names(archive)
            archive.extractall(Path(folder) / "track")
            track = read_track(Path(folder) / "track")
        _keep_private(track)
        yield track


def _keep_private(track: Track) -> None:
    """Let nobody else read the private part, as where it was prepared."""
    if track.private.exists():
        track.private.chmod(0o700)
    for path in files_in(track.private):
        path.chmod(0o600)


@contextlib.contextmanager
def _read(file: Path) -> Iterator[None]:
    """Say that a file is no exported track if it cannot be read as one."""
    if not file.exists():
        raise UsageError(f"no file {file}{did_you_mean_file(file, {file.suffix})}; {HINT}")
    try:
        yield
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise UsageError(f"{file} is no exported track ({error}); {HINT}") from None


def _check_names(archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        parts = Path(name).parts
        if ".." in parts or not CONTENTS.intersection(parts[:1]):
            raise ValueError(f"it holds an unexpected file {name!r}")


def _check_whole(track: Track, file: Path) -> None:
    try:
        damaged = damage(track)
    except (OSError, ValueError) as error:
        damaged = str(error)
    if damaged:
        raise MachineError(f"{file} is damaged ({damaged}); get it once more")


def _check_expected(track: Track, file: Path, expected: Mapping[str, Declaration | None] | None) -> None:
    if expected is None:
        return
    if track.name not in expected:
        raise UsageError(
            f"{file} holds the track {track.name}, not {' or '.join(expected)}; run: {_command(track, file)}"
        )
    declared = expected[track.name]
    if declared is not None and not track.declaration.is_same_track(declared):
        if (scored := tuned_for(declared)) is not None:
            raise UsageError(
                f"{file} was made for another preparation of {scored} than the one here, which may be one of the same "
                f"images; to train its models: {preparing_command(declared)}"
            )
        raise UsageError(
            f"{file} was made from another declaration of {track.name} than the one here; have it made from this one, "
            "or leave out --import to train all models"
        )


def _check_same(track: Track, file: Path, place: Path) -> None:
    if not _is_same(track, place):
        raise UsageError(
            f"the track {track.name} is there already, in {place}, and {file} holds {_other(track, place)}; to "
            f"replace it: {_command(track, file)} --force"
        )


def _is_same(track: Track, place: Path) -> bool:
    """Whether what lies at a place is this very track, whole; the manifest holds hashes of all there is."""
    try:
        return load_track(place).manifest == track.manifest
    except MachineError:
        return False


def _other(track: Track, place: Path) -> str:
    """Return what a track is beside the one at a place."""
    if track.manifest.reference_hash is None:
        return "the public part alone"
    with contextlib.suppress(MachineError):
        there = load_track(place).manifest
        if there.reference_hash is None and there.public_hash == track.manifest.public_hash:
            return "all of it, not the public part alone"
    return "another"


def _complete(track: Track, file: Path, own: OwnData | None) -> None:
    """Put a user's own images into an unpacked pack."""
    if own is None:
        raise UsageError(f"{file} is a pack, a track without its images; add your own: {_command(track, file)}")
    complete(track, own)
    _check_whole(track, file)


def _command(track: Track, file: Path) -> str:
    return f"{preparing_command(track.declaration)} --import {quoted(file)}"
