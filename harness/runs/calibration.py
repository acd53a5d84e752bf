"""How long one training takes here: what the time limit of a run is a fraction of.

One unstacked model is trained in a process of its own (`data_prep.timed_training`) with a run's number of threads, with
as many such processes at once as there are workers, so that runs and trainings are slowed down alike. The median is
kept per machine and load.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from harness.accelerator import of
from harness.errors import MachineError
from harness.processors import usable_processors
from harness.runner.process import ROOT, run_environment
from harness.runs.measured_once import measured_once
from harness.seal import read_sealed, write_sealed
from harness.tracks.track import Track

__all__ = ["Calibration", "calibrate"]

N_SAMPLES = 3  # trainings timed, at least
TIMED = "data_prep.timed_training"  # a program, not an import: what times is no part of what runs and scores


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
    on_estimate: Callable[[float], None] = lambda seconds: None,
    on_wait: Callable[[], None] = lambda: None,
) -> Calibration:
    """Return the calibration of this machine, track, threads and workers; measure it if there is none that is whole.

    on_start: is called before it is measured. on_estimate: is told then, after a few steps, about how long it takes.
    on_wait: as of `measured_once`.
    """
    load = {
        "track": track.manifest.fingerprint,
        "machine": f"{platform.node()} {platform.machine()} {usable_processors():g}",
        "device": device,
        "gpu": of(device).identity,
        "threads": threads,
        "workers": jobs,
        "torch": version("torch"),
    }
    key = hashlib.sha256(json.dumps(load, sort_keys=True).encode()).hexdigest()[:12]
    path = home / "calibration" / f"{track.name}-{key}.json"

    def measure() -> Calibration:
        on_start()
        samples = _samples(track, device, threads, jobs, on_estimate)
        calibration = Calibration(key, statistics.median(samples), tuple(samples))
        write_sealed(path, {**load, "training_seconds": calibration.training_seconds, "samples": samples})
        return calibration

    return measured_once(path, partial(_stored, key), measure, on_wait)


def _samples(track: Track, device: str, threads: int, jobs: int, on_estimate: Callable[[float], None]) -> list[float]:
    """Return the seconds of as many trainings as are timed at least."""
    started, samples = time.monotonic(), list[float]()

    def warm(seconds: float) -> None:
        if not samples:
            rounds = math.ceil(N_SAMPLES / jobs / _samples_of_process(device))
            on_estimate(rounds * seconds + (rounds - 1) * (time.monotonic() - started))  # each round has a start

    while len(samples) < N_SAMPLES:
        samples += _time_trainings(track, device, threads, jobs, on_warm=warm)
    return samples


def _stored(key: str, path: Path) -> Calibration:
    values = read_sealed(path)
    return Calibration(key, values["training_seconds"], tuple(values["samples"]))


def _samples_of_process(device: str) -> int:
    """Return how many samples a process takes: on a GPU as many as are wanted, its start takes as long as they do."""
    return N_SAMPLES if of(device).is_gpu else 1


def _time_trainings(
    track: Track,
    device: str,
    threads: int,
    jobs: int,
    on_warm: Callable[[float], None] = lambda seconds: None,
) -> list[float]:
    """Return the seconds of trainings in `jobs` processes that start at the same moment.

    on_warm: is told before they do about how many seconds they will take.
    """
    samples = _samples_of_process(device)
    command = [sys.executable, "-P", "-m", TIMED, str(track.folder), device, str(threads), str(samples)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # packages may lie on the latter
    own_threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    processes = [
        subprocess.Popen(
            command,
            env=run_environment(device) | own_threads | {"PYTHONPATH": path},  # the same as that of runs
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is not meant for it: it is ended below
        )
        for _ in range(jobs)
    ]
    try:
        on_warm(max(_expected_seconds(process) for process in processes))
        for process in processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it died, as its exit status will say
                process.stdin.write("go\n")
                process.stdin.flush()
        answers = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise MachineError("a training to calibrate the time limit failed; its error is above")
    return [float(seconds) for answer in answers for seconds in answer.split()]


def _expected_seconds(process: "subprocess.Popen[str]") -> float:
    """Wait until a process is warm, and return what it says its samples will take; 0 if it died."""
    assert process.stdout is not None
    return float(process.stdout.readline().removeprefix("warm ") or 0)
