"""What starts the runs of a track on this machine. It needs nothing of what measures them, and gets ready beside it.

A learner's `train` runs where nothing but what it trains on was ever loaded: it has a launcher for all of the training
set, and one for the retain set, each over a folder that looks as the public part of a track does. So do deletion
requests: where they run, the training set was loaded as one, and nothing of what later ones forget.
"""

import atexit
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.runner.launch import launcher
from harness.runner.process import Launcher
from harness.runner.sandbox.sandboxes import Quota
from harness.runs.run import Conditions
from harness.storage import read_json, write_arrays, write_json
from harness.tracks.batch_size import without_single
from harness.tracks.track import Track

__all__ = ["TRAINING_SET", "launcher_for", "training_folder", "unlearning_folder"]

TRAINING_SET = "train"  # what `train` is given, in the order of the data


def launcher_for(track: Track, conditions: Conditions, trained_on: Sequence[str] = ()) -> Launcher:
    """Return what starts the runs of a track under some conditions; the same for all of this process.

    trained_on: the sets that runs of `train` are given, as one in the order of the data; none for other runs.
    """
    limits = track.declaration.limits
    return launcher(
        training_folder(track, tuple(trained_on)) if trained_on else unlearning_folder(track),
        public_hash=track.manifest.public_hash,
        device=conditions.device,
        log_kb=limits.log_kb,
        isolation=conditions.isolation.level,
        quota=Quota(limits.memory_mb, limits.processes, limits.scratch_mb, conditions.threads),
        fork=conditions.fork,
    )


def training_folder(track: Track, trained_on: tuple[str, ...]) -> Path:
    """Return a folder, as long as this process lives, with what `train` may see: a training set, val, no original."""
    return _folder(track, trained_on, originals=0)


def unlearning_folder(track: Track) -> Path:
    """Return a folder with what `unlearn` may see.

    With several deletion requests the training set is one there, in the order of the data: which examples of it a
    request is given comes with its job.
    """
    if track.declaration.forget.requests == 1:
        return track.public
    return _folder(track, ("retain", "forget"), originals=track.declaration.reference.originals)


def _folder(track: Track, trained_on: tuple[str, ...], *, originals: int) -> Path:
    key = (track.folder.resolve(), track.manifest.public_hash, trained_on, originals)
    with _making:
        if key not in _folders:
            _folders[key] = _made_folder(track, trained_on, originals)
    return _folders[key]


_folders: dict[tuple[object, ...], Path] = {}
_making = threading.Lock()


def _made_folder(track: Track, trained_on: tuple[str, ...], originals: int) -> Path:
    above = Path(tempfile.mkdtemp(prefix="harness-training-"))  # readable for its owner alone
    atexit.register(shutil.rmtree, above, ignore_errors=True)
    folder = above / "public"
    ids, sets = track.training_ids(), [track.examples(name) for name in trained_on]
    order = np.argsort(np.concatenate([ids[name] for name in trained_on]))
    images, labels = (np.concatenate([getattr(each, name) for each in sets])[order] for name in ("images", "labels"))
    write_arrays(folder / f"{TRAINING_SET}.npz", {"images": images, "labels": labels})
    val = track.examples("val")
    write_arrays(folder / "val.npz", {"images": val.images, "labels": val.labels})
    from harness.models import own_file  # imports torch

    task = read_json(track.public / "task.json")
    size = without_single(task["batch_size"], [] if originals else [len(labels)])
    own = {"originals": originals, "sets": [TRAINING_SET, "val"], "batch_size": size}
    write_json(folder / "task.json", task | own)
    file = own_file(track.declaration.model.name)
    for name in (*([file] if file else []), *(f"original-{index}.safetensors" for index in range(originals))):
        shutil.copyfile(track.public / name, folder / name)
    return folder
