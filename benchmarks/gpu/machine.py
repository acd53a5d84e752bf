"""What the machine is: kernel, what guards it, driver and its device nodes, card, versions."""

import glob
import os
import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import Task
from harness import cuda_driver
from harness.accelerator import of
from harness.runner.sandbox import landlock

__all__ = ["facts"]

COMMAND_SECONDS = 20.0  # nvidia-smi takes seconds where nothing else keeps the driver up
CARD = ("name", "driver_version", "memory.total", "persistence_mode", "compute_mode", "mig.mode.current")
PROGRAMS = ("gcc", "nvcc", "nvidia-smi", "nvidia-modprobe", "nvidia-cuda-mps-control")
PACKAGES = ("torch", "torchvision", "numpy", "pydantic", "joblib", "pytest")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")


def facts(task: Task) -> None:
    """Say what the machine is; last what only torch tells, since it may not come back."""
    task.say(what="system", **_system())
    task.say(what="versions", python=platform.python_version(), **{name: _version(name) for name in PACKAGES})
    if task.device == "cuda":
        task.say(what="driver", driver=cuda_driver.version(), nodes=_nodes(), **_parameters())
        cards = _cards()
        task.say(what="nvidia-smi", card=cards[0]["name"] if cards else None, cards=cards)
        print(_said(["nvidia-smi"]), flush=True)  # all of it, for the log
        task.say(what="cuInit", reason=cuda_driver.initialise(), supported_cuda=cuda_driver.supported_cuda())
    started = time.monotonic()
    import torch

    task.say(what="torch", cuda=torch.version.cuda, import_seconds=time.monotonic() - started)
    if task.device == "cuda":
        identity, _, _ = (of(task.device).identity or "").partition(", driver")
        task.say(what="card", card=identity, architectures=torch.cuda.get_arch_list(), **_properties())


def _system() -> dict[str, Any]:
    """Return what the kernel says of itself and of this process."""
    status = dict(line.split(":\t", 1) for line in _text("/proc/self/status").splitlines() if ":\t" in line)
    return {
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "is_root": hasattr(os, "geteuid") and os.geteuid() == 0,
        **{name: status.get(name) for name in ("CapEff", "CapBnd", "Seccomp", "NoNewPrivs")},
        "security_modules": _text("/sys/kernel/security/lsm").strip(),
        "landlock": landlock.abi() if platform.system() == "Linux" else 0,
        "cgroups": sorted({line.split(":")[1] for line in _text("/proc/self/cgroup").splitlines()}),
        "programs": [name for name in PROGRAMS if shutil.which(name)],
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _memory_gb() -> float | None:
    found = [line for line in _text("/proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    return int(found[0].split()[1]) / 2**20 if found else None


def _nodes() -> dict[str, str]:
    """Return the modes of the driver's device nodes, such as 0o666."""
    paths = sorted(path for pattern in of("cuda").node_patterns for path in glob.glob(pattern))
    return {path: oct(os.stat(path).st_mode & 0o7777) for path in paths}


def _parameters() -> dict[str, str]:
    """Return with which rights the kernel module makes device nodes."""
    lines = [line.split(": ", 1) for line in _text(f"{cuda_driver.FOLDER}/params").splitlines() if ": " in line]
    return {name: value for name, value in lines if name.startswith(("DeviceFile", "ModifyDeviceFiles"))}


def _cards() -> list[dict[str, str]]:
    """Return what nvidia-smi says of each card."""
    said = _said(["nvidia-smi", f"--query-gpu={','.join(CARD)}", "--format=csv,noheader"])
    return [dict(zip(CARD, map(str.strip, line.split(",")), strict=False)) for line in said.splitlines()]


def _properties() -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(0)
    return {
        "cards": torch.cuda.device_count(),
        "memory": found.total_memory / 2**30,
        "capability": f"{found.major}.{found.minor}",
        "processors": found.multi_processor_count,
    }


def _said(command: list[str]) -> str:
    """Return what a command prints, nothing if it fails or does not come back."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _text(path: str) -> str:
    """Return what a file holds, nothing if there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
