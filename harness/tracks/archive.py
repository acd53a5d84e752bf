"""Tracks as one file each, to hand on: with the private part or without it."""

import contextlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

from harness.errors import MachineError, UsageError
from harness.quoting import quoted
from harness.spelling import did_you_mean_file
from harness.storage import files_in, replace_folder
from harness.tracks.declaration import parse_declaration
from harness.tracks.track import Track, load_track

__all__ = ["export_track", "import_track"]

CONTENTS = {"track.toml", "manifest.json", "public", "private"}


def export_track(track: Track, file: Path, *, private: bool) -> None:
    """Write a track as one file: its public part, or with `private` all of it, the reference and the secret too."""
    partial = file.with_name(f".{file.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files_in(track.folder):
            name = path.relative_to(track.folder)
            if name.parts[0] not in CONTENTS or (name.parts[0] == "private" and not private):
                continue
            content = path.read_bytes()
            if name.name == "manifest.json" and not private:
                public = track.manifest.model_copy(update={"reference_hash": None, "secret_commitment": None})
                content = public.model_dump_json(indent=2).encode()
            archive.writestr(zipfile.ZipInfo(name.as_posix()), content, zipfile.ZIP_DEFLATED)
    os.replace(partial, file)


def import_track(file: Path, tracks: Path, *, names: Collection[str] | None = None, may_replace: bool = False) -> Track:
    """Unpack an exported track below the folder `tracks` under its own name, unless this very track is there.

    names: those it may have. may_replace: whether it takes the place of another track of its name.
    Raises UsageError if the file is no track, or one that is not to be unpacked, MachineError if it is damaged.
    """
    hint = "make one with harness prepare TRACK --export FILE"
    if not file.exists():
        raise UsageError(f"no file {file}{did_you_mean_file(file, {file.suffix})}; {hint}")
    tracks.mkdir(parents=True, exist_ok=True)
    unpacked = tracks / f".import-{os.getpid()}"
    try:
        with zipfile.ZipFile(file) as archive:
            _check_names(archive)
            archive.extractall(unpacked)
        parse_declaration((unpacked / "track.toml").read_text(encoding="utf-8"))
        track = load_track(unpacked)
        command = f"harness prepare {track.name} --import {quoted(file)}"
        if names is not None and track.name not in names:
            raise UsageError(f"{file} holds the track {track.name}, not {' or '.join(names)}; run: {command}")
        place = tracks / track.name
        if may_replace or not place.exists():
            replace_folder(unpacked, place)
        elif not _is_same(track, place):
            raise UsageError(
                f"the track {track.name} is there already, in {place}, and {file} holds {_other(track, place)}; to "
                f"replace it: {command} --force"
            )
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise UsageError(f"{file} is no exported track ({error}); {hint}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return load_track(place)


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


def _check_names(archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        parts = Path(name).parts
        if ".." in parts or not CONTENTS.intersection(parts[:1]):
            raise ValueError(f"it holds an unexpected file {name!r}")
