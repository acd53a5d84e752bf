"""Times trainings of one model on this machine, alone in this process.

    python -m data_prep.timed_training FOLDER DEVICE THREADS SAMPLES     started by `harness.runs.calibration`

It prepares, prints "warm" and about how many seconds all samples will take, waits for a line, and prints the seconds of
a whole training, one line for each sample. A long training is timed over a part of its steps, and scaled.
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

import torch

from data_prep.forests import fit_forests
from data_prep.training import train, training_set
from harness.accelerator import of
from harness.runs.measure import build_model
from harness.tracks.declaration import Training
from harness.tracks.track import Track, load_track

__all__ = ["part_of_training"]

CPU_SECONDS, GPU_SECONDS = 60.0, 7.0  # a sample takes no longer
FIRST_STEPS = 10  # timed to know how long a step takes


def _time_here(track: Track, device: str, threads: int, samples: int, answers: TextIO) -> Iterator[float]:
    """Train a model on the retain and forget set after "go"; yield the seconds of a whole training, again and again."""
    torch.set_num_threads(threads)
    card, recipe, build = of(device), track.declaration.training, partial(build_model, track)
    images, labels = (tensor.to(card.device()) for tensor in training_set(track, ("retain", "forget")))

    def timed(examples: int, epochs: int) -> float:
        started = time.perf_counter()
        if track.declaration.model.is_forest:
            fit_forests(build, images[:examples], labels[:examples], seeds=[0])
        else:
            train(build, images[:examples], labels[:examples], recipe, seed=0, epochs=epochs)
        card.synchronize()
        return time.perf_counter() - started

    longest = GPU_SECONDS if card.is_gpu else CPU_SECONDS
    some = min(len(labels), FIRST_STEPS * recipe.batch_size)
    timed(some, 1)
    expected = min(longest, timed(some, 1) / some * len(labels) * recipe.epochs)
    print(f"warm {samples * expected:.3g}", file=answers, flush=True)
    sys.stdin.readline()
    examples, epochs = part_of_training(len(labels), recipe, longest, seconds_per_example=timed(some, 1) / some)
    for _ in range(samples):
        yield timed(examples, epochs) * recipe.epochs * _steps(len(labels), recipe) / epochs / _steps(examples, recipe)


def part_of_training(n: int, recipe: Training, longest: float, *, seconds_per_example: float) -> tuple[int, int]:
    """Return how many of n examples, in whole batches if not all, and how many epochs are trained in `longest` s."""
    epochs = int(longest / (n * seconds_per_example))
    if epochs >= 1:
        return n, min(recipe.epochs, epochs)
    batches = max(1, int(longest / (recipe.batch_size * seconds_per_example)))
    return min(n, batches * recipe.batch_size), 1


def _steps(n: int, recipe: Training) -> int:
    return math.ceil(n / recipe.batch_size)


if __name__ == "__main__":
    _, folder, device, threads, samples = sys.argv
    answers = sys.stdout
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):  # a net of one's own may print
        for seconds in _time_here(load_track(Path(folder)), device, int(threads), int(samples), answers):
            print(seconds, file=answers, flush=True)
