"""Tracks as one file each, to hand on: with the private part or without it."""

import os
import shutil
import zipfile
import zlib
from pathlib import Path

from harness.errors import UsageError
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


def import_track(file: Path, tracks: Path) -> Track:
    """Unpack an exported track below the folder `tracks` under its own name, replacing one of that name.

    Raises UsageError if the file is no track, MachineError if it is damaged.
    """
    tracks.mkdir(parents=True, exist_ok=True)
    unpacked = tracks / f".import-{os.getpid()}"
    try:
        with zipfile.ZipFile(file) as archive:
            _check_names(archive)
            archive.extractall(unpacked)
        parse_declaration((unpacked / "track.toml").read_text(encoding="utf-8"))
        name = load_track(unpacked).name
        replace_folder(unpacked, tracks / name)
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        hint = "make one with harness prepare TRACK --export FILE"
        raise UsageError(f"{file} is no exported track ({error}); {hint}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return load_track(tracks / name)


def _check_names(archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        parts = Path(name).parts
        if ".." in parts or not CONTENTS.intersection(parts[:1]):
            raise ValueError(f"it holds an unexpected file {name!r}")
