"""The track that settings are tuned on: like a scored one, and without anything of what that one forgets.

It is made of the retain and the val set of the scored track, and forgets others of these examples. So nothing of the
scored forget set, the test set, the original or the retrained models is in it, and whoever has the public part of a
track can prepare it, and gets the same one. Its secret is published.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.scoring.thresholds import FEWEST_RANKED
from harness.storage import write_arrays, write_bytes
from harness.tracks.declaration import Data, Declaration, EvaluationSection, Forget, ReferenceSection, Split
from harness.tracks.track import Examples, Track, load_track

__all__ = [
    "open_tuning_track",
    "preparing_command",
    "runs_of_a_trial",
    "tuned_for",
    "tuning_declaration",
    "tuning_name",
    "write_tuning_source",
]

RETRAINED = FEWEST_RANKED  # models in each pool; more can be added
MOST_ORIGINALS = 4
SUFFIX = "-tuning"


def tuning_name(track: Track) -> str:
    """Return the name of the track on which settings for a track are tuned."""
    return f"{track.name}{SUFFIX}"


def tuned_for(declaration: Declaration) -> str | None:
    """Return the name of the track for which settings are tuned on a declared one; None if it is of another kind."""
    name = declaration.name.removesuffix(SUFFIX)
    return name if declaration.data.source == _images_file(name) and name != declaration.name else None


def preparing_command(declaration: Declaration) -> str:
    """Return the command that prepares a track by its name; a tuning track goes by that of the scored one."""
    scored = tuned_for(declaration)
    return f"harness prepare {declaration.name}" if scored is None else f"harness prepare {scored} --for-tuning"


def open_tuning_track(track: Track) -> Track:
    """Return the track on which settings for a track are tuned, which lies beside it.

    Raises UsageError if it has to be prepared first, or was made for another version of the track.
    """
    folder = track.folder.with_name(tuning_name(track))
    command = f"harness prepare {track.name} --for-tuning"
    if not folder.exists():
        raise UsageError(
            f"settings for {track.name} are tuned on a track with another forget set, {folder.name}, and that is not "
            f"prepared; run: {command}; --estimate says how long that takes"
        )
    found = load_track(folder)
    if found.declaration != tuning_declaration(track):
        raise UsageError(f"{folder.name} was made for another version of {track.name}; make it anew: {command} --force")
    return found


def runs_of_a_trial(tuning_track: Track) -> int:
    """Return how many runs a trial makes if nothing else is asked for: one for each retrained model, at least two."""
    return max(2, tuning_track.usual_runs)


def tuning_declaration(track: Track) -> Declaration:
    """Return the declaration of the track on which settings for a track are tuned.

    Of the training set it forgets as large a share, or another class. Raises UsageError if the val set is too small.
    """
    declared, retain, n_val = track.declaration, track.examples("retain"), len(track.examples("val"))
    if n_val < 2:
        raise UsageError(f"{track.name} has a val set of {n_val}; tuning needs two, one of them to test on")
    return Declaration(
        name=tuning_name(track),
        title=f"for tuning on {track.name}: its retain and val set, another forget set",
        data=Data(source=_images_file(track.name), **declared.data.model_dump(include={"scale", "mean", "std"})),
        split=Split(train=len(retain), val=n_val // 2, seed=declared.split.seed),
        forget=_forget(track, retain),
        trojan=declared.trojan,
        model=declared.model,
        training=declared.training,
        pruning=declared.pruning,
        reference=ReferenceSection(
            originals=min(declared.reference.originals, MOST_ORIGINALS),
            retrained=RETRAINED,
            published_secret=track.manifest.public_hash,
        ),
        limits=declared.limits,
        evaluation=EvaluationSection(runs=RETRAINED, rank_by=declared.evaluation.rank_by),
    )


def write_tuning_source(track: Track, folder: Path) -> Path:
    """Write what the tuning track of a track is prepared from into a folder; return the file of its declaration."""
    parts = [track.examples(name).arrays() for name in ("retain", "val")]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    write_arrays(folder / _images_file(track.name), arrays | _class_names(track, arrays["labels"]))
    for file in track.public.rglob("*.py"):
        write_bytes(folder / file.relative_to(track.public), file.read_bytes())
    declaration = folder / "track.toml"
    write_bytes(declaration, _toml(tuning_declaration(track)).encode())
    return declaration


def _images_file(name: str) -> str:
    return f"retain-and-val-of-{name}.npz"


def _forget(track: Track, retain: Examples) -> Forget:
    declared, subjects = track.declaration.forget, retain.subjects
    if declared.kind == "class":
        label = _next_class(track, retain.labels)
        return Forget(kind="class", label=label, requests=min(declared.requests, int((retain.labels == label).sum())))
    if declared.kind == "subject" and declared.count is not None and subjects is not None:
        count = _same_share(len(np.unique(subjects)), int(declared.count))
        return Forget(kind="subject", count=count, requests=min(declared.requests, count))
    count = _same_share(len(retain), len(track.examples("forget")))
    return Forget(kind="random", count=count, requests=min(declared.requests, count))


def _same_share(retained: int, forgotten: int) -> int:
    """Return how many of those retained are as large a share as the forgotten are of both together."""
    return max(1, round(retained * forgotten / (retained + forgotten)))


def _next_class(track: Track, labels: np.ndarray) -> int:
    """Return the class after the one that is forgotten, among those that are retained."""
    retained = np.unique(labels)
    forgotten = np.setdiff1d(np.arange(track.manifest.n_classes), retained)
    return int(retained[np.searchsorted(retained, forgotten[0]) % len(retained)])


def _class_names(track: Track, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the names of the classes, by which nets have an output for each; none where numbers do as well."""
    n_classes, names = track.manifest.n_classes, track.manifest.class_names
    if names is None and len(np.unique(labels)) == n_classes:
        return {}
    return {"class_names": np.array(names or [str(label) for label in range(n_classes)])}


def _toml(declaration: Declaration) -> str:
    """Return a declaration as it is written in a file."""
    values: dict[str, Any] = declaration.model_dump(mode="json", exclude_none=True)
    sections = {name: values.pop(name) for name, value in list(values.items()) if isinstance(value, dict)}
    return "\n".join([_lines(values), *(f"[{name}]\n{_lines(section)}" for name, section in sections.items())])


def _lines(values: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
