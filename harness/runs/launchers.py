"""What starts the runs of a track on this machine. It needs nothing of what measures them, and gets ready beside it.

A learner's `train` runs where nothing but what it trains on was ever loaded: it has a launcher for all of the training
set, and one for the retain set, each over a folder that looks as the public part of a track does.
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

__all__ = ["TRAINING_SET", "launcher_for", "training_folder"]

TRAINING_SET = "train"  # what `train` is given, in the order of the data


def launcher_for(track: Track, conditions: Conditions, trained_on: Sequence[str] = ()) -> Launcher:
    """Return what starts the runs of a track under some conditions; the same for all of this process.

    trained_on: the sets that runs of `train` are given, as one in the order of the data; none for other runs.
    """
    limits = track.declaration.limits
    return launcher(
        training_folder(track, tuple(trained_on)) if trained_on else track.public,
        public_hash=track.manifest.public_hash,
        device=conditions.device,
        log_kb=limits.log_kb,
        isolation=conditions.isolation.level,
        quota=Quota(limits.memory_mb, limits.processes, limits.scratch_mb, conditions.threads),
        fork=conditions.fork,
    )


def training_folder(track: Track, trained_on: tuple[str, ...]) -> Path:
    """Return a folder, as long as this process lives, with what `train` may see: a training set, val, no original."""
    key = (track.folder.resolve(), track.manifest.public_hash, trained_on)
    with _making:
        if key not in _folders:
            _folders[key] = _made_folder(track, trained_on)
    return _folders[key]


_folders: dict[tuple[object, ...], Path] = {}
_making = threading.Lock()


def _made_folder(track: Track, trained_on: tuple[str, ...]) -> Path:
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
    size = without_single(task["batch_size"], [len(labels)])
    own = {"originals": 0, "sets": [TRAINING_SET, "val"], "batch_size": size}
    write_json(folder / "task.json", task | own)
    if (file := own_file(track.declaration.model.name)) is not None:
        shutil.copyfile(track.public / file, folder / file)
    return folder
