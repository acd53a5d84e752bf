"""Where the runs of a batch are made: this machine, or the workers of a cluster."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.accelerator import of
from harness.processors import usable_processors
from harness.runner.isolation import Isolation
from harness.runs.conditions import Announce, conditions_here
from harness.runs.launchers import launcher_for
from harness.runs.queue import Executor
from harness.runs.run import Conditions, Run
from harness.runs.run_set import FailureCounts
from harness.tracks.track import Track

__all__ = ["Backend", "RunOptions"]


@dataclass(frozen=True)
class Backend:
    """Where runs are made."""

    device: str
    isolation: Isolation
    executor: Callable[[], Executor]  # made ready when it is first asked for
    is_shared_gpu: bool = False  # several runs at once use one GPU
    gpus: frozenset[str] = frozenset()  # their names and drivers
    failure_counts: FailureCounts = lambda run: True
    free_processors: int = 0  # of this machine while runs are made
    is_one_machine: bool = True  # else no learner is made: its twins are compared bit for bit

    @classmethod
    def here(
        cls, track: Track, home: Path, *, device: str, jobs: int | None, isolation: Isolation, announce: Announce
    ) -> "Backend":
        """Return this machine, which is made ready only once there is something to run."""

        @cache
        def conditions() -> Conditions:
            return conditions_here(track, home, device=device, isolation=isolation, jobs=jobs, announce=announce)

        @cache
        def executor() -> Executor:
            launcher_for(track, conditions()).warm_up()  # beside what is imported here
            from harness.runs.local import LocalExecutor  # imports torch

            return LocalExecutor(track, conditions())

        def failure_counts(run: Run) -> bool:
            return run.info.dependencies == conditions().dependencies

        card = of(device)
        gpus = frozenset() if card.identity is None else frozenset((card.identity,))
        is_shared = card.is_gpu and (jobs or 1) > 1
        threads = track.declaration.limits.threads
        free = int(usable_processors()) - (jobs or card.default_jobs(threads)) * threads
        return cls(device, isolation, executor, is_shared, gpus, failure_counts, max(0, free))


@dataclass(frozen=True)
class RunOptions:
    """What runs are asked to be made under, here or by every worker."""

    device: str  # auto, cpu, cuda
    isolation: str
    required_isolation: str | None
