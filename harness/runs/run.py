"""What a run is to everybody: under which limit and conditions it was made, how it ended, and its record."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.record import Records
from harness.runner.isolation import Isolation
from harness.runner.outcome import Outcome

__all__ = ["RUNNER_VERSION", "Conditions", "Limit", "Requests", "Run", "RunInfo", "Trained", "percent", "records_of"]

RUNNER_VERSION = "1"  # raised when the same file would be run differently


def percent(share: float) -> str:
    """Return the share of a training that a limit is as text, with all of its digits that count: 12.5%, 0.4%."""
    return f"{100 * share:.4g}%"


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
    def ordinary_training(self) -> float:
        """The seconds of one training by the track's recipe; with a limit of the track's own, what that stands for."""
        return self.training_seconds or self.seconds / self.fraction

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
    dependencies: str = ""  # a hash of all that a failure may be due to beside the file

    @property
    def own_time_limit(self) -> float | None:
        """The share of a training that stands for the track's, where one was given by hand."""
        return self.limit.fraction if self.limit is not None and self.limit.is_overridden else None

    @property
    def gpus(self) -> frozenset[str]:
        """The GPUs whose stored runs are as good as new ones; empty: all."""
        return frozenset(() if self.gpu is None else (self.gpu,))


@dataclass(frozen=True)
class RunInfo:
    """How a run was made and went, beside its outcome."""

    limit_seconds: float
    isolation: str
    message: str = ""
    lines: tuple[str, ...] = ()  # of the submission's own file
    log: str = ""  # what it printed, capped
    seconds_inside: float = 0.0  # as the submission says itself: for information
    harness_errors: tuple[str, ...] = ()  # why the harness had to begin again, once for each time
    floor_seconds: float | None = None
    calibration: str | None = None
    order: int = 0  # its place among the submission's runs made that time, as they were started
    device: str = "cpu"
    gpu: str | None = None  # its name and driver
    environment: Mapping[str, str] = field(default_factory=dict)  # versions and machine
    whole_seconds: float | None = None  # with start and measuring
    dependencies: str = ""  # as of the conditions; a failure counts as long as they stay the same
    made: str = ""  # when, in UTC
    limits: Mapping[str, Any] = field(default_factory=dict)  # the track's; empty in runs of earlier versions

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "RunInfo":
        """Return what `to_json` returned; others among the values are passed over. Raises KeyError, TypeError."""
        known = {one.name: stored[one.name] for one in dataclasses.fields(cls) if one.name in stored}
        return cls(**known | {name: tuple(known.get(name, ())) for name in ("lines", "harness_errors")})


@dataclass(frozen=True)
class Trained:
    """What a learner's `train` left for its `unlearn`. Of the state nothing is known but its bytes."""

    weights: np.ndarray  # float32: parameters and float buffers in the architecture's order, of each of its nets
    state: bytes


@dataclass(frozen=True)
class Requests:
    """What the deletion requests of one run took and left, R of them one after the other."""

    seconds: np.ndarray  # (R,) float64
    state_bytes: np.ndarray  # (R,) int64: of a learner's state after each
    accuracy: np.ndarray  # (R, 3) float64 after each, on what is retained in the end, the test set, what is forgotten
    forget_logits: np.ndarray  # (R, n_forget, n_classes) float32 after each

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, as they are stored."""
        return {f"request_{name}": array for name, array in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Requests | None":
        """Return what `arrays` returned; None if there is nothing of it. Raises KeyError if one is missing."""
        names = [each.name for each in dataclasses.fields(cls)]
        if not any(f"request_{name}" in arrays for name in names):
            return None
        return cls(**{name: arrays[f"request_{name}"] for name in names})


@dataclass(frozen=True)
class Run:
    """One run of a submission as it is stored: its outcome, and its record if it is OK."""

    index: int
    outcome: Outcome
    seconds: float  # of one request, the mean where there are several
    info: RunInfo
    record: Records | None = None
    seal: str = ""  # sha256 of all that is stored of it; empty if nothing is
    trained: Trained | None = None  # of a learner's original that is OK, unless it was let go of
    state_bytes: int = 0  # of the state that a learner handed in
    requests: Requests | None = None  # of a run of several deletion requests that is OK

    @property
    def request_seconds(self) -> list[float]:
        """The seconds of each request; of most runs there is one."""
        return [self.seconds] if self.requests is None else list(map(float, self.requests.seconds))


def records_of(runs: Iterable[Run]) -> Records:
    """Return the records of the runs that have one: those that are OK."""
    return Records.concatenate(run.record for run in runs if run.record is not None)
