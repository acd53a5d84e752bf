"""What preparing a track takes on this machine, and what fits into its time limit, from a few timed steps."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch
from torch import Tensor, nn

from data_prep import reference
from data_prep.draft import OnNote, lay_out
from data_prep.forests import fit_forests
from data_prep.pruning import n_trainings
from data_prep.reference import Stack, prepare_process
from data_prep.training import Build, train, train_stack, training_set
from data_prep.ways import Way, way_of_draft
from harness.accelerator import of
from harness.loaders import Images, loader
from harness.parallel import processes_may_end
from harness.runs.measure import build_model
from harness.tracks.declaration import Declaration, Training
from harness.tracks.track import ORIGINALS, POOLS, Track

__all__ = ["Estimate", "estimate"]

STEPS = 4  # of each epoch that is timed
EPOCHS = 3  # timed, after one that is not
MEASURED = 256  # examples whose outputs are timed


@dataclass(frozen=True)
class Estimate:
    """What preparing a track takes, and what its limit allows; all times are of this device under this load."""

    device: str
    jobs: int
    threads: int  # of one run
    n_models: int  # originals and both pools
    way: Way  # of training them
    seconds_per_step: dict[int, float]  # of stacks by their number of models, `jobs` of them at once
    preparation_seconds: float
    track_bytes: int
    run_bytes: int  # of every stored run
    training_seconds: float  # of one model alone
    limit_seconds: float  # of one run
    fine_tuning_epochs: float | None  # over the retain set, within the limit; None for a forest, which has no epochs

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """What was found, as rows of name, value and remark."""
        steps = ", ".join(
            f"{1000 * seconds:.3g} ms for {size} {'model' if size == 1 else 'models'}"
            for size, seconds in sorted(self.seconds_per_step.items())
        )
        share = self.limit_seconds / self.training_seconds
        rows = [
            ("preparation", _duration(self.preparation_seconds), f"{self.n_models} models; a step takes {steps}"),
            ("precision", self.way.precision, str(self.way)),
            ("disk", f"{self.track_bytes / 1e6:.3g} MB", f"and {self.run_bytes / 1e6:.2g} MB for every run"),
            ("one training", _duration(self.training_seconds), f"a model alone, threads: {self.threads}"),
            ("time limit", _duration(self.limit_seconds), f"{share:.0%} of it"),
        ]
        if self.fine_tuning_epochs is not None:
            epochs = f"{self.fine_tuning_epochs:.1f}"
            rows.append(("epochs within it", epochs, "of plain fine-tuning on the retain set"))
        return rows


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.2f} hours" if seconds >= 600 else f"{seconds:.3g} s"


def estimate(
    declaration: Declaration,
    declaration_file: Path,
    tracks: Path,
    *,
    jobs: int,
    device: str,
    data: Path | None = None,
    retrained: int | None = None,
    on_note: OnNote = lambda note: None,
) -> Estimate:
    """Time a few steps of every kind of training and of a run, and return what all of them would take.

    jobs: trainings at once. data: a folder that has the source's data already. retrained: how many models each pool is
    to get, by default as declared.
    Nothing is kept but data that had to be downloaded. Raises UsageError if the declaration does not fit its data.
    """
    tracks.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tracks, prefix=".estimate-") as folder:
        draft, cache = Path(folder) / "draft", tracks.parent / "data"
        track = lay_out(
            *(declaration, declaration_file, draft), cache=cache, data=data, retrained=retrained, on_note=on_note
        )
        way = way_of_draft(track, None, jobs, device)
        stacks = reference.plan_stacks(track, jobs, present={}, way=way)
        by_size = {len(stack.seeds): stack for stack in stacks}
        seconds_per_step = {size: _step_of_stack(track, stack, jobs, device) for size, stack in by_size.items()}
        limits, n_models = declaration.limits, sum(len(stack.seeds) for stack in stacks)
        torch.set_num_threads(limits.threads)
        torch.backends.cudnn.benchmark = False  # as in runs, also where one job has trained in this process
        training_seconds = _step_alone(track, device) * _n_steps(track, ORIGINALS) * declaration.training.epochs
        limit_seconds = limits.seconds or limits.time_limit_fraction * training_seconds
        is_forest = declaration.model.is_forest
        seconds_per_epoch = None if is_forest else _step_of_fine_tuning(track, device) * _n_steps(track, POOLS[0])
        stacked = sum(_n_steps_of(track, stack) * seconds_per_step[len(stack.seeds)] for stack in stacks)
        return Estimate(
            device=device,
            jobs=jobs,
            threads=limits.threads,
            n_models=n_models,
            way=way,
            seconds_per_step=seconds_per_step,
            preparation_seconds=(stacked + n_models * _measuring(track, device)) / min(jobs, len(stacks)),
            track_bytes=_track_bytes(track, n_models),
            run_bytes=track.record_bytes(requests=declaration.forget.requests),
            training_seconds=training_seconds,
            limit_seconds=limit_seconds,
            fine_tuning_epochs=None if seconds_per_epoch is None else limit_seconds / seconds_per_epoch,
        )


# ---- time ---------------------------------------------------------------------------------------------------------


def _n_steps(track: Track, kind: str) -> int:
    """Return the steps of an epoch of training a model of a kind; a forest is one step."""
    if track.declaration.model.is_forest:
        return 1
    sets = ("retain", "forget") if kind == ORIGINALS else ("retain",)
    return math.ceil(sum(len(track.examples(name)) for name in sets) / track.declaration.training.batch_size)


def _n_steps_of(track: Track, stack: Stack) -> int:
    """Return the steps of all trainings of a stack."""
    trainings = n_trainings(track.declaration.pruning) if stack.kind == ORIGINALS else 1
    return trainings * track.declaration.training.epochs * _n_steps(track, stack.kind)


def _step_of_stack(track: Track, stack: Stack, jobs: int, device: str) -> float:
    """Return the seconds of a step of a stack while `jobs` of them are trained at once."""
    with processes_may_end():
        found = joblib.Parallel(n_jobs=jobs)(
            joblib.delayed(_step_in_process)(track, stack, device) for _ in range(jobs)
        )
    return float(np.mean(found))


def _step_in_process(track: Track, stack: Stack, device: str) -> float:
    prepare_process(device)
    if track.declaration.model.is_forest:
        return _fit_of_forest(track)
    mixed, channels_last = stack.way.is_mixed, stack.way.is_channels_last
    together = partial(train_stack, seeds=stack.seeds, mixed=mixed, channels_last=channels_last, device=device)
    return _timed(lambda some, tick: together(*some, epochs=1 + EPOCHS, on_epoch=tick), track, device)


def _step_alone(track: Track, device: str) -> float:
    """Return the seconds of a step of one model alone, as time limits are measured."""
    if track.declaration.model.is_forest:
        return _fit_of_forest(track)
    return _timed(lambda some, tick: train(*some, seed=0, epochs=1 + EPOCHS, on_epoch=tick), track, device)


def _fit_of_forest(track: Track) -> float:
    """Return the seconds of fitting one forest; the first fit is to warm up."""
    ticks = []
    fit_forests(
        partial(build_model, track),
        *training_set(track, ("retain", "forget")),
        seeds=range(2),
        on_forest=lambda: ticks.append(time.perf_counter()),
    )
    return ticks[1] - ticks[0]


def _step_of_fine_tuning(track: Track, device: str) -> float:
    """Return the seconds of a step as a participant writes it."""

    def fine_tune(some: _Some, tick: Callable[[], None]) -> None:
        place = of(device).device()
        net = some.build().to(place).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
        batches = loader(Images(some.images.cpu(), some.labels.cpu()), batch_size=some.recipe.batch_size, device=place)
        for _ in range(1 + EPOCHS):
            for images, labels in batches:
                if len(labels) == 1:  # which BatchNorm may refuse
                    continue
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(images), labels).backward()
                optimizer.step()
            tick()

    return _timed(fine_tune, track, device)


class _Some(NamedTuple):
    """What a few steps are trained with, in the order in which trainings take it."""

    build: Build
    images: Tensor
    labels: Tensor
    recipe: Training


def _timed(training: Callable[[_Some, Callable[[], None]], object], track: Track, device: str) -> float:
    """Return the seconds of a step of a training of 1 + EPOCHS epochs of a few steps each, the first to warm up.

    The training calls back after every epoch.
    """
    recipe = track.declaration.training
    card, some = of(device), STEPS * recipe.batch_size
    images, labels = (values[:some].to(card.device()) for values in training_set(track, ("retain",)))
    ticks = []

    def tick() -> None:
        card.synchronize()
        ticks.append(time.perf_counter())

    training(_Some(partial(build_model, track), images, labels, recipe), tick)
    return float(np.median(np.diff(ticks))) / math.ceil(len(labels) / recipe.batch_size)


def _measuring(track: Track, device: str) -> float:
    """Return the seconds that the record of a model takes: its outputs on all data sets."""
    place = of(device).device()
    net = build_model(track).to(place).eval()
    inputs = training_set(track, ("retain",))[0][:MEASURED].to(place)
    with torch.inference_mode():
        net(inputs).cpu()
        started = time.perf_counter()
        net(inputs).cpu()
        seconds = time.perf_counter() - started
    return seconds / len(inputs) * sum(map(len, track.recorded().values()))


# ---- disk ---------------------------------------------------------------------------------------------------------


def _track_bytes(track: Track, n_models: int) -> int:
    """Return the size of the prepared folder: data, originals and records."""
    data = sum(path.stat().st_size for path in track.folder.rglob("*") if path.is_file())
    weights: int = sum(value.numel() * value.element_size() for value in build_model(track).state_dict().values())
    return data + track.declaration.reference.originals * weights + n_models * track.record_bytes()
