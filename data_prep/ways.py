"""Ways to train the models of a track: how many at once, in which precision, in which memory format.

On a CPU the fastest differs by net and processor: stacks where calls take the time, models alone where arithmetic does.
So a few steps of each are timed before anything is trained. All models of a track are then trained in the one way that
was chosen, those that are added later too: originals and retrained models that differ by rounding to bfloat16 would be
told apart by it.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

import joblib
import numpy as np
import torch
from torch import Tensor

from data_prep.architecture import can_be_stacked
from data_prep.training import Trainer
from harness.accelerator import of
from harness.loaders import to_inputs
from harness.models import own_file
from harness.parallel import processes_may_end
from harness.runs.measure import build_model
from harness.storage import read_json, write_json
from harness.tracks.track import POOLS, Track

__all__ = [
    "AS_MANY",
    "Way",
    "chosen",
    "largest_stack",
    "recorded_way",
    "seconds_of_step",
    "time_ways",
    "timed_way",
    "trainer_of",
    "usual_way",
    "way_of_draft",
]

STACK_SIZE = 32  # more models at once gain nothing further and take more memory
# Of all models of a stack. Larger ones are not bound by the overhead of calls.
STACK_PARAMETERS = 4_000_000
STACK_INPUTS = 8_000_000  # values of a batch of all models: their activations take many times that
SOON = 5.0  # seconds within which models are trained in the usual way, whichever is the fastest
STACKS_TIMED = (4, 16)  # and the largest, until one is clearly slower than a smaller one

# Of one step each. Of a large net on large pictures one can take a minute.
MOST_EPOCHS, FEWEST_EPOCHS, SECONDS = 24, 3, 0.2  # the first is to warm up; then until so much time has passed
ABOUT, CLEARLY = 1.1, 1.25  # as fast, and faster


@dataclass(frozen=True)
class Way:
    """How the models of a track are trained."""

    stack: int  # most models at once
    precision: str = "float32"  # or bfloat16, of models alone
    memory_format: str = "contiguous"  # or channels_last, of models alone

    @property
    def is_mixed(self) -> bool:
        return self.precision == "bfloat16"

    @property
    def is_channels_last(self) -> bool:
        return self.memory_format == "channels_last"

    def __str__(self) -> str:
        count = "one model at a time" if self.stack == 1 else f"up to {self.stack} models in a stack"
        return f"{count}, {self.memory_format.replace('_', ' ')}"


AS_MANY = Way(STACK_SIZE)  # as can be stacked


def largest_stack(track: Track) -> int:
    """Return how many models of a track can be trained as one at most."""
    n_parameters = sum(value.numel() for value in build_model(track).parameters())
    n_inputs = track.declaration.training.batch_size * track.examples("forget").images[0].size
    most = max(1, min(STACK_SIZE, STACK_PARAMETERS // n_parameters, STACK_INPUTS // n_inputs))
    return most if most > 1 and can_be_stacked(track) else 1


def usual_way(track: Track, device: str) -> Way:
    """Return the way without timing any: the largest stacks, and bfloat16 for large models on a GPU."""
    most = largest_stack(track)
    if most == 1 and of(device).is_mixed and track.declaration.training.precision == "auto":
        return Way(1, "bfloat16", "channels_last")
    return Way(most)


# ---- what a track has ---------------------------------------------------------------------------------------------


def way_of_draft(draft: Track, sibling: Track | None, jobs: int, device: str) -> Way:
    """Return the way of a track in preparation, and note it there, for when the preparation is resumed.

    It is that of its sibling, whose originals it has. On a CPU a new one is timed, in as many processes as will train.
    """
    file, parts = draft.folder / "way.json", draft.folder / "parts"
    noted = Way(**read_json(file)) if file.is_file() else None
    if sibling is not None:
        way = recorded_way(sibling)
    elif noted is not None:
        return noted
    elif parts.exists():  # of a version that timed none
        way = usual_way(draft, device)
    else:
        way = timed_way(draft, jobs, device)
    if noted is not None and noted.precision != way.precision:  # the sibling was not there yet
        shutil.rmtree(parts, ignore_errors=True)
    write_json(file, asdict(way))
    return way


def recorded_way(track: Track) -> Way:
    """Return the way in which the models of a prepared track were trained."""
    prepared = track.manifest.prepared
    if "precision" not in prepared:  # of a version that timed none
        return usual_way(track, prepared.get("device", "cpu"))
    return Way(*(prepared[name] for name in ("stack", "precision", "memory_format")))


# ---- the choice ---------------------------------------------------------------------------------------------------


def timed_way(track: Track, jobs: int, device: str) -> Way:
    """Return the fastest way by a few steps of each, timed in `jobs` processes at once.

    It is the usual one on a GPU, and where all models are trained before the others would be timed. Forests are fitted
    one at a time.
    """
    if track.declaration.model.is_forest:
        return Way(1)
    if of(device).is_gpu or _is_trained_soon(track):
        return usual_way(track, device)
    most = largest_stack(track)
    with processes_may_end():
        found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(time_ways)(track, most) for _ in range(jobs))
    everywhere = [way for way in found[0] if all(way in other for other in found)]
    if Way(1) not in everywhere:  # which training explains better
        return usual_way(track, device)
    return chosen({way: float(np.mean([seconds[way] for seconds in found])) for way in everywhere})


def _is_trained_soon(track: Track) -> bool:
    """Whether all models are trained within seconds; so it is too if a step fails, which training explains better."""
    training, n_models = track.declaration.training, len(POOLS) * track.declaration.reference.retrained
    n_steps = n_models * training.epochs * math.ceil(len(track.examples("retain")) / training.batch_size)
    return n_steps * (seconds_of_step(track, Way(1)) or 0.0) < SOON


def chosen(seconds: Mapping[Way, float]) -> Way:
    """Return the way to take, given the seconds of a step and model of each.

    It is the most usual one in float32 that is about as fast as the fastest, so that chance does not choose: in larger
    stacks, contiguous. Unless bfloat16 is clearly faster still.
    """
    exact = sorted((way for way in seconds if not way.is_mixed), key=lambda way: (-way.stack, way.is_channels_last))
    best = next(way for way in exact if seconds[way] <= ABOUT * min(seconds[one] for one in exact))
    return next((way for way in seconds if way.is_mixed and CLEARLY * seconds[way] < seconds[best]), best)


def time_ways(track: Track, most: int) -> dict[Way, float]:
    """Return the seconds of this process that a step takes for each model, by the way of training it.

    most: models in a stack. Ways that the net cannot be trained in are left out.
    """
    alone = _time_alone(track)
    return alone | _time_stacks(track, most, alone.get(Way(1), math.inf))


def _time_alone(track: Track) -> dict[Way, float]:
    """Time models alone: as a participant trains them, and as is faster on some processors."""
    ways = [Way(1), Way(1, memory_format="channels_last")]
    # What rounding does to a net of one's own is not known.
    if track.declaration.training.precision == "auto" and own_file(track.declaration.model.name) is None:
        ways.append(Way(1, "bfloat16", "channels_last"))
    return {way: seconds for way in ways if (seconds := seconds_of_step(track, way)) is not None}


def _time_stacks(track: Track, most: int, alone: float) -> dict[Way, float]:
    """Time stacks, until a larger one is clearly slower for each model: one step of it can take many seconds.

    alone: seconds of a step of one model.
    """
    found: dict[Way, float] = {}
    for size in sorted({size for size in STACKS_TIMED if size < most} | ({most} if most > 1 else set())):
        seconds = seconds_of_step(track, Way(size))
        if seconds is None or seconds > CLEARLY * min([alone, *found.values()]):
            break
        found[Way(size)] = seconds
    return found


class _EnoughError(Exception):
    """Enough epochs were timed."""


def seconds_of_step(track: Track, way: Way) -> float | None:
    """Return the seconds of the processor, on one thread, that a step takes for each model; None if it fails."""
    data, recipe = track.declaration.data, track.declaration.training
    some = track.examples("retain")[: recipe.batch_size]
    images = to_inputs(some.images, scale=data.scale, mean=data.mean, std=data.std)
    ticks = [time.process_time()]

    def tick() -> None:
        ticks.append(time.process_time())
        if len(ticks) > FEWEST_EPOCHS and ticks[-1] - ticks[1] > SECONDS:
            raise _EnoughError

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = trainer_of(track, images, torch.from_numpy(some.labels), way)
        with contextlib.suppress(_EnoughError):
            trainer.train(range(way.stack), epochs=MOST_EPOCHS, on_epoch=tick)
    except Exception:  # noqa: BLE001 - a net may refuse a memory format with whatever it has
        return None
    finally:
        torch.set_num_threads(threads)
    return float(np.diff(ticks)[1:].min()) / way.stack


def trainer_of(
    track: Track, images: Tensor, labels: Tensor, way: Way, n_models: int | None = None, device: str = "cpu"
) -> Trainer:
    """Return what trains so many models of a track, by default a whole stack; inputs and labels are on the device."""
    return Trainer(
        partial(build_model, track),
        images,
        labels,
        track.declaration.training,
        n_models=n_models or way.stack,
        mixed=way.is_mixed,
        channels_last=way.is_channels_last,
        device=device,
    )
