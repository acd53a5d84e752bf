"""Measure the choice of how a track is trained on a CPU: speed beside the usual way, and what it does to accuracy.

    python -m benchmarks.preparation [--again] [--data FOLDER] [--models 16] [--train 2304] [--epochs 8]

First the steps of every way are timed, as `harness prepare` times them, for `digits` and for two nets on CIFAR-10. Then
retrained models of a small track of CIFAR-10 are trained with the same seeds in three ways: as large stacks in float32,
as always before anything was timed; one at a time in float32, channels last; and in bfloat16. The stack goes first for
an epoch, then the others for some whole models, and so on by turns. Seconds are the processor's, on one thread.
--again trains as many models of other seeds, alone in each way, to see whether differences in accuracy come again.
Writes benchmarks/results/preparation-cpu.json.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.pages import RESULTS, ROOT, stored
from data_prep.draft import lay_out
from data_prep.reference import Stack, plan_stacks, prepare_process, train_models
from data_prep.training import Weights
from data_prep.ways import Way, chosen, largest_stack, seconds_of_step, time_ways
from harness.environment import environment, home
from harness.runs.measure import Recorder
from harness.storage import write_json
from harness.tracks.declaration import read_declaration
from harness.tracks.track import POOLS, Track

MODELS = 16  # of the stack that every other way is compared with
SETS = ("retain", "forget", "test")
SECRETS = {"first": "7072657061726174696f6e", "again": "616761696e"}
OTHERS = {"float32": Way(1, "float32", "channels_last"), "bfloat16": Way(1, "bfloat16", "channels_last")}
TRACK = """
name = "cifar10-slice"
title = "a part of CIFAR-10"

[data]
source = "torchvision:CIFAR10"
mean = [0.4914, 0.4822, 0.4465]
std = [0.2023, 0.1994, 0.2010]

[split]
train = {train}
val = 500
test = 5000

[forget]
kind = "random"
count = 256

[model]
name = "small_resnet"
width = {width}

[training]
epochs = {epochs}
batch_size = {batch_size}
learning_rate = 0.05

[reference]
originals = 1
retrained = {models}
published_secret = "{secret}"

[evaluation]
runs = 1
"""


@click.command()
@click.option("--again", is_flag=True, help="Add models of other seeds to the stored result.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has CIFAR-10 already.")
@click.option("--source", default="CIFAR-10", show_default=True, help="What the images are called in the page.")
@click.option("--models", default=MODELS, show_default=True, type=click.IntRange(min=2))
@click.option("--train", default=2304, show_default=True, type=click.IntRange(min=512), help="256 to be forgotten.")
@click.option("--epochs", default=8, show_default=True, type=click.IntRange(min=1))
def main(again: bool, data: Path | None, source: str, models: int, train: int, epochs: int) -> None:
    """Time the ways, and train models in three of them."""
    prepare_process()
    sizes = {"train": train, "models": models, "epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        if again:
            file = declared(Path(folder), {"width": 16, "batch_size": 64, **sizes}, seeds="again")
            found = trained_alone(draft(file, Path(folder), data))
            write_json(RESULTS / "preparation-cpu.json", {**stored("preparation-cpu"), "again": found})
            return
        digits = draft(ROOT / "data_prep" / "tracks" / "digits.toml", Path(folder), data)
        small, large = (
            draft(declared(Path(folder), {"width": width, "batch_size": batch_size, **sizes}), Path(folder), data)
            for width, batch_size in ((16, 64), (32, 128))
        )
        result = {
            "timed": [timed(track) for track in (digits, small, large)],
            "images": source,
            "examples": len(small.examples("retain")),
            "epochs": epochs,
            "models": models,
            "trained": trained(small),
            **environment(),
        }
    write_json(RESULTS / "preparation-cpu.json", result)


def declared(folder: Path, sizes: Mapping[str, int], *, seeds: str = "first") -> Path:
    """Write the declaration of a track of these sizes, and return its file."""
    file = folder / f"width-{sizes['width']}.toml"
    file.write_text(TRACK.format(secret=SECRETS[seeds], **sizes))
    return file


def draft(file: Path, folder: Path, data: Path | None) -> Track:
    """Return the draft of a declared track."""
    return lay_out(read_declaration(file), file, folder / file.stem, cache=home() / "data", data=data)


# ---- speed --------------------------------------------------------------------------------------------------------


def timed(track: Track) -> dict[str, Any]:
    """Return the milliseconds that a step takes for each model, by way, and which way a preparation would choose."""
    most, training = largest_stack(track), track.declaration.training
    seconds = time_ways(track, most)
    usual = Way(min(most, MODELS))
    if usual not in seconds and (value := seconds_of_step(track, usual)) is not None:
        seconds[usual] = value
    found = {
        "net": f"{track.declaration.model.name}, width {track.declaration.model.width}",
        "input": list(track.examples("forget").images[0].shape),
        "batch_size": training.batch_size,
        "ways": [{**asdict(way), "ms": 1000 * value} for way, value in seconds.items()],
        "chosen": asdict(chosen(seconds)),
    }
    click.echo(found)
    return found


# ---- speed and accuracy -------------------------------------------------------------------------------------------


def trained(track: Track) -> list[dict[str, Any]]:
    """Train the same models in three ways by turns, and return seconds and accuracies of each."""
    (stack,) = [one for one in plan_stacks(track, 1, present={}, way=Way(MODELS)) if one.kind == POOLS[0]]
    others = {name: in_turn(track, stack, way) for name, way in OTHERS.items()}
    models: dict[str, list[Weights]] = {name: [] for name in ("stack", *others)}
    seconds = dict.fromkeys(models, 0.0)

    started = time.process_time()

    def stop_the_clock() -> None:
        nonlocal started
        seconds["stack"] += time.process_time() - started
        for _ in range(-(-len(stack.seeds) // track.declaration.training.epochs)):
            for name, turns in others.items():
                began = time.process_time()
                models[name] += next(turns, [])
                seconds[name] += time.process_time() - began
        click.echo({name: (len(models[name]), round(value)) for name, value in seconds.items()})
        started = time.process_time()

    models["stack"] = train_models(track, stack, on_epoch=stop_the_clock)
    recorder, ways = Recorder(track), {"stack": stack.way, **OTHERS}
    return [
        {**asdict(ways[name]), "seconds_per_model": seconds[name] / len(found), **accuracies(recorder, found)}
        for name, found in models.items()
    ]


def trained_alone(track: Track) -> list[dict[str, Any]]:
    """Train models one at a time, each in three ways, and return seconds and accuracies of each way."""
    (stack,) = [one for one in plan_stacks(track, 1, present={}, way=Way(MODELS)) if one.kind == POOLS[0]]
    recorder, found = Recorder(track), []
    turns = {way: in_turn(track, stack, way) for way in (Way(1), *OTHERS.values())}
    models: dict[Way, list[Weights]] = {way: [] for way in turns}
    seconds = dict.fromkeys(turns, 0.0)
    for _ in stack.seeds:
        for way, trained_next in turns.items():
            started = time.process_time()
            models[way] += next(trained_next)
            seconds[way] += time.process_time() - started
        click.echo([round(value) for value in seconds.values()])
    for way, those in models.items():
        per_model = seconds[way] / len(those)
        found.append({**asdict(way), "seconds_per_model": per_model, **accuracies(recorder, those)})
    return found


def in_turn(track: Track, stack: Stack, way: Way) -> Iterator[list[Weights]]:
    """Train the models of a stack one after the other."""
    for index, seed in enumerate(stack.seeds, start=stack.first):
        yield train_models(track, Stack(stack.kind, index, (seed,), way))


def accuracies(recorder: Recorder, models: list[Weights]) -> dict[str, list[float]]:
    """Return every model's accuracy on the data sets."""
    records = [recorder.record({name: value.numpy() for name, value in weights.items()}) for weights in models]
    return {name: [float(np.mean(one.accuracy_on(name))) for one in records] for name in SETS}


if __name__ == "__main__":
    main()
