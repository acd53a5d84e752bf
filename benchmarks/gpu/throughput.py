"""Images per second of the trainer: as participants train, as `prepare` does, and in several processes at once.

python -m benchmarks.gpu.throughput DEVICE NET BATCH SECONDS   one of several processes; it waits for a line of input
"""

import subprocess
import sys
import time
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.steps import Row, Task
from data_prep.training import Build, Trainer, train
from harness import models
from harness.accelerator import of
from harness.tracks.declaration import Training

__all__ = ["alone", "at_once"]

EAGER, UNCAPTURED, PREPARED = "eager, as runs are", "in bfloat16, not captured", "as prepare trains"
N_CLASSES, CHANNELS, SIZE = 10, 3, 32  # of CIFAR-10


class Sizes(NamedTuple):
    """What is measured on a kind of device."""

    trials: tuple[tuple[str, int], ...]  # net and batch size
    images: int  # of an epoch
    processes: tuple[int, ...]  # at once
    start_seconds: float  # of a process, about
    seconds: float  # of a trial, at most


SIZES = {
    "cuda": Sizes(
        trials=(("resnet18", 128), ("resnet18_cifar", 256), ("resnet18", 512), ("resnet18_cifar", 1024)),
        images=12_288,  # whole batches of all sizes
        processes=(4, 8),
        start_seconds=10,
        seconds=8,
    ),
    "cpu": Sizes((("resnet18", 16),), images=32, processes=(2,), start_seconds=4, seconds=2),
}


class _EnoughError(Exception):
    """It was measured for long enough."""


def alone(task: Task) -> None:
    """Say the images per second of every net, batch size and way to train; those of `prepare` last."""
    sizes, errors = SIZES[task.device], []
    torch.set_num_threads(1)
    of(task.device).prepare_training()
    trials = [(way, *trial) for way in (EAGER, UNCAPTURED, PREPARED) for trial in sizes.trials]
    for index, (way, net, batch) in enumerate(trials):
        seconds = min(sizes.seconds, 0.9 * task.left / (len(trials) - index))
        try:
            rate = images_per_second(task.device, way, net, batch, seconds)
            task.say(way=way, net=net, batch=batch, **figures(task.device, net, batch, rate))
        except Exception as error:  # noqa: BLE001 - another net or way may do
            errors.append(f"{type(error).__name__}: {error}"[:300])
            task.say(way=way, net=net, batch=batch, failed=errors[-1])
        of(task.device).release()
    if len(errors) == len(trials):
        raise RuntimeError(f"no net was trained: {errors[0]}")


def images_per_second(device: str, way: str, net: str, batch: int, seconds: float) -> float:
    """Train within so many seconds, of which the first epoch does not count, and return images per second."""
    accelerator, n = of(device), SIZES[device].images
    images = torch.randn(n, CHANNELS, SIZE, SIZE, device=accelerator.device())
    labels = torch.randint(N_CLASSES, (n,), device=accelerator.device())
    torch.backends.cudnn.benchmark = way != EAGER  # runs and calibrations leave it off
    recipe = Training(epochs=1_000_000, batch_size=batch, learning_rate=0.01, augment=True)
    started, ends = time.perf_counter(), list[float]()

    def on_epoch() -> None:
        accelerator.synchronize()
        ends.append(time.perf_counter())
        if len(ends) > 1 and 2 * ends[-1] - ends[-2] - started > seconds:  # the next one would end too late
            raise _EnoughError

    try:
        if way == EAGER:
            train(_build(net), images, labels, recipe, seed=0, on_epoch=on_epoch)
        else:
            Trainer(
                _build(net),
                images,
                labels,
                recipe,
                mixed=accelerator.is_mixed,
                device=device,
                is_captured=way == PREPARED,
            ).train([0], on_epoch=on_epoch)
    except _EnoughError:
        pass
    return n * (len(ends) - 1) / (ends[-1] - ends[0])


def figures(device: str, net: str, batch: int, rate: float) -> Row:
    """Return a rate in its several units, and the memory of the card that is taken by all."""
    memory = of(device).memory()
    return {
        "images_per_second": round(rate),
        "step_ms": 1000 * batch / rate,
        "tflops": rate * _flops_per_image(net) / 1e12,
        "gb_taken": None if memory is None else (memory[1] - memory[0]) / 2**30,
    }


def _flops_per_image(net: str) -> float:
    """Return the floating-point operations of an image, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        logits = _build(net)().train()(torch.randn(2, CHANNELS, SIZE, SIZE))
        nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.int64)).backward()
    return float(counter.get_total_flops()) / 2


def _build(net: str) -> Build:
    return partial(models.build, net, n_classes=N_CLASSES, channels=CHANNELS)


# ---- several processes --------------------------------------------------------------------------------------------


def at_once(task: Task) -> None:
    """Say the images per second of several processes together, each with a net of its own."""
    sizes, failing = SIZES[task.device], set[str]()
    trials = [(n, *trial) for trial in sizes.trials[:2] for n in sizes.processes]
    for index, (n, net, batch) in enumerate(trials):
        if net in failing:
            continue
        seconds = min(sizes.seconds, 0.9 * task.left / (len(trials) - index) - sizes.start_seconds)
        rates = _crowd(task.device, n, net, batch, seconds)
        row: Row = {"processes": n, "net": net, "batch": batch, "failed": n - len(rates)}
        if rates:
            task.say(**row, **figures(task.device, net, batch, sum(rates)))
        else:
            task.say(**row)
            failing.add(net)
    if len(failing) == len({net for _, net, _ in trials}):
        raise RuntimeError("no process trained; the log says why")


def _crowd(device: str, n: int, net: str, batch: int, seconds: float) -> list[float]:
    """Return the images per second of each of n processes that train at the same time, without those that fail."""
    command = [sys.executable, "-m", __name__, device, net, str(batch), str(seconds)]
    crowd = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    for process in crowd:
        assert process.stdout is not None
        process.stdout.readline()  # up
    answers = [_answer(process) for process in _all_told(crowd)]
    return [float(answer) for answer in answers if answer]


def _all_told(crowd: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Tell all processes to start."""
    for process in crowd:
        assert process.stdin is not None
        if process.poll() is None:
            process.stdin.write("go\n")
            process.stdin.flush()
    return crowd


def _answer(process: subprocess.Popen[str]) -> str:
    return process.communicate()[0].strip() if process.returncode is None else ""


def _one_of_a_crowd(device: str, net: str, batch: int, seconds: float) -> None:
    torch.set_num_threads(1)
    of(device).prepare_training()
    torch.ones(1, device=of(device).device())
    of(device).synchronize()
    print("up", flush=True)
    sys.stdin.readline()
    print(images_per_second(device, PREPARED, net, batch, seconds), flush=True)


if __name__ == "__main__":
    _one_of_a_crowd(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
