"""What this machine offers, as `harness doctor` shows it."""

import importlib.util
import os
import platform
import shutil
import stat
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness import accelerator, cuda_driver
from harness.contract import PACKAGES
from harness.environment import environment
from harness.processors import described_processors
from harness.runner import isolation
from harness.runner.remedies import remedies
from harness.runner.sandbox import gpu

__all__ = ["findings"]


def findings(home: Path, device: str = "auto") -> dict[str, str]:
    """Return what was found, by topic. device: a kind, or auto; where there is a GPU, isolation is that of its runs."""
    why_no_gpu = accelerator.why_no_gpu() if device in ("auto", "cuda") else None
    if device == "auto":
        device = "cuda" if why_no_gpu is None else "cpu"
    found = isolation.offered(device)
    packages = sorted({name.partition(".")[0] for name in PACKAGES})
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    return {
        "machine": f"{platform.platform()}, {described_processors()} usable",
        **({"GPU": f"none: {why_no_gpu}"} if why_no_gpu is not None else _gpu(accelerator.of(device), found)),
        "isolation": found.strongest,
        **_missing(found),
        "start of runs": "forked from a warm process" if platform.system() == "Linux" else "a new process each",
        "versions": ", ".join(f"{name} {value}" for name, value in environment().items() if name != "machine"),
        "torchvision": _version("torchvision"),
        "packages": "all of the contract" if not absent else f"missing: {', '.join(absent)}",
        "files": f"{home}, {shutil.disk_usage(existing).free / 1e9:.0f} GB free",
    }


def _missing(found: isolation.ProbeResult) -> dict[str, str]:
    """Return why each stronger level is not there, then why each missing layer is not, and what to do."""
    stronger = isolation.LEVELS[: isolation.LEVELS.index(found.strongest)]
    levels = {f"  no {level}": found.levels[level] or "" for level in stronger}
    alike: dict[str, list[str]] = {}
    for layer, remedy in remedies(found.layers).items():
        alike.setdefault(f"{found.layers[layer]}. Remedy: {remedy}", []).append(layer)
    return levels | {f"  no {', '.join(layers)}": what for what, layers in alike.items()}


def _gpu(kind: accelerator.Accelerator, found: isolation.ProbeResult) -> dict[str, str]:
    """Return what GPU there is, what its driver offers, and at which levels runs can use it."""
    if not kind.is_gpu:
        return {"GPU": "not looked at"}
    import torch

    supported = ".".join(map(str, cuda_driver.supported_cuda() or ["unknown"]))
    return {
        "GPU": ", ".join(kind.names()),
        "  driver": f"{cuda_driver.version()}, CUDA {supported}; torch is built for CUDA {torch.version.cuda}",
        "  nodes": _modes(gpu.device_nodes(kind.node_patterns)),
        **({"  cuInit": _where_it_works(found)} if kind.has_driver else {}),
    }


def _modes(nodes: list[str]) -> str:
    """Return the modes of device nodes: runs have users of their own, who must be let in."""
    alike: dict[str, list[str]] = {}
    for path in nodes:
        alike.setdefault(f"{stat.S_IMODE(os.stat(path).st_mode):04o}", []).append(path)
    return "; ".join(f"{', '.join(paths)}: mode {mode}" for mode, paths in alike.items()) or "none"


def _where_it_works(found: isolation.ProbeResult) -> str:
    if found.accelerator is not None:
        return f"fails at every level: {found.accelerator}"
    said = {"works": [level for level in isolation.LEVELS if found.levels.get(level) is None]}
    for level, reason in found.levels.items():
        if reason is not None:
            said.setdefault(f"fails ({reason})", []).append(level)
    return "; ".join(f"{how} at {', '.join(levels)}" for how, levels in said.items())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
