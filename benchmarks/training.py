"""Measure the training of retrained models against the way of the official 2023 code: same model, data and epochs.

    python -m benchmarks.training [--track digits] [--models 32] [--epochs 12] [--jobs 2] [--device cuda]

The official way, written anew after its description: one model after another, a DataLoader that asks for Python items
one by one, float32, a wait for the device at every step. Ours is what `harness prepare` does: models stacked or alone,
`jobs` processes at once (give --jobs several times to compare), bfloat16 on a GPU. Both with SGD and a cosine schedule,
neither augments. Processes are warm before the clock starts. Also prints the floating-point operations per second
reached, beside those of one large product of matrices in the same precision. Writes
benchmarks/results/training-TRACK-DEVICE.json.
"""

import time
from pathlib import Path
from typing import Any

import click
import joblib
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

import harness
from benchmarks.evaluate import Items, accuracy, train_for_an_epoch
from data_prep.reference import Stack, plan_stacks, prepare_process, train_models
from data_prep.training import Weights, training_set
from data_prep.ways import timed_way, usual_way
from harness.accelerator import of, resolve
from harness.cli.options import track_option
from harness.environment import environment
from harness.runs.measure import build_model
from harness.storage import write_json
from harness.tracks.track import POOLS, Track

RESULTS = Path(__file__).parent / "results"
MATRIX = {"cpu": 2048, "cuda": 16384}  # rows and columns of the product that stands for the device's peak
PRODUCTS = 10


@click.command()
@track_option
@click.option("--models", default=32, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--official-models", default=4, show_default=True, type=click.IntRange(min=1), help="Of the official way."
)
@click.option("--epochs", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--jobs", "all_jobs", multiple=True, type=click.IntRange(min=1), help="Trainings at once.")
@click.option("--device", default="auto", show_default=True)
def main(
    track_name: str, models: int, official_models: int, epochs: int, all_jobs: tuple[int, ...], device: str
) -> None:
    """Train models both ways."""
    kind = resolve(device)
    track = shortened(harness.open_track(track_name), epochs, models)
    peak, flops = peak_flops(kind), epochs * flops_per_epoch(track)  # before anything sets a number of threads
    theirs = official_way(track, official_models, kind)
    ours = [harness_way(track, jobs, kind) for jobs in all_jobs or (of(kind).default_trainings(),)]
    result = {
        "track": track.name,
        "model": track.declaration.model.name,
        "examples": len(track.examples("retain")),
        "epochs": epochs,
        "flops_per_model": flops,
        "peak_flops": peak,
        "official_way": {**theirs, "flops": flops / theirs["seconds_per_model"]},
        "harness_way": [
            {
                **one,
                "flops": flops / one["seconds_per_model"],
                "ratio": theirs["seconds_per_model"] / one["seconds_per_model"],
            }
            for one in ours
        ],
        **environment(),
        "device": torch.cuda.get_device_name() if kind == "cuda" else kind,
    }
    for name, value in result.items():
        click.echo(f"{name:16s} {value}")
    write_json(RESULTS / f"training-{track.name}-{kind}.json", result)


def shortened(track: Track, epochs: int, models: int) -> Track:
    """Return the track with fewer epochs, no augmentation and so many retrained models to train."""
    plain = {"epochs": epochs, "augment": False, "class_weights": False, "optimizer": "sgd", "schedule": "cosine"}
    training = track.declaration.training.model_copy(update=plain)
    declaration = track.declaration.model_copy(update={"training": training, "pruning": None})
    return Track(track.folder, declaration, track.manifest.model_copy(update={"retrained": models}))


# ---- ours ---------------------------------------------------------------------------------------------------------


def harness_way(track: Track, jobs: int, device: str) -> dict[str, Any]:
    """Train a pool of retrained models as a preparation does."""
    way = timed_way(track, jobs, device)
    stacks = [stack for stack in plan_stacks(track, jobs, present={}, way=way) if stack.kind == POOLS[0]]
    with joblib.Parallel(n_jobs=jobs) as parallel:
        parallel(joblib.delayed(warm)(track, device) for _ in range(jobs))
        started = time.perf_counter()
        trained = parallel(joblib.delayed(train_models)(track, stack, device) for stack in stacks)
        seconds = time.perf_counter() - started
    models = [weights for of_stack in trained for weights in of_stack]
    return {
        "jobs": jobs,
        "models": len(models),
        "models_in_a_stack": len(stacks[0].seeds),
        "seconds_per_model": seconds / len(models),
        "models_per_hour": 3600 * len(models) / seconds,
        "test_accuracy": float(np.mean([accuracy_on_test(track, weights, device) for weights in models])),
    }


def warm(track: Track, device: str) -> None:
    """Import what a training needs, and train for an epoch, in a process that the next training finds again."""
    prepare_process(device)
    train_models(shortened(track, 1, 1), Stack(POOLS[0], 0, (0,), usual_way(track, device)), device)


# ---- the official way ---------------------------------------------------------------------------------------------


def official_way(track: Track, models: int, device: str) -> dict[str, Any]:
    """Train models one after another."""
    torch.set_num_threads(track.declaration.limits.threads)
    recipe = track.declaration.training
    loader = DataLoader(Items(track.examples("retain"), track), batch_size=recipe.batch_size, shuffle=True)
    trained = []
    started = time.perf_counter()
    for seed in range(models):
        torch.manual_seed(seed)
        net = build_model(track).to(device).train()
        optimizer = torch.optim.SGD(
            net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs)
        for _ in range(recipe.epochs):
            train_for_an_epoch(net, loader, optimizer, device)
            schedule.step()
        trained.append({name: value.cpu() for name, value in net.state_dict().items()})
    seconds = time.perf_counter() - started
    return {
        "models": models,
        "seconds_per_model": seconds / models,
        "models_per_hour": 3600 * models / seconds,
        "test_accuracy": float(np.mean([accuracy_on_test(track, weights, device) for weights in trained])),
    }


# ---- what is the same for both ------------------------------------------------------------------------------------


def accuracy_on_test(track: Track, weights: Weights, device: str) -> float:
    """Return the accuracy of a model on the test set."""
    net = build_model(track)
    net.load_state_dict(weights)
    with torch.no_grad():
        return accuracy(net.to(device).eval(), DataLoader(Items(track.examples("test"), track), batch_size=256), device)


def flops_per_epoch(track: Track) -> int:
    """Return the floating-point operations of an epoch of one model, forward and backward."""
    images, labels = (values[:2] for values in training_set(track, ("retain",)))
    net = build_model(track).train()
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(net(images), labels).backward()
    return int(counter.get_total_flops()) // 2 * len(track.examples("retain"))


def peak_flops(device: str) -> float:
    """Return the operations per second of a large product of matrices, in the precision that models are trained in."""
    size = MATRIX[device]
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    seconds = []
    for _ in range(PRODUCTS):
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / float(np.median(seconds))


if __name__ == "__main__":
    main()
