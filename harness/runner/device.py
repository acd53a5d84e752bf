"""Which device runs use, and how many may run side by side on it."""

import os
from pathlib import Path

from harness.errors import UsageError

__all__ = ["default_jobs", "default_trainings", "resolve"]

TRAININGS_ON_A_GPU = 4  # at once: one small network alone leaves most of a GPU idle


def resolve(device: str) -> str:
    """Return `cuda` or `cpu` for `auto`, `cuda` or `cpu`. Raises UsageError if there is no such device here."""
    if device == "cpu" or (device == "auto" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "auto":
        return "cpu"
    raise UsageError("no GPU can be used here (harness doctor says why); use --device cpu")


def default_jobs(device: str, threads: int) -> int:
    """Return how many runs at once: one on a GPU, else as many as the cores allow."""
    if device == "cuda":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def default_trainings(device: str) -> int:
    """Return how many trainings at once when a track is prepared, of one thread each."""
    cores = default_jobs("cpu", 1)
    return min(cores, TRAININGS_ON_A_GPU) if device == "cuda" else cores
