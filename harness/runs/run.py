"""What a run is to everybody: under which limit and conditions it was made, how it ended, and its record."""

from dataclasses import dataclass
from typing import Any

from harness.record import Records
from harness.runner.isolation import Isolation
from harness.runner.outcome import Outcome

__all__ = ["RUNNER_VERSION", "Conditions", "Limit", "Run"]

RUNNER_VERSION = "1"  # raised when the same file would be run differently


@dataclass(frozen=True)
class Limit:
    """The time limit of one run, and where it comes from."""

    seconds: float
    fraction: float  # of a training alone
    is_overridden: bool = False  # by --time-limit: such runs are kept apart and never ranked
    training_seconds: float | None = None  # None for tracks with a limit of their own
    calibration: str | None = None
    floor_seconds: float | None = None  # what a run that does nothing takes; None where it was not measured

    @property
    def floor_share(self) -> float:
        """The floor's share of the limit; 0 where it was not measured."""
        return 0.0 if self.floor_seconds is None else self.floor_seconds / self.seconds


@dataclass(frozen=True)
class Conditions:
    """What runs are made under."""

    limit: Limit | None  # None if nothing is to be run
    isolation: Isolation
    device: str = "cpu"
    gpu: str | None = None  # its name and driver; None on a CPU, or if nothing is to be run
    threads: int = 1
    jobs: int = 1
    fork: bool | None = None  # None: where the system can

    @property
    def gpus(self) -> frozenset[str]:
        """The GPUs whose stored runs are as good as new ones; empty: all."""
        return frozenset(() if self.gpu is None else (self.gpu,))


@dataclass(frozen=True)
class Run:
    """One run of a submission as it is stored: its outcome, and its record if it is OK."""

    index: int
    outcome: Outcome
    seconds: float
    info: dict[str, Any]  # message, lines, log, limit, calibration, order, device, gpu, isolation, versions
    record: Records | None = None
