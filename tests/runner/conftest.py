"""Runs of files on the tiny track, one zygote for all of them."""

from collections.abc import Callable

import pytest

from harness.runner import launch
from harness.runner.execution import Finished, execute
from harness.runner.isolation import choose
from harness.runner.message import Job
from harness.runner.sandbox.sandboxes import Quota
from harness.runs.measure import Recorder
from harness.tracks.track import Track


@pytest.fixture(scope="session")
def ran(tiny: Track) -> Callable[[str], Finished]:
    """Runs a file once, always with the same seeds, in the sandbox that this machine offers."""
    launcher = launch.launcher(
        tiny.public,
        public_hash=tiny.manifest.public_hash,
        device="cpu",
        log_kb=64,
        isolation=choose().level,
        quota=Quota(memory_mb=2048, processes=60, scratch_mb=32, threads=1),
    )
    n_values = Recorder(tiny).n_values

    def run(source: str) -> Finished:
        seeds = {"torch": 1, "numpy": 2, "random": 3}
        job = Job(source, "foo.py", 0, seeds, "cpu", threads=1, time_limit_seconds=30.0)
        return execute(launcher, job, n_values=n_values)

    return run
