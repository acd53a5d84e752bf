"""A budget of trials: what it is spent on, what became of each trial, and how it is kept.

    HARNESS_HOME/tuning/TRACK-PUBLIC/CODE-DEVICE-KEY.json     one tuning: a Tuning, as `--json` writes it

Each trial is an ordinary evaluation of the file with constants set, whose runs and score lie among the results. So an
interrupted tuning goes on where it was, and one of more trials makes only the new ones.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.environment import environment
from harness.errors import MachineError, UsageError
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.figures import RANKING, Figures, Part
from harness.runner.isolation import is_enough
from harness.runner.outcome import Outcome
from harness.runs.run import RUNNER_VERSION
from harness.scoring.score import SCORER_VERSION
from harness.seal import sealed, unsealed, whole
from harness.storage import read_json, write_json
from harness.submission import Submission, constants_of
from harness.tracks.track import Track
from harness.tuning.ranges import draw, ranges_of, seed_of

__all__ = ["Plan", "Trial", "Tuning", "plan_of"]


class Trial(Figures):
    """One evaluation on the tuning track; without a score if a run failed, or if it is over the time limit."""

    settings: dict[str, str]  # values of constants that were drawn; none for the file as it is
    outcome: Outcome
    remark: str | None  # why there is no score
    isolation: str  # the weakest level of a run

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation, settings: Mapping[str, str]) -> "Trial":
        """Return what became of settings. Raises MachineError if the harness failed at them."""
        found, remark = evaluation.score_file, None
        if found.failure is not None:
            remark = found.failure.message
        elif (found.share_of_limit or 0) > 1:
            remark = "over the time limit"
        if evaluation.outcome == Outcome.HARNESS_ERROR:
            raise MachineError(f"a trial failed ({remark}); what was done is stored: run the command again")
        figures = {name: getattr(found, name) for name in Figures.model_fields}
        if remark is not None:
            figures = dict.fromkeys(figures) | {"share_of_limit": found.share_of_limit}
        return cls(
            **figures,
            settings=dict(settings),
            outcome=evaluation.outcome,
            remark=remark,
            isolation=evaluation.isolation,
        )


class Tuning(Part):
    """All that is known of a tuning."""

    format: Literal[1] = 1
    submission: str
    sha256: str
    code_hash: str  # with the constants below
    constants: dict[str, str]  # those set for all trials
    track: str  # for which settings are looked for
    tuning_track: str  # on which they are tried
    reference_hash: str | None  # of the latter
    scorer_version: str
    runner_version: str
    device: str
    n_trials: int
    n_runs: int  # of each
    seed: int
    ranges: dict[str, str]
    trials: tuple[Trial, ...]
    rank_by: Literal["calibrated", "official"] = "calibrated"  # the score that ranks on the track
    best: int | None  # the number of the trial that is highest by it, counted from 1
    made: str
    environment: dict[str, str]

    @property
    def best_trial(self) -> Trial | None:
        """The trial with the highest score, by the one that ranks on the track; None if no trial has one."""
        return None if self.best is None else self.trials[self.best - 1]

    @property
    def best_constants(self) -> dict[str, str] | None:
        """The constants to set in the file for that trial; None if no trial has a score."""
        return None if self.best_trial is None else {**self.constants, **self.best_trial.settings}

    def to_json(self) -> dict[str, Any]:
        """Return plain values with their seal, as they are stored."""
        return sealed(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, stored: Any) -> "Tuning":
        """Return what `to_json` returned. Raises ValueError if it is something else, or was changed."""
        return cls.model_validate_json(json.dumps(unsealed(stored)))


@dataclass(frozen=True)
class Plan:
    """What a budget of trials is spent on."""

    submission: Submission  # with the constants that are set for all trials
    track: Track
    tuning_track: Track
    device: str
    trials: int
    runs: int
    seed: int
    ranges: Mapping[str, str]
    settings: Sequence[Mapping[str, str]]  # of each trial

    @cached_property
    def terms(self) -> dict[str, Any]:
        """What the result depends on."""
        return {
            "code_hash": self.submission.code_hash,
            "constants": dict(self.submission.constants),
            "track": self.track.name,
            "tuning_track": self.tuning_track.name,
            "reference_hash": self.tuning_track.manifest.reference_hash,
            "scorer_version": SCORER_VERSION,
            "runner_version": RUNNER_VERSION,
            "device": self.device,
            "n_trials": self.trials,
            "n_runs": self.runs,
            "seed": self.seed,
            "ranges": dict(self.ranges),
            "rank_by": self.tuning_track.declaration.evaluation.rank_by,
        }

    def file(self, home: Path) -> Path:
        """Return where the result is kept."""
        key = hashlib.sha256(json.dumps(self.terms, sort_keys=True).encode()).hexdigest()[:12]
        public, code = self.tuning_track.manifest.public_hash[:12], self.submission.code_hash[:16]
        return home / "tuning" / f"{self.tuning_track.name}-{public}" / f"{code}-{self.device}-{key}.json"

    def stored(self, home: Path, required_isolation: str | None) -> Tuning | None:
        """Return the result if it is kept, and was made at the required isolation."""
        found = whole(self.file(home), lambda file: Tuning.from_json(read_json(file)))
        if found is None or not all(is_enough(trial.isolation, required_isolation) for trial in found.trials):
            return None
        return found.model_copy(update={"submission": self.submission.name, "sha256": self.submission.sha256})

    def result(self, trials: Sequence[Trial]) -> Tuning:
        """Return the result of all trials."""
        ranking = RANKING[self.terms["rank_by"]]
        scores = {number: getattr(trial, ranking) for number, trial in enumerate(trials, 1)}
        scored = {number: score for number, score in scores.items() if score is not None}
        return Tuning(
            **self.terms,
            submission=self.submission.name,
            sha256=self.submission.sha256,
            trials=tuple(trials),
            best=max(scored, key=lambda number: scored[number], default=None),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=environment(),
        )

    def keep(self, home: Path, tuning: Tuning) -> None:
        """Keep the result; that of a file which cannot be run is not."""
        if not self.submission.problems:
            write_json(self.file(home), tuning.to_json())


def plan_of(
    submission: Submission,
    track: Track,
    tuning_track: Track,
    *,
    device: str,
    trials: int,
    runs: int,
    ranges: Mapping[str, str],
) -> Plan:
    """Return what a budget is spent on; ranges: those asked for, by name.

    A file that cannot be run has one trial, whose outcome says why. Raises UsageError if a range is none, or if the
    file has nothing to be tuned.
    """
    if submission.is_learner:
        raise UsageError(f"{submission.path} is a learner: only methods that start from a track's originals are tuned")
    seed, found, settings = 0, {}, [dict[str, str]()]
    if not submission.problems:
        constants = constants_of(submission)
        found, seed = ranges_of(constants, ranges, submission.constants), seed_of(constants)
        settings = draw(found, constants, seed=seed, trials=trials)
    texts = {name: str(span) for name, span in found.items()}
    return Plan(submission, track, tuning_track, device, trials, runs, seed, texts, settings)
