"""What stands between a run and the machine. The level found is part of every record and every score."""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from harness.accelerator import of
from harness.errors import MachineError
from harness.runner.process import ROOT, command, run_environment

__all__ = ["LEVELS", "Isolation", "ProbeResult", "choose", "is_enough", "offered", "stronger", "weakest"]

LEVELS = ("full", "userns", "syscall", "none")  # strongest first
PROBE_SECONDS = 60.0
GPU_PROBE_SECONDS = 400.0  # each attempt is allowed the time that a driver takes to start


@dataclass(frozen=True)
class Isolation:
    """A level and, for every stronger one, why it is not used."""

    level: str
    missing: dict[str, str]
    layers: dict[str, str | None] = field(default_factory=dict)  # of the machine: None, or why one is missing


@dataclass(frozen=True)
class ProbeResult:
    """What this machine offers: None for what is there, else the reason why it is not."""

    layers: dict[str, str | None]
    levels: dict[str, str | None]  # all but `none`, or as far as the strongest
    accelerator: str | None = None  # why the GPU cannot be used at any level, where that is so

    @property
    def strongest(self) -> str:
        """The strongest level there is."""
        return next(level for level in LEVELS if self.levels.get(level) is None)


def weakest(levels: Iterable[str]) -> str:
    """Return the level that all of some runs had at least."""
    return max(levels, key=LEVELS.index)


def is_enough(level: str, required: str | None) -> bool:
    """Whether a level is as strong as is required; None requires nothing."""
    return required is None or LEVELS.index(level) <= LEVELS.index(required)


def stronger(requested: str, required: str | None) -> str | None:
    """Return the level that stored runs must have as well: what is required, or what is asked for by its name."""
    named = [level for level in (requested, required) if level in LEVELS]
    return min(named, key=LEVELS.index, default=None)


@cache
def offered(device: str = "cpu", *, only_strongest: bool = False) -> ProbeResult:
    """Return what this machine offers, found out by doing it, once.

    only_strongest: look at levels no further than the first there is.
    """
    if sys.platform != "linux":
        return ProbeResult({}, dict.fromkeys(LEVELS[:-1], "only Linux has it; use a virtual machine or a container"))
    arguments = command("sandbox/probe.py", str(ROOT), device, "strongest" if only_strongest else "all")
    seconds = GPU_PROBE_SECONDS if of(device).is_gpu else PROBE_SECONDS
    try:
        probed = subprocess.run(
            arguments, env=run_environment(device), capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise MachineError(f"the isolation this machine offers was not found out within {seconds:.0f} s") from None
    if probed.returncode != 0:
        raise RuntimeError(f"the probe of the isolation failed:\n{probed.stderr}")
    return ProbeResult(**json.loads(probed.stdout))


def choose(requested: str = "auto", required: str | None = None, *, device: str = "cpu") -> Isolation:
    """Return the isolation asked for, `auto` being the strongest there is.

    Raises MachineError if this machine does not offer it, if it is less than required, or if there is a GPU that cannot
    be used at any level.
    """
    wants_none = requested == "none" and required in (None, "none")
    if wants_none and not of(device).is_gpu:
        return Isolation("none", {})
    found = offered(device, only_strongest=wants_none or requested == "auto")
    if found.accelerator is not None:
        raise MachineError(f"the GPU cannot be used: {found.accelerator}")
    if wants_none:
        return Isolation("none", {})
    level = found.strongest if requested == "auto" else requested
    too_weak = not is_enough(level, required)
    if too_weak and requested != "auto":
        raise MachineError(f"--isolation {level} is less than --require-isolation {required}; leave out one of them")
    wanted = required if too_weak and required is not None else level
    if (reason := found.levels.get(wanted)) is not None:
        raise MachineError(
            f"isolation {wanted} is asked for and this machine offers {found.strongest} ({wanted}: {reason}); "
            "harness doctor says what to do about it"
        )
    stronger = LEVELS[: LEVELS.index(level)]
    return Isolation(level, {name: reason for name in stronger if (reason := found.levels[name])}, found.layers)
