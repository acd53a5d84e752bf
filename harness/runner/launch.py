"""Starts processes that run one submission once. Trusted side.

Two ways behind one interface (`process`): `fork` forks each run from a warm zygote, `spawn` starts a new interpreter
for each, on any system. Neither reads anything of a run before its processes are dead.
"""

import atexit
import os
import subprocess
import sys
from pathlib import Path

from harness import accelerator
from harness.environment import home
from harness.errors import MachineError
from harness.runner.fork import ForkLauncher
from harness.runner.message import Job
from harness.runner.process import ROOT, Launcher, command, run_environment
from harness.runner.sandbox import gpu
from harness.runner.sandbox.sandboxes import Quota, Sandboxes
from harness.runner.spawn import SpawnLauncher

__all__ = ["close_all", "launcher", "run_in_foreground"]

MOST_READY = 8  # a zygote holds some 300 MB of its own


def launcher(
    public: Path,
    *,
    public_hash: str,
    device: str,
    log_kb: int,
    isolation: str,
    quota: Quota,
    fork: bool | None = None,
) -> Launcher:
    """Return the launcher for the public part of a track; fork None: where the system can.

    public_hash: names the contents of `public`. A launcher lives as long as this process and serves all submissions.
    Runs in a new interpreter each have no isolation, whatever is asked for; the launcher says so. Only the MOST_READY
    that were asked for last keep something ready: of many tracks in one process, memory for a few.
    """
    forks = sys.platform == "linux" if fork is None else fork
    key = (public.resolve(), public_hash, device, log_kb, isolation, quota, forks, *run_environment(device).items())
    if key not in _launchers or _launchers[key].is_closed:
        if forks:
            hidden = (ROOT / "harness", ROOT / "data_prep", public.resolve().parent, home())
            if device == "cuda":
                gpu.make_nodes()
            occupants = gpu.Occupants() if accelerator.of(device).is_gpu else None
            try:
                sandboxes = Sandboxes(isolation, quota, hidden=hidden, device=device, occupants=occupants)
            except OSError as error:
                raise MachineError(f"isolation {isolation} cannot be set up: {error}; see harness doctor") from None
            _launchers[key] = ForkLauncher(public, device=device, log_bytes=log_kb * 1024, sandboxes=sandboxes)
        else:
            _launchers[key] = SpawnLauncher(public, device=device, log_bytes=log_kb * 1024)
    _launchers[key] = found = _launchers.pop(key)  # the last of them
    for each in list(_launchers.values())[:-MOST_READY]:
        each.rest()
    return found


_launchers: dict[tuple[object, ...], "ForkLauncher | SpawnLauncher"] = {}


@atexit.register
def close_all() -> None:
    """End all zygotes, and with them all runs."""
    for each in _launchers.values():
        each.close()


def run_in_foreground(public: Path, job: Job) -> int:
    """Run a submission once on this terminal, without a limit; return its exit status. Nothing is kept."""
    job_file = Path(job.scratch) / "job.json"
    job_file.write_bytes(job.to_bytes())
    arguments = command("inside/foreground.py", str(ROOT), str(public), str(job_file))
    return subprocess.run(arguments, env=os.environ | run_environment(job.device), check=False).returncode
