"""The one form of a score: what scoring returns, what lies on disk, what `--json` writes, what leaderboards read.

Values that are not known are null. A file of another version, with a field too many or too few, or with a changed
value, is not read: what it says is computed again from the runs.
"""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from harness.environment import environment
from harness.evaluation.figures import Figures, Part
from harness.evaluation.findings import Findings
from harness.evaluation.learner_figures import LearnerFigures
from harness.evaluation.reference import Reference, Scored
from harness.evaluation.stream_figures import StreamFigures
from harness.runner.isolation import Isolation, weakest
from harness.runner.outcome import Outcome
from harness.runner.sandbox.seccomp import is_supported, program_hash
from harness.runs.run import Conditions, Limit, Run
from harness.scoring.alarms import Alarm
from harness.scoring.audit import Audit
from harness.scoring.full_stack import FullStack
from harness.scoring.score import SCORER_VERSION, HalfSamples, Score
from harness.scoring.uncertainty import interval
from harness.seal import sealed, unsealed
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = [
    "Epsilon",
    "HalfSampleScores",
    "ScoreFile",
    "failure_of",
    "figures_of",
    "score_file",
    "share_of_limit",
    "trainings_taken",
]

SHARED = [field.name for field in fields(Score) if field.name in Figures.model_fields]


class Failure(Part):
    """What was wrong: with the file itself, or with the first run that failed."""

    run: int | None
    message: str
    lines: tuple[str, ...]  # of the submission's own file


class HarnessError(Part):
    """What the harness failed at and made again, with the same seeds."""

    run: int
    message: str


class Epsilon(Part):
    """Epsilons of the forget examples, official but for the last."""

    median: float | None
    unresolved: int  # examples every threshold of which was discarded
    perfectly_separated: int
    smooth_quality: float  # Q of min-count epsilons

    @classmethod
    def of(cls, score: Score) -> "Epsilon":
        """Return the epsilons of a score as they are stored."""
        return cls(
            median=score.median_epsilon,
            unresolved=score.unresolved,
            perfectly_separated=score.perfectly_separated,
            smooth_quality=score.smooth_quality,
        )


class HalfSampleScores(Part):
    """Scores of halves of the models, from which all intervals are made."""

    score: tuple[float, ...]
    smooth_quality: tuple[float, ...]
    calibrated_score: tuple[float, ...]

    @classmethod
    def of(cls, halves: HalfSamples | None) -> "HalfSampleScores | None":
        """Return half-samples as they are stored; None where there are none."""
        if halves is None:
            return None
        return cls(**{name: tuple(getattr(halves, name).tolist()) for name in cls.model_fields})

    def arrays(self) -> HalfSamples:
        """Return them as they are computed with."""
        return HalfSamples(**{name: np.array(getattr(self, name)) for name in type(self).model_fields})


class Seconds(Part):
    """Times of the runs, or of all their requests."""

    limit: float | None
    floor: float | None  # of a run that does nothing
    mean: float | None
    max: float | None
    spread: float | None  # standard deviation over the runs, of several requests of their means
    training: float | None
    fraction_of_training: float | None  # mean over the runs, as the mean seconds are; None where none was timed
    limit_fraction: float | None


class IsolationFound(Part):
    """What stood between the runs and the machine."""

    level: str  # the weakest of any run
    missing: dict[str, str]  # stronger levels, and why they were not used
    layers: dict[str, str | None]  # of the machine: null, or why one is missing
    kernel: str
    filter_sha256: str | None  # of the system-call filter
    limits: dict[str, int]


class ScoreFile(Figures):
    """All that is known of a submission's runs on a track."""

    format: Literal[3] = 3
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
    runs_seal: str  # which runs it is of
    ranked: bool
    unranked_because: str | None
    error_over_subjects: float | None
    epsilon: Epsilon | None
    half_samples: HalfSampleScores | None
    seconds: Seconds
    harness_errors: tuple[HarnessError, ...]
    isolation: IsolationFound
    environment: dict[str, str | None]
    alarms: tuple[Alarm, ...] | None
    audit: Audit | None
    full_stack: FullStack | None
    learner: LearnerFigures | None = Field(None, exclude_if=lambda found: found is None)  # of learners alone
    stream: StreamFigures | None = Field(None, exclude_if=lambda found: found is None)  # of several deletion requests

    @property
    def scored(self) -> Scored | None:
        """The score with its noise; None where nothing was scored."""
        if self.calibrated_score is None or self.epsilon is None:
            return None
        score = Score(
            **{name: getattr(self, name) for name in SHARED},
            smooth_quality=self.epsilon.smooth_quality,
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

    def rounded(self, digits: int) -> Self:
        """Return figures that say no more than so many digits, those of a learner as well."""
        rounded = super().rounded(digits)
        return rounded.model_copy(update={"learner": self.learner and self.learner.rounded(digits)})

    @property
    def alarm_names(self) -> tuple[str, ...]:
        """What asks a person to look."""
        return tuple(alarm.name for alarm in self.alarms or ())

    def to_json(self) -> dict[str, Any]:
        """Return plain values with their seal, as they are stored."""
        return sealed(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, stored: Any) -> "ScoreFile":
        """Return what `to_json` returned. Raises ValueError if it is something else, or was changed."""
        return cls.model_validate_json(json.dumps(unsealed(stored)))


# ---- from an evaluation --------------------------------------------------------------------------------------------


def score_file(
    submission: Submission,
    track: Track,
    conditions: Conditions,
    runs: Sequence[Run],
    reference: Reference,
    *,
    runs_seal: str,
    outcome: Outcome,
    unranked_because: str | None,
    findings: Findings | None,
    full_stack: FullStack | None,
    learner: LearnerFigures | None,
    all_runs: Sequence[Run] = (),
    stream: StreamFigures | None = None,
) -> ScoreFile:
    """Return what is known of some runs, scored or not; all_runs: with those that are made for their score alone."""
    scored = None if findings is None else findings.scored
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
        runs_seal=runs_seal,
        ranked=unranked_because is None,
        unranked_because=unranked_because,
        **dict(figures_of(scored, reference, runs)),
        error_over_subjects=None if scored is None else scored.error_over_subjects,
        epsilon=None if scored is None else Epsilon.of(scored.score),
        half_samples=HalfSampleScores.of(None if scored is None else scored.halves),
        seconds=_seconds(conditions.limit, runs),
        harness_errors=_harness_errors(runs),
        isolation=_isolation(track, conditions.isolation, all_runs or runs),
        environment={**environment(), "device": conditions.device, "gpu": _gpu(runs)},
        alarms=None if findings is None else findings.alarms,
        audit=None if findings is None else findings.audit,
        full_stack=full_stack,
        learner=learner,
        stream=stream,
    )


def failure_of(submission: Submission, runs: Sequence[Run]) -> Failure | None:
    """Return what was wrong with a file, or with the first of its runs that failed."""
    if submission.problems:
        return Failure(run=None, message="; ".join(submission.problems), lines=())
    failed = next((run for run in runs if run.outcome != Outcome.OK), None)
    if failed is None:
        return None
    return Failure(run=failed.index, message=failed.info.message, lines=tuple(failed.info.lines))


def figures_of(scored: Scored | None, reference: Reference, runs: Sequence[Run]) -> Figures:
    """Return the figures of runs, scored or not; those of `Score` are taken over by their names."""
    known: dict[str, object] = {
        "ceiling": reference.ceiling.score,
        "ceiling_interval": reference.ceiling.interval,
        "floor": reference.floor.score,
        "share_of_limit": share_of_limit(runs),
    }
    if scored is not None:
        score, halves = scored.score, scored.halves
        known |= {name: getattr(score, name) for name in SHARED}
        known["calibrated_score"] = scored.calibrated
        if halves is not None:
            known["calibrated_interval"] = interval(scored.calibrated, halves.calibrated_score)
            known["score_interval"] = None if score.score is None else interval(score.score, halves.score)
    return Figures.of(known)


def share_of_limit(runs: Sequence[Run]) -> float | None:
    """Return the mean of seconds / limit over some runs, of requests that of the slowest; None without any run."""
    by_run = [[seconds / run.info.limit_seconds for seconds in run.request_seconds] for run in runs]
    return max((float(np.mean(shares)) for shares in zip(*by_run, strict=False)), default=None)


def trainings_taken(runs: Sequence[Run], limit: Limit | None) -> list[float] | None:
    """Return the time of each run, or of one of its requests, in trainings; None where none was timed.

    A training is that from which the run's own limit is: stored runs may be of an earlier calibration.
    """
    if limit is None or limit.training_seconds is None:
        return None
    return [run.seconds / (run.info.limit_seconds / limit.fraction) for run in runs]


def _seconds(limit: Limit | None, runs: Sequence[Run]) -> Seconds:
    seconds, of_runs = [each for run in runs for each in run.request_seconds], [run.seconds for run in runs]
    trainings = trainings_taken(runs, limit)
    return Seconds(
        limit=limit.seconds if limit else None,
        floor=limit.floor_seconds if limit else None,
        mean=sum(seconds) / len(seconds) if seconds else None,
        max=max(seconds, default=None),
        spread=statistics.stdev(of_runs) if len(of_runs) > 1 else None,
        training=limit.training_seconds if limit else None,
        fraction_of_training=statistics.fmean(trainings) if trainings else None,
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
