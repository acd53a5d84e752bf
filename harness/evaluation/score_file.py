"""The one form of a score: what scoring returns, what lies on disk, what `--json` writes, what leaderboards read.

Values that are not known are null. A file of another version, or with a field too many or too few, is not read.
"""

import json
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from harness.environment import environment
from harness.evaluation.findings import Findings
from harness.evaluation.reference import Reference, Scored
from harness.runner.isolation import Isolation, weakest
from harness.runner.outcome import Outcome
from harness.runner.sandbox.seccomp import is_supported, program_hash
from harness.runs.run import Conditions, Run
from harness.scoring.alarms import Alarm
from harness.scoring.audit import Audit
from harness.scoring.full_stack import FullStack
from harness.scoring.score import SCORER_VERSION, HalfSamples, Score
from harness.scoring.uncertainty import interval
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = ["Epsilon", "HalfSampleScores", "Interval", "ScoreFile", "failure_of", "round_off", "score_file"]

Interval = tuple[float, float]


class _Part(BaseModel):
    """A part of a score file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Failure(_Part):
    """What was wrong: with the file itself, or with the first run that failed."""

    run: int | None
    message: str
    lines: tuple[str, ...]  # of the submission's own file


class HarnessError(_Part):
    """What the harness failed at and made again, with the same seeds."""

    run: int
    message: str


class Epsilon(_Part):
    """Epsilons of the forget examples, official but for the last."""

    median: float | None
    unresolved: int  # examples every threshold of which was discarded
    perfectly_separated: int
    smooth_quality: float  # Q of min-count epsilons


class HalfSampleScores(_Part):
    """Scores of halves of the models, from which all intervals are made."""

    score: tuple[float, ...]
    smooth_quality: tuple[float, ...]
    calibrated_score: tuple[float, ...]

    @classmethod
    def of(cls, halves: HalfSamples) -> "HalfSampleScores":
        """Return half-samples as they are stored."""
        return cls(**{name: tuple(getattr(halves, name).tolist()) for name in cls.model_fields})

    def arrays(self) -> HalfSamples:
        """Return them as they are computed with."""
        return HalfSamples(**{name: np.array(getattr(self, name)) for name in type(self).model_fields})


class Seconds(_Part):
    """Times of the runs."""

    limit: float | None
    floor: float | None  # of a run that does nothing
    mean: float | None
    max: float | None
    spread: float | None  # standard deviation over the runs
    training: float | None
    fraction_of_training: float | None  # mean seconds over those of a training
    limit_fraction: float | None

    @property
    def share_of_limit(self) -> float | None:
        """Mean of seconds over the limit."""
        used, allowed = self.fraction_of_training, self.limit_fraction
        return None if used is None or not allowed else used / allowed


class IsolationFound(_Part):
    """What stood between the runs and the machine."""

    level: str  # the weakest of any run
    missing: dict[str, str]  # stronger levels, and why they were not used
    layers: dict[str, str | None]  # of the machine: null, or why one is missing
    kernel: str
    filter_sha256: str | None  # of the system-call filter
    limits: dict[str, int]


class ScoreFile(_Part):
    """All that is known of a submission's runs on a track."""

    format: Literal[1] = 1
    submission: str
    sha256: str
    code_hash: str
    constants: dict[str, str]
    track: str
    fingerprint: str
    reference_hash: str | None
    scorer_version: str
    outcome: Outcome
    failure: Failure | None
    n_runs: int
    ranked: bool
    unranked_because: str | None
    score: float | None
    score_interval: Interval | None
    calibrated_score: float | None
    calibrated_interval: Interval | None
    error_over_subjects: float | None
    forgetting_quality: float | None
    retain_ratio: float | None
    test_ratio: float | None
    epsilon: Epsilon | None
    half_samples: HalfSampleScores | None
    ceiling: float | None
    ceiling_interval: Interval | None
    floor: float | None
    seconds: Seconds
    harness_errors: tuple[HarnessError, ...]
    isolation: IsolationFound
    environment: dict[str, str | None]
    alarms: tuple[Alarm, ...] | None
    audit: Audit | None
    full_stack: FullStack | None

    ROUNDED: ClassVar = ("calibrated_score", "score", "forgetting_quality", "retain_ratio", "test_ratio")
    INTERVALS: ClassVar[Mapping[str, str]] = {
        "calibrated_interval": "calibrated_score",
        "score_interval": "score",
        "ceiling_interval": "ceiling",
    }

    @property
    def scored(self) -> Scored | None:
        """The score with its noise; None where nothing was scored."""
        if self.calibrated_score is None or self.epsilon is None:
            return None
        assert self.retain_ratio is not None
        assert self.test_ratio is not None
        score = Score(
            score=self.score,
            forgetting_quality=self.forgetting_quality,
            smooth_quality=self.epsilon.smooth_quality,
            retain_ratio=self.retain_ratio,
            test_ratio=self.test_ratio,
            median_epsilon=self.epsilon.median,
            unresolved=self.epsilon.unresolved,
            perfectly_separated=self.epsilon.perfectly_separated,
            n_models=self.n_runs,
        )
        halves = None if self.half_samples is None else self.half_samples.arrays()
        return Scored(score, self.calibrated_score, halves, self.error_over_subjects)

    @property
    def findings(self) -> Findings | None:
        """What scoring found; None where nothing was scored."""
        scored = self.scored
        return None if scored is None else Findings(scored, self.audit, self.alarms)

    @property
    def share_of_limit(self) -> float | None:
        """Mean of seconds over the limit."""
        return self.seconds.share_of_limit

    @property
    def alarm_names(self) -> tuple[str, ...]:
        """What asks a person to look."""
        return tuple(alarm.name for alarm in self.alarms or ())

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as they are stored."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values

    @classmethod
    def from_json(cls, stored: Any) -> "ScoreFile":
        """Return what `to_json` returned. Raises ValueError if it is something else."""
        return cls.model_validate_json(json.dumps(stored))

    def rounded(self, digits: int) -> "ScoreFile":
        """Return a score that says no more than so many digits.

        Intervals are those of the rounded score, their width rounded up: their ends would say more than their middle.
        """
        values: dict[str, Any] = {
            name: round_off(getattr(self, name), digits) for name in (*self.ROUNDED, "ceiling", "floor")
        }
        for name, of in self.INTERVALS.items():
            ends, middle = getattr(self, name), values[of]
            if ends is not None and middle is not None:
                reach = math.ceil((ends[1] - ends[0]) / 2 * 10**digits) / 10**digits
                values[name] = (round_off(middle - reach, digits), round_off(middle + reach, digits))
        return self.model_copy(update=values)


def round_off(value: float | None, digits: int | None) -> float | None:
    """Return a value with so many digits; None for either leaves it."""
    return value if value is None or digits is None else round(value, digits) + 0.0  # without the sign of -0.0


# ---- from an evaluation --------------------------------------------------------------------------------------------


def score_file(
    submission: Submission,
    track: Track,
    conditions: Conditions,
    runs: Sequence[Run],
    reference: Reference,
    *,
    outcome: Outcome,
    unranked_because: str | None,
    findings: Findings | None,
    full_stack: FullStack | None,
) -> ScoreFile:
    """Return what is known of some runs, scored or not."""
    return ScoreFile(
        submission=submission.name,
        sha256=submission.sha256,
        code_hash=submission.code_hash,
        constants=dict(submission.constants),
        track=track.name,
        fingerprint=track.manifest.fingerprint,
        reference_hash=track.manifest.reference_hash,
        scorer_version=SCORER_VERSION,
        outcome=outcome,
        failure=failure_of(submission, runs),
        n_runs=len(runs),
        ranked=unranked_because is None,
        unranked_because=unranked_because,
        **_scores(findings.scored if findings is not None else None),
        ceiling=reference.ceiling.score,
        ceiling_interval=reference.ceiling.interval,
        floor=reference.floor.score,
        seconds=_seconds(conditions, runs),
        harness_errors=_harness_errors(runs),
        isolation=_isolation(track, conditions.isolation, runs),
        environment={**environment(), "device": conditions.device, "gpu": _gpu(runs)},
        alarms=None if findings is None else findings.alarms,
        audit=None if findings is None else findings.audit,
        full_stack=full_stack,
    )


def failure_of(submission: Submission, runs: Sequence[Run]) -> Failure | None:
    """Return what was wrong with a file, or with the first of its runs that failed."""
    if submission.problems:
        return Failure(run=None, message="; ".join(submission.problems), lines=())
    failed = next((run for run in runs if run.outcome != Outcome.OK), None)
    if failed is None:
        return None
    return Failure(run=failed.index, message=failed.info.message, lines=tuple(failed.info.lines))


def _scores(scored: Scored | None) -> dict[str, Any]:
    """Return what a score says by the names of a score file's fields, all null where nothing was scored."""
    if scored is None:
        names = (*ScoreFile.ROUNDED, "score_interval", "calibrated_interval", "error_over_subjects")
        return dict.fromkeys((*names, "epsilon", "half_samples"))
    score, halves = scored.score, scored.halves
    return {
        "score": score.score,
        "score_interval": None if score.score is None or halves is None else interval(score.score, halves.score),
        "calibrated_score": scored.calibrated,
        "calibrated_interval": interval(scored.calibrated, halves.calibrated_score) if halves else None,
        "error_over_subjects": scored.error_over_subjects,
        "forgetting_quality": score.forgetting_quality,
        "retain_ratio": score.retain_ratio,
        "test_ratio": score.test_ratio,
        "epsilon": Epsilon(
            median=score.median_epsilon,
            unresolved=score.unresolved,
            perfectly_separated=score.perfectly_separated,
            smooth_quality=score.smooth_quality,
        ),
        "half_samples": HalfSampleScores.of(halves) if halves else None,
    }


def _seconds(conditions: Conditions, runs: Sequence[Run]) -> Seconds:
    limit, seconds = conditions.limit, [run.seconds for run in runs]
    share = [run.seconds / run.info.limit_seconds for run in runs]
    return Seconds(
        limit=limit.seconds if limit else None,
        floor=limit.floor_seconds if limit else None,
        mean=sum(seconds) / len(seconds) if seconds else None,
        max=max(seconds, default=None),
        spread=statistics.stdev(seconds) if len(seconds) > 1 else None,
        training=limit.training_seconds if limit else None,
        fraction_of_training=float(np.mean(share)) * limit.fraction if limit and share else None,
        limit_fraction=limit.fraction if limit else None,
    )


def _harness_errors(runs: Sequence[Run]) -> tuple[HarnessError, ...]:
    told = ((run.index, run.info.harness_errors) for run in runs)
    return tuple(HarnessError(run=index, message=message) for index, messages in told for message in messages)


def _gpu(runs: Sequence[Run]) -> str | None:
    """Return name and driver of the GPU that the runs were made on, of the first of them if of several."""
    return next((run.info.gpu for run in runs), None)


def _isolation(track: Track, found: Isolation, runs: Sequence[Run]) -> IsolationFound:
    """Return the level of all runs, without runs that they would be made at, and this machine's layers."""
    limits = track.declaration.limits
    return IsolationFound(
        level=weakest([run.info.isolation for run in runs] or [found.level]),
        missing=found.missing,
        layers=found.layers,
        kernel=platform.release(),
        filter_sha256=program_hash() if is_supported() else None,
        limits={name: getattr(limits, name) for name in ("memory_mb", "processes", "scratch_mb", "threads")},
    )
