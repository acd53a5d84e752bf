"""How long one training takes here: what the time limit of a run is a fraction of.

    python -m data_prep.calibration FOLDER DEVICE THREADS SAMPLES     time trainings of one model, at the word "go"

One unstacked model is trained in a process of its own with a run's number of threads, with as many such processes at
once as there are workers, so that runs and trainings are slowed down alike. The median is kept per machine and load.
A long training is timed over a part of its steps, and scaled.
"""

import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from harness.accelerator import of
from harness.declaration import Training
from harness.errors import MachineError
from harness.runner.process import environment
from harness.storage import write_json
from harness.track import Track

__all__ = ["Calibration", "calibrate", "part_of_training"]

N_SAMPLES = 3  # trainings timed, at least
# A sample takes no longer. On a GPU all are taken in one process: to start it takes as long as they do.
CPU_SECONDS, GPU_SECONDS = 60.0, 7.0
FIRST_STEPS = 20  # timed to know how long a step takes
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Calibration:
    """The time of one training alone on one machine under one load."""

    id: str
    training_seconds: float  # median of the samples
    samples: tuple[float, ...]


def calibrate(
    track: Track,
    home: Path,
    *,
    device: str,
    threads: int,
    jobs: int,
    on_start: Callable[[], None] = lambda: None,
) -> Calibration:
    """Return the calibration of this machine, track, threads and workers; measure it if there is none yet."""
    load = {
        "track": track.manifest.fingerprint,
        "machine": f"{platform.node()} {platform.machine()} {os.cpu_count()}",
        "device": device,
        "gpu": of(device).identity,
        "threads": threads,
        "workers": jobs,
        "torch": version("torch"),
    }
    key = hashlib.sha256(json.dumps(load, sort_keys=True).encode()).hexdigest()[:12]
    path = home / "calibration" / f"{track.name}-{key}.json"
    try:
        stored = json.loads(path.read_text())
        return Calibration(key, stored["training_seconds"], tuple(stored["samples"]))
    except (OSError, ValueError, KeyError):
        on_start()
    samples: list[float] = []
    while len(samples) < N_SAMPLES:
        samples += _time_trainings(track, device, threads, jobs)
    calibration = Calibration(key, statistics.median(samples), tuple(samples))
    write_json(path, {**load, "training_seconds": calibration.training_seconds, "samples": samples})
    return calibration


def _time_trainings(track: Track, device: str, threads: int, jobs: int) -> list[float]:
    """Return the seconds of `jobs` trainings that start at the same moment; on a GPU of as many as are wanted each."""
    samples = N_SAMPLES if of(device).is_gpu else 1
    command = [sys.executable, "-m", "data_prep.calibration", str(track.folder), device, str(threads), str(samples)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # packages may lie on the latter
    own_threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    processes = [
        subprocess.Popen(
            command,
            env=environment(device) | own_threads | {"PYTHONPATH": path},  # the same as that of runs
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(jobs)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # warm
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise MachineError("a training to calibrate the time limit failed; its error is above")
    return [float(seconds) for answer in answers for seconds in answer.split()]


def _time_here(track: Track, device: str, threads: int, samples: int) -> Iterator[float]:
    """Train a model on the retain and forget set after "go"; yield the seconds of a whole training, again and again."""
    import torch

    from data_prep.training import train, training_set
    from harness.measure import build_model

    torch.set_num_threads(threads)
    card, recipe = of(device), track.declaration.training
    images, labels = (tensor.to(card.device()) for tensor in training_set(track, ("retain", "forget")))

    def timed(examples: int, epochs: int) -> float:
        started = time.perf_counter()
        train(lambda: build_model(track), images[:examples], labels[:examples], recipe, seed=0, epochs=epochs)
        card.synchronize()
        return time.perf_counter() - started

    some = min(len(labels), FIRST_STEPS * recipe.batch_size)
    timed(some, 1)
    print("warm", flush=True)
    sys.stdin.readline()
    longest = GPU_SECONDS if card.is_gpu else CPU_SECONDS
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
    from harness.track import load_track

    _, folder, device, threads, samples = sys.argv
    for seconds in _time_here(load_track(Path(folder)), device, int(threads), int(samples)):
        print(seconds, flush=True)
