"""The command that makes tracks ready."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.accelerator import of
from harness.cli.options import (
    Device,
    chosen_device,
    console,
    tracks_beginning,
)
from harness.cli.outlook import Outlook, is_long, pack_instead
from harness.cli.results import require_place
from harness.environment import home, require_writable
from harness.errors import MachineError, UsageError

if TYPE_CHECKING:
    from harness.tracks import catalogue
    from harness.tracks.declaration import Declaration
    from harness.tracks.pack import OwnData
    from harness.tracks.track import Track

__all__ = ["prepare_command"]

IMPORT_ALONE = (
    "--import goes with no other option but --force, --data and --for-tuning; give the others once it is unpacked"
)


@click.command("prepare")
@click.argument("track_name", metavar="TRACK", shell_complete=tracks_beginning)
@click.option("--force", is_flag=True, help="Prepare or import it anew; of the former, say how far it is from the old.")
@click.option(
    "--retrained", type=click.IntRange(min=1), help="Models in each pool; more may be added.  [default: as declared]"
)
@click.option(
    "--for-tuning", is_flag=True, help="Make the track that harness tune uses: TRACK with another forget set."
)
@click.option("--estimate", is_flag=True, help="Say how long it takes, from a few timed steps; prepare nothing.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A folder with the data.")
@click.option("--export", "public_file", type=click.Path(path_type=Path), help="Write the public part as one file.")
@click.option("--export-private", "whole_file", type=click.Path(path_type=Path), help="Write all, secret included.")
@click.option("--without-images", is_flag=True, help="Write a pack: for whoever has the same images.")
@click.option("--import", "import_file", type=click.Path(path_type=Path), help="Unpack an exported track or a pack.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="How many trainings at once.  [default: the cores; 4 on a GPU]"
)
@click.option("--device", type=Device(), default="auto", show_default=True, help="What trains.")
def prepare_command(
    track_name: str,
    force: bool,
    retrained: int | None,
    for_tuning: bool,
    estimate: bool,
    data: Path | None,
    public_file: Path | None,
    whole_file: Path | None,
    without_images: bool,
    import_file: Path | None,
    jobs: int | None,
    device: str,
) -> None:
    """Make a track ready: split the data, train originals and retrained models.

    A declaration of several forget sets makes as many tracks, which share data and originals.
    """
    from harness.tracks import catalogue

    tracks = home() / "tracks"
    for file in (public_file, whole_file):
        require_place(file, is_file=True)
    if import_file is not None:
        if any((estimate, without_images, retrained, public_file, whole_file, jobs, device != "auto")):
            raise UsageError(IMPORT_ALONE)
        _import(import_file, track_name, tracks, data, for_tuning=for_tuning, force=force)
        return
    if without_images and public_file is None and whole_file is None:
        raise UsageError("--without-images goes with --export FILE or --export-private FILE")
    if for_tuning:
        found = _for_tuning(track_name, tracks, data, may_differ=force)
    else:
        found = _by_name(track_name, tracks, force)
    kind = chosen_device(device)
    trainer = _Trainer(tracks, jobs or of(kind).default_trainings(), kind, data)
    if estimate:
        trainer.estimate(found, retrained)
        return
    exported = [(file, is_whole) for file, is_whole in ((public_file, False), (whole_file, True)) if file is not None]
    if len(found) > 1 and exported:
        raise UsageError(f"{track_name} declares {len(found)} tracks; name one of them to export it: {found[0].name}")
    for declared in found:
        is_new = force or not ((tracks / declared.name).exists() or declared.shipped is not None)
        if is_new:
            trainer.prepare(declared, retrained, anew=force)
        track = catalogue.open_declared(declared, tracks)
        if retrained is not None and retrained > track.manifest.retrained:
            track = trainer.grow(track, retrained)
        for file, is_whole in exported:
            _export(track, file, private=is_whole, images=not without_images)
        _say_ready(track)
        _show_page(track, anew=is_new or retrained is not None)


def _say_ready(track: Track) -> None:
    n_retrained = track.manifest.retrained
    console().print(f"{track.name} is ready: {n_retrained} retrained models in each pool, in {track.folder}")


def _by_name(track_name: str, tracks: Path, force: bool) -> list[catalogue.Declared]:
    """Return the tracks of a name or a file. Raises UsageError for one that another command makes anew."""
    from harness.tracks import catalogue
    from harness.tracks.tuning_track import tuned_for

    found = catalogue.find_tracks(track_name, tracks)
    if force and (scored := tuned_for(found[0].declaration)) is not None:
        raise UsageError(f"{track_name} is made of {scored}; run: {found[0].command} --force")
    return found


def _for_tuning(track_name: str, tracks: Path, data: Path | None, *, may_differ: bool) -> list[catalogue.Declared]:
    """Return the track on which settings for a prepared track are tuned.

    What declares it lies in a folder that ends with the command. Raises UsageError if another track is there in its
    place, unless it may differ.
    """
    from harness.tracks import catalogue
    from harness.tracks.declaration import read_declaration
    from harness.tracks.tuning_track import open_tuning_track, tuning_name, write_tuning_source

    if data is not None:
        raise UsageError(f"--for-tuning takes the images of {track_name} as it is prepared; leave out --data")
    track = catalogue.open_track(track_name, tracks)
    if (tracks / tuning_name(track)).exists() and not may_differ:
        open_tuning_track(track)
    folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory(dir=tracks, prefix=".tuning-"))
    file = write_tuning_source(track, Path(folder))
    return [catalogue.Declared(read_declaration(file), file)]


def _export(track: Track, file: Path, *, private: bool, images: bool) -> None:
    from harness.tracks.archive import export_track

    export_track(track, file, private=private, images=images)
    part = "all" if private else "the public part"
    console().print(f"wrote {part} of {track.name}{'' if images else ', without its images,'} to {file}")


def _import(file: Path, track_name: str, tracks: Path, data: Path | None, *, for_tuning: bool, force: bool) -> None:
    """Unpack a track: one of those that are declared by the name, or else of this very name."""
    from harness.tracks import catalogue
    from harness.tracks.archive import is_pack
    from harness.tracks.pack import OtherDataError

    if for_tuning:
        found = _for_tuning(track_name, tracks, data, may_differ=True)
    else:
        found = catalogue.find_tracks(track_name, tracks) if catalogue.is_declared(track_name) else []
    expected: dict[str, Declaration | None] = {declared.name: declared.declaration for declared in found}
    require_writable(tracks)
    if data is not None and not is_pack(file):
        raise UsageError(f"{file} holds its images; leave out --data, which is for a pack, a track without them")
    own = _own_data(tracks, found[0].file.parent if found else Path(), data)
    try:
        track = _unpacked(file, tracks, expected or {track_name: None}, own, may_replace=force)
    except OtherDataError as error:
        raise UsageError(
            f"{file} is a pack of other images: {error}; give those it was made from, with --data FOLDER, or leave "
            "out --import to train all models"
        ) from None
    console().print(f"unpacked {track.name} to {track.folder}")
    _show_page(track)


def _unpacked(
    file: Path, tracks: Path, expected: dict[str, Declaration | None], own: OwnData, *, may_replace: bool = False
) -> Track:
    """Return the track of a file, unpacked while nobody else makes or replaces one of those expected."""
    from harness.tracks.archive import import_track
    from harness.tracks.preparing import preparing

    with contextlib.ExitStack() as locks:
        for name in expected:
            locks.enter_context(preparing(tracks / name))
        return import_track(file, tracks, expected=expected, may_replace=may_replace, own=own)


def _own_data(tracks: Path, folder: Path, data: Path | None) -> OwnData:
    """Return what reads a user's copy of the images of a pack; folder: where a relative path starts."""
    from data_prep.own_data import own_data

    return partial(own_data, folder=folder, cache=tracks.parent / "data", data=data)


def _show_page(track: Track, *, anew: bool = False) -> None:
    """Say what a track is like, and where its page is; it is written if it is not there."""
    from harness.evaluation.reference import load_reference
    from harness.report.track_page import PAGE, track_page, write_track_page  # imports matplotlib
    from harness.runs.store import Results

    if track.manifest.reference_hash is None or ((track.folder / PAGE).is_file() and not anew):
        return
    reference = load_reference(track, track.usual_runs, Results.cache(home(), track))
    page = track_page(track, reference)
    console().print(page.verdict)
    console().print(f"what it is like: {write_track_page(track, page)}")


@dataclass(frozen=True)
class _Trainer:
    """How the models of tracks are trained here."""

    tracks: Path
    jobs: int
    device: str
    data: Path | None

    def prepare(self, declared: catalogue.Declared, retrained: int | None, *, anew: bool) -> None:
        from data_prep.prepare import prepare  # imports torch
        from harness.report.terminal import ProgressBar
        from harness.tracks import catalogue

        require_writable(self.tracks)
        if not anew and self._took_pack(declared):
            return
        with contextlib.suppress(UsageError, MachineError):  # what it is compared with, if there is anything
            catalogue.open_declared(declared, self.tracks)
        with ProgressBar(console(), f"preparing {declared.name}") as bar:
            outlook = Outlook(declared, bar.console.print)

            def on_progress(done: int, total: int) -> None:
                bar(done, total)
                outlook(done, total)

            prepared = prepare(
                declared.declaration,
                declared.file,
                self.tracks,
                jobs=self.jobs,
                device=self.device,
                data=self.data,
                retrained=retrained,
                anew=anew,
                on_progress=on_progress,
                on_note=bar.console.print,
            )
        if (track := prepared.originals_of) is not None:
            console().print(f"{declared.name} has the original models of {track}")
        if prepared.drift is not None:
            console().print(str(prepared.drift))

    def _took_pack(self, declared: catalogue.Declared) -> bool:
        """Whether a track is there now, from the pack of it that ships and the user's images."""
        from harness.tracks.pack import OtherDataError

        if declared.pack is None:
            return False
        own = _own_data(self.tracks, declared.file.parent, self.data)
        try:
            _unpacked(declared.pack, self.tracks, {declared.name: declared.declaration}, own)
        except OtherDataError as error:
            differing = f"the pack of {declared.name} that ships is of other images: {error}"
            console().print(f"{differing}; all models are trained")
            return False
        console().print(f"{declared.name} has the models of the pack that ships")
        return True

    def grow(self, track: Track, retrained: int) -> Track:
        from data_prep.prepare import grow  # imports torch
        from harness.report.terminal import ProgressBar

        require_writable(self.tracks)
        with ProgressBar(console(), f"adding models to {track.name}") as bar:
            return grow(track, retrained, jobs=self.jobs, device=self.device, on_progress=bar)

    def estimate(self, found: list[catalogue.Declared], retrained: int | None) -> None:
        from data_prep.estimate import estimate  # imports torch

        require_writable(self.tracks)
        first = found[0]
        at_once = f"{self.jobs} trainings at once" if self.jobs > 1 else "one training at a time"
        console().print(f"timing a few steps of {first.name} on {self.device}, {at_once}; nothing is prepared ...")
        result = estimate(
            first.declaration,
            first.file,
            self.tracks,
            jobs=self.jobs,
            device=self.device,
            data=self.data,
            retrained=retrained,
            on_note=console().print,
        )
        if len(found) > 1:
            console().print(f"each of {len(found)} tracks, which share their original models:")
        for name, value, remark in result.lines:
            console().print(f" {name:17s} {value:12s} {remark}")
        if is_long(result.preparation_seconds):
            console().print(pack_instead(first))
