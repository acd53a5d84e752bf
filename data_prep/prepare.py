"""Prepares a track: data, split, secret, originals and two pools of retrained models with their records, in one folder.

The folder is built beside its place and takes it only when it is complete; an interrupted preparation is resumed.
"""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep import reference
from data_prep.draft import OnNote, is_draft_of, lay_out, mark_as_draft
from data_prep.drift import Drift, drift
from data_prep.reference import OnProgress
from data_prep.ways import Way, recorded_way, way_of_draft
from harness.environment import environment
from harness.errors import MachineError
from harness.record import Records
from harness.storage import hash_folder, replace_folder
from harness.tracks.declaration import Declaration
from harness.tracks.hashes import reference_hash, secret_commitment
from harness.tracks.preparing import preparing
from harness.tracks.track import ORIGINALS, POOLS, Track, load_track, siblings, write_manifest

__all__ = ["Prepared", "grow", "prepare"]

ROUNDED = (
    "models are trained in bfloat16, which is clearly faster here; to train them in float32 on every machine, "
    'write precision = "float32" below [training]'
)


@dataclass(frozen=True)
class Prepared:
    """A prepared track, and how far it is from the one it replaced, if that was of the same data and split."""

    track: Track
    drift: Drift | None
    originals_of: str | None  # the sibling whose original models it has


def prepare(
    declaration: Declaration,
    declaration_file: Path,
    tracks: Path,
    *,
    jobs: int,
    device: str = "cpu",
    data: Path | None = None,
    retrained: int | None = None,
    anew: bool = True,
    on_progress: OnProgress = lambda done, total: None,
    on_note: OnNote = lambda note: None,
) -> Prepared:
    """Prepare a declared track as a folder of its name below `tracks`, replacing one that is there.

    The original models are those of a sibling, if one is prepared there. device: what models are trained on, cpu or
    cuda. data: a folder that has the source's data already; else they are downloaded where that is possible.
    retrained: how many models each pool gets, by default as declared; `grow` adds others, of the seeds they would have.
    anew: False keeps one that is there, such as one that another process prepared since nothing was found there.
    on_note: is told what may not be meant, before anything is trained.
    Raises UsageError if the declaration does not fit its data, or if another process is preparing the same track.
    """
    started = time.monotonic()
    place = tracks / declaration.name
    with preparing(place):
        if place.exists() and not anew:
            return Prepared(load_track(place), None, None)
        before = _retrained_before(place)
        cache = tracks.parent / "data"
        draft = lay_out(
            *(declaration, declaration_file, _partial(place)),
            cache=cache,
            data=data,
            retrained=retrained,
            on_note=on_note,
        )
        sibling = next(iter(siblings(draft)), None)
        way = way_of_draft(draft, sibling, jobs, device)
        if way.is_mixed and device == "cpu":
            on_note(ROUNDED)
        stacks = reference.plan_stacks(draft, jobs, present={}, way=way)
        if sibling is not None:
            reference.adopt_originals(draft, stacks, sibling, device)
        reference.train_missing(draft, stacks, jobs, device, on_progress)
        reference.join(draft, stacks)
        _complete(draft, place, device, way, time.monotonic() - started)
    track = load_track(place)
    return Prepared(track, _drift_from(before, track), None if sibling is None else sibling.name)


def grow(
    track: Track,
    retrained: int,
    *,
    jobs: int,
    device: str = "cpu",
    on_progress: OnProgress = lambda done, total: None,
) -> Track:
    """Add retrained models until each pool holds so many; those there are stay as they are.

    Raises UsageError if another process is preparing the same track.
    """
    started = time.monotonic()
    if retrained <= track.manifest.retrained:
        return track
    before = track.manifest.retrained
    present = dict.fromkeys(POOLS, before) | {ORIGINALS: track.declaration.reference.originals}
    with preparing(track.folder):
        grown = track.manifest.model_copy(update={"retrained": retrained})
        draft = Track(_partial(track.folder), track.declaration, grown)
        resumed = is_draft_of(draft)
        if not resumed:
            shutil.rmtree(draft.folder, ignore_errors=True)
            shutil.copytree(track.folder, draft.folder)
        way = recorded_way(track)
        stacks = reference.plan_stacks(draft, jobs, present=present, way=way)
        if not resumed:
            reference.split_off(draft, stacks)
            mark_as_draft(draft)
        reference.train_missing(draft, stacks, jobs, device, on_progress)
        reference.join(draft, stacks)
        _complete(draft, track.folder, device, way, time.monotonic() - started)
    return load_track(track.folder)


def _partial(place: Path) -> Path:
    return place.with_name(f".{place.name}.partial")


@dataclass(frozen=True)
class _Before:
    fingerprint: str
    pools: list[Records]


def _retrained_before(folder: Path) -> _Before | None:
    """Return the retrained models of the track that is about to be replaced; None if there is none, or none intact."""
    if not folder.exists():
        return None
    try:
        track = load_track(folder)
        return _Before(track.manifest.fingerprint, _pools(track))
    except MachineError:
        return None


def _drift_from(before: _Before | None, track: Track) -> Drift | None:
    """Return how far a track is from the one before; None without one of the same data and split."""
    if before is None or before.fingerprint != track.manifest.fingerprint:
        return None
    return drift(before.pools, _pools(track), track.examples("forget").labels)


def _pools(track: Track) -> list[Records]:
    return [track.retrained(pool) for pool in POOLS]


def _complete(draft: Track, place: Path, device: str, way: Way, seconds: float) -> None:
    """Write the manifest and put the folder in its place; what an interrupted one goes on from is kept until then."""
    here = environment()
    found = {"torch": here["torch"], "device": device, "machine": here["machine"], "seconds": round(seconds, 1)}
    found |= asdict(way)
    hashes = {
        "public_hash": hash_folder(draft.public),
        "reference_hash": reference_hash(draft.private),
        "secret_commitment": secret_commitment(draft.secret),
    }
    manifest = draft.manifest.model_copy(update={**hashes, "prepared": found})
    write_manifest(draft.folder, manifest)
    replace_folder(draft.folder, place)
    for name in ("draft", "way.json"):
        (place / name).unlink(missing_ok=True)
    shutil.rmtree(place / "parts", ignore_errors=True)
