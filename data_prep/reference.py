"""The models of a track: originals and two pools of retrained ones, trained in stacks, side by side.

Each finished stack leaves one file of records, its part, so that an interrupted preparation goes on where it stopped.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_prep.architecture import fault_of_own_file
from data_prep.forests import fit_forests
from data_prep.pruning import mask_of, n_trainings, train_pruned
from data_prep.training import NO_MEMORY, Trainer, Weights, training_set
from data_prep.ways import AS_MANY, Way, largest_stack, trainer_of
from harness.accelerator import is_out_of_memory, of
from harness.errors import MachineError, UsageError
from harness.parallel import processes_may_end, repeated
from harness.record import Records
from harness.runs.measure import NonFiniteLogitsError, Recorder, build_model
from harness.storage import read_arrays, write_arrays
from harness.tracks.track import ORIGINALS, POOLS, Track

__all__ = [
    "OnProgress",
    "Stack",
    "adopt_originals",
    "join",
    "part",
    "plan_stacks",
    "prepare_process",
    "split_off",
    "train_missing",
    "train_models",
]

REPORT_SECONDS = 0.5  # between two looks at how far it is
OnProgress = Callable[[int, int], None]  # epochs trained so far, over all models, of how many


@dataclass(frozen=True)
class Stack:
    """Models trained together: some of the originals, or of a pool of retrained models."""

    kind: str  # ORIGINALS or one of the POOLS
    first: int
    seeds: tuple[int, ...]
    way: Way = AS_MANY

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.first:04d}-{len(self.seeds)}"


def plan_stacks(track: Track, jobs: int, *, present: Mapping[str, int], way: Way | None = None) -> list[Stack]:
    """Return the stacks a track's models are trained in, evenly over the jobs.

    present: how many models of a kind there are already; they make one stack. way: how they are trained, by default
    in stacks as large as may be.
    """
    stacks = []
    way = way or Way(largest_stack(track))
    for kind, size in _sizes(track).items():
        there = present.get(kind, 0)
        new = np.arange(there, size)
        n_stacks = max(-(-len(new) // way.stack), min(jobs, len(new)))
        groups = [np.arange(there), *(np.array_split(new, n_stacks) if n_stacks else [])]
        stacks += [_stack(track, kind, rows, way) for rows in groups if len(rows)]
    return stacks


def _sizes(track: Track) -> dict[str, int]:
    return dict.fromkeys(POOLS, track.manifest.retrained) | {ORIGINALS: track.declaration.reference.originals}


def _stack(track: Track, kind: str, rows: np.ndarray, way: Way) -> Stack:
    return Stack(kind, int(rows[0]), tuple(_seed(track, kind, int(row)) for row in rows), way)


def _seed(track: Track, kind: str, index: int) -> int:
    named = track.manifest.fingerprint
    if kind == ORIGINALS and track.manifest.family is not None:
        named = track.manifest.family
    message = f"{named}/{kind}/{index}".encode()
    return int.from_bytes(hmac.digest(track.secret, message, hashlib.sha256)[:6], "big")


def train_missing(track: Track, stacks: list[Stack], jobs: int, device: str, on_progress: OnProgress) -> None:
    """Train the stacks that have no file yet, `jobs` at a time in processes of their own; originals first.

    On GPUs the processes share the cards out; several are on one, which a single small network leaves idle for most of
    the time.
    """
    missing = [stack for stack in stacks if not part(track, stack).is_file()]
    total, left = (sum(_n_epochs(track, stack) for stack in some) for some in (stacks, missing))
    tally = track.folder / "tally"  # one byte per model and epoch: appended to by all processes
    tally.write_bytes(b"")

    def report() -> None:
        on_progress(min(total, total - left + tally.stat().st_size), total)

    with repeated(report, REPORT_SECONDS), processes_may_end():
        for originals in (True, False):  # whose masks the retrained models of a pruned track take
            stage = [stack for stack in missing if (stack.kind == ORIGINALS) == originals]
            joblib.Parallel(n_jobs=jobs)(
                joblib.delayed(_train)(track, stack, device, place, tally) for place, stack in enumerate(stage)
            )
    report()
    tally.unlink()
    _trainers.clear()  # of this process, where one job means in this process
    _recorders.clear()


def _n_epochs(track: Track, stack: Stack) -> int:
    """Return how many epochs the models of a stack are trained for, rewinding aside."""
    trainings = n_trainings(track.declaration.pruning) if stack.kind == ORIGINALS else 1
    return trainings * track.declaration.training.epochs * len(stack.seeds)


def _train(track: Track, stack: Stack, device: str, place: int, tally: Path) -> None:
    """Train one stack and write its part: the records, and for originals the weights; place: its number among all."""
    prepare_process(device, place)

    def on_epoch() -> None:
        with tally.open("ab") as file:
            file.write(b"." * len(stack.seeds))

    try:
        _keep(track, stack, train_models(track, stack, device, on_epoch), device)
    except NonFiniteLogitsError:
        raise UsageError(
            "training: a trained model's outputs are infinite or no numbers; lower training.learning_rate, "
            "or look at data.mean and data.std"
        ) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise MachineError(NO_MEMORY) from None
        if fault := fault_of_own_file(track, error):
            raise UsageError(f"model: {fault}") from None
        raise


def prepare_process(device: str = "cpu", place: int = 0) -> None:
    """Set up a process that trains, beside others: one thread; on GPUs a card and how it computes.

    place: the number of what is trained first; the cards take turns.
    """
    torch.set_num_threads(1)
    card = of(device)
    card.choose_card(place % card.cards())
    card.prepare_training()


def adopt_originals(track: Track, stacks: list[Stack], sibling: Track, device: str) -> None:
    """Take the original models of a sibling, and measure them on the data sets of this track."""
    for stack in stacks:
        if stack.kind == ORIGINALS and not part(track, stack).is_file():
            rows = range(stack.first, stack.first + len(stack.seeds))
            _keep(track, stack, [load_file(_original_file(sibling, row)) for row in rows], device)


def _keep(track: Track, stack: Stack, models: list[Weights], device: str) -> None:
    """Write the part of a stack: its models' records, and for originals the weights."""
    recorder = _recorder(track, device)
    records = [recorder.record({name: value.numpy() for name, value in weights.items()}) for weights in models]
    if stack.kind == ORIGINALS:
        for index, weights in enumerate(models, start=stack.first):
            save_file(weights, _original_file(track, index))
    write_arrays(part(track, stack), Records.concatenate(records).arrays())


def _original_file(track: Track, index: int) -> Path:
    return track.public / f"original-{index}.safetensors"


def train_models(
    track: Track, stack: Stack, device: str = "cpu", on_epoch: Callable[[], None] = lambda: None
) -> list[Weights]:
    """Train the models of a stack and return their weights; of a pruned track those of originals are there first.

    Trained on a GPU they are not the same, value for value, as on a CPU: it rounds differently, and to bfloat16.
    """
    declaration = track.declaration
    if declaration.model.is_forest:
        return fit_forests(partial(build_model, track), *_examples(track, stack.kind), stack.seeds, on_epoch)
    trainer = _trainer(track, stack, device)
    if declaration.pruning is None:
        models = trainer.train(stack.seeds, on_epoch=on_epoch)
    elif stack.kind == ORIGINALS:
        models = train_pruned(trainer, declaration.pruning, seeds=stack.seeds, on_epoch=on_epoch)
    else:  # as runs do, retrained models take turns with the originals
        turns = (stack.first + np.arange(len(stack.seeds))) % declaration.reference.originals
        masks = [mask_of(load_file(_original_file(track, int(turn))), trainer.build) for turn in turns]
        models = trainer.train(stack.seeds, masks=masks, on_epoch=on_epoch)
    return [{name: value.cpu() for name, value in weights.items()} for weights in models]


# Of this process, the last one of each: what the next stack needs as well is read, moved and captured once.
_trainers: dict[tuple[object, ...], Trainer] = {}
_recorders: dict[tuple[object, ...], Recorder] = {}


def _trainer(track: Track, stack: Stack, device: str) -> Trainer:
    """Return what trains a stack: that of the stack before if it was of the same examples and size."""
    key = (*_named(track, device), stack.kind == ORIGINALS, len(stack.seeds), stack.way)
    if key not in _trainers:
        _trainers.clear()  # and its memory with it, before the next one takes its own
        card = of(device)
        images, labels = (values.to(card.device()) for values in _examples(track, stack.kind))
        _trainers[key] = trainer_of(track, images, labels, stack.way, len(stack.seeds), device)
    return _trainers[key]


def _recorder(track: Track, device: str) -> Recorder:
    key = _named(track, device)
    if key not in _recorders:
        _recorders.clear()
        _recorders[key] = Recorder(track, device)
    return _recorders[key]


def _named(track: Track, device: str) -> tuple[object, ...]:
    return track.folder, track.manifest.fingerprint, track.declaration.model_dump_json(), device


def _examples(track: Track, kind: str) -> tuple[Tensor, Tensor]:
    """Return the inputs and labels that models of a kind are trained on."""
    if kind != ORIGINALS:
        return training_set(track, ("retain",))
    images, labels = training_set(track, ("retain", "forget"))
    if track.manifest.family is None:
        return images, labels
    split = read_arrays(track.private / "split.npz")  # brought to an order in which siblings have them too
    order = torch.from_numpy(np.concatenate([split["retain"], split["forget"]]).argsort())
    return images[order], labels[order]


def part(track: Track, stack: Stack) -> Path:
    """Return the file of a finished stack's records."""
    return track.folder / "parts" / f"{stack.name}.npz"


def join(track: Track, stacks: list[Stack]) -> None:
    """Join the parts of all stacks into the track's files, one per kind. The parts stay."""
    for kind in _sizes(track):
        of_kind = sorted((stack for stack in stacks if stack.kind == kind), key=lambda stack: stack.first)
        parts = [Records.from_arrays(read_arrays(part(track, stack))) for stack in of_kind]
        write_arrays(track.records_file(kind), Records.concatenate(parts).arrays())


def split_off(track: Track, stacks: list[Stack]) -> None:
    """Make the records a track already has the parts of its first stacks, so that more can be added to them."""
    for kind in _sizes(track):
        first = next(stack for stack in stacks if stack.kind == kind)
        part(track, first).parent.mkdir(exist_ok=True)
        track.records_file(kind).rename(part(track, first))
