"""The whole story of an evaluation: missing runs are made, every run is stored, stored runs are scored."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.evaluation.findings import Findings, findings_of
from harness.evaluation.full_metrics import full_stack
from harness.evaluation.reference import Reference, Scored, load_reference, reference_name
from harness.evaluation.score_file import ScoreFile, score_file
from harness.record import Records
from harness.runner.isolation import Isolation
from harness.runner.outcome import Outcome
from harness.runs.queue import Pending, make_runs
from harness.runs.run import Conditions, Limit, Run
from harness.runs.store import Results
from harness.scoring.alarms import Alarm
from harness.scoring.full_stack import FullStack
from harness.scoring.thresholds import FEWEST_RANKED
from harness.submission import Submission
from harness.tracks.track import Track, siblings

__all__ = [
    "N_SWAPPED",
    "Evaluation",
    "check_runs",
    "evaluate",
    "load_evaluation",
    "load_sibling_evaluations",
    "missing_runs",
    "score_name",
    "share_of_limit",
    "stored_score",
    "unranked_because",
]

N_SWAPPED = 2  # runs made again with other examples to forget, for an alarm
UNKNOWN = Isolation("none", {})


@dataclass(frozen=True)
class Evaluation:
    """What is known of a submission after an evaluation."""

    submission: Submission
    track: Track
    conditions: Conditions
    outcome: Outcome
    n_requested: int
    runs: tuple[Run, ...]  # in the order of the indices, up to and including the first failed one
    n_made: int  # of them made now; the others were stored
    reference: Reference
    score_file: ScoreFile

    @cached_property
    def scored(self) -> Scored | None:
        """The score with its noise; None unless every run is OK."""
        return self.score_file.scored

    @property
    def alarms(self) -> tuple[Alarm, ...] | None:
        """Signs that the score may mean something else; None where nothing was scored, or too few runs to tell."""
        return self.score_file.alarms

    @property
    def records(self) -> Records:
        """The records of the runs that are OK."""
        return Records.concatenate(run.record for run in self.runs if run.record is not None)

    @property
    def failed(self) -> Run | None:
        """The run that failed, if one did."""
        return next((run for run in self.runs if run.outcome != Outcome.OK), None)

    @property
    def isolation(self) -> str:
        """The weakest level any of the runs was made at; without runs the one they would be made at."""
        return self.score_file.isolation.level

    @property
    def share_of_limit(self) -> float:
        """Mean of seconds / limit over the runs; above 1 the submission is over the limit. NaN without runs."""
        return share_of_limit(self.runs) if self.runs else np.nan


def evaluate(
    submission: Submission,
    track: Track,
    conditions: Conditions,
    *,
    runs: int,
    home: Path,
    required_isolation: str | None = None,
    rescore: bool = False,
    on_run: Callable[[Run], None] = lambda run: None,
) -> Evaluation:
    """Make the runs that are not stored yet, and score all of them.

    rescore: make no runs, and score the stored ones anew. on_run hears of every run made, as they are done.
    Raises UsageError if there are fewer retrained models than runs, or too few stored runs to rescore.
    An interruption loses at most the runs in flight; the same call again goes on from there.
    """
    check_runs(track, runs)
    results = Results(home, track, submission, conditions)
    reference = load_reference(track, runs, Results.cache(home, track))
    done = results.runs(range(runs), required_isolation, gpus=conditions.gpus)
    missing = [] if submission.problems else missing_runs(done, runs)
    if missing and rescore:
        raise UsageError(
            f"--rescore makes no runs, and {len(missing)} of {runs} are not stored; leave it out to make them"
        )
    if missing:
        done |= _make(submission, track, conditions, results, missing, on_run=on_run)
    complete = _Complete(submission, track, conditions, results, tuple(_up_to_first_failure(done)), reference, runs)
    made = sum(run.index in missing for run in complete.runs)
    return Evaluation(
        submission=submission,
        track=track,
        conditions=conditions,
        outcome=complete.outcome,
        n_requested=runs,
        runs=complete.runs,
        n_made=made,
        reference=reference,
        score_file=complete.scored(anew=rescore or made > 0, may_run=not rescore),
    )


@dataclass(frozen=True)
class _Complete:
    """A submission with all its runs, up to the first that failed, and what they are scored against."""

    submission: Submission
    track: Track
    conditions: Conditions
    results: Results
    runs: tuple[Run, ...]
    reference: Reference
    n_requested: int

    @property
    def outcome(self) -> Outcome:
        """What became of the submission."""
        return Outcome.INVALID_SUBMISSION if self.submission.problems else self.runs[-1].outcome

    def scored(self, *, anew: bool, may_run: bool) -> ScoreFile:
        """Return what is known of the runs, as it is stored unless it is to be scored anew; a new score is stored.

        may_run: whether the few runs may be made with which an alarm compares.
        """
        if self.outcome != Outcome.OK:
            return self._score_file(None, None)
        stored = None if anew else stored_score(self.results, self.track, self.n_requested)
        if stored is not None:  # of the same code, perhaps as another file
            own = {"submission": self.submission.name, "sha256": self.submission.sha256}
            return stored.model_copy(update={**own, "constants": dict(self.submission.constants)})
        found = self._score_file(self._findings(may_run=may_run), self._full_stack())
        self.results.write(score_name(self.track, self.n_requested), found.to_json())
        return found

    def _findings(self, *, may_run: bool) -> Findings:
        may_run = may_run and self.n_requested >= FEWEST_RANKED
        swapped = _swapped(self.submission, self.track, self.conditions, self.results, may_run=may_run)
        return findings_of(self.runs, swapped, self.track.originals(), self.reference)

    def _full_stack(self) -> FullStack:
        limit = self.conditions.limit
        return full_stack(
            self.track,
            Records.concatenate(run.record for run in self.runs if run.record is not None),
            seconds=[run.seconds for run in self.runs],
            training_seconds=limit.training_seconds if limit else None,
        )

    def _score_file(self, findings: Findings | None, metrics: FullStack | None) -> ScoreFile:
        return score_file(
            self.submission,
            self.track,
            self.conditions,
            self.runs,
            self.reference,
            outcome=self.outcome,
            unranked_because=_unranked_because(self.outcome, self.conditions.limit, self.runs, self.n_requested),
            findings=findings,
            full_stack=metrics,
        )


def _unranked_because(outcome: Outcome, limit: Limit | None, runs: Sequence[Run], n_requested: int) -> str | None:
    """Return why a score is not ranked, or None if it is."""
    if outcome != Outcome.OK:
        return f"outcome {outcome}"
    if limit is not None and limit.is_overridden:
        return "time limit overridden"
    return unranked_because(n_requested, share_of_limit(runs))


def share_of_limit(runs: Sequence[Run]) -> float:
    """Return the mean of seconds / limit over some runs."""
    return float(np.mean([run.seconds / run.info.limit_seconds for run in runs]))


def unranked_because(n_runs: int, share_of_limit: float) -> str | None:
    """Return why so many runs that are OK, with this mean share of the time limit, are not ranked; None if they are."""
    if share_of_limit > 1:
        return "over the limit"
    return f"fewer than {FEWEST_RANKED} runs" if n_runs < FEWEST_RANKED else None


def check_runs(track: Track, runs: int) -> None:
    """Raise UsageError if a track has fewer retrained models in a pool than there are to be runs."""
    if runs > track.manifest.retrained:
        raise UsageError(
            f"{runs} runs need {runs} retrained models in each pool, {track.name} has {track.manifest.retrained}; "
            f"add models with: harness prepare {track.name} --retrained {runs}"
        )


def load_evaluation(
    submission: Submission,
    track: Track,
    device: str,
    *,
    runs: int,
    home: Path,
    isolation: Isolation = UNKNOWN,
    rescore: bool = False,
) -> Evaluation:
    """Return the evaluation of stored runs under the track's own limit, and make none.

    isolation: what is known of how they were made beside the level, which they say themselves. rescore: score them
    anew. Raises UsageError, naming the command that makes them, if some are not stored.
    """
    threads = track.declaration.limits.threads
    unknown = Conditions(limit=None, isolation=isolation, device=device, threads=threads)
    results = Results(home, track, submission, unknown)
    stored = results.runs(range(runs))
    if not submission.problems and (missing := missing_runs(stored, runs)):
        raise UsageError(
            f"{len(missing)} of {runs} runs of {submission.path} on {track.name} are not stored; make them with: "
            f"harness evaluate {submission.path}, and the same --track, --runs, --set and --device"
        )
    never_scored = stored_score(results, track, runs) is None
    conditions = _conditions_of(stored, unknown, track)
    return evaluate(submission, track, conditions, runs=runs, home=home, rescore=rescore or never_scored)


def load_sibling_evaluations(evaluation: Evaluation, home: Path) -> list[Evaluation]:
    """Return the stored evaluations of as many runs on tracks with the same originals, those whose runs are all OK."""
    device, runs, found = evaluation.conditions.device, evaluation.n_requested, []
    originals = evaluation.track.originals().weights_sha256
    for track in siblings(evaluation.track):
        if not np.array_equal(track.originals().weights_sha256, originals):
            continue  # prepared apart
        with contextlib.suppress(UsageError):  # not evaluated there
            found.append(load_evaluation(evaluation.submission, track, device, runs=runs, home=home))
    return [other for other in found if other.outcome == Outcome.OK]


def _conditions_of(stored: dict[int, Run], unknown: Conditions, track: Track) -> Conditions:
    """Return what stored runs were made under, as far as they do not say it themselves: the limit of the first one."""
    if not stored:
        return unknown
    info = stored[min(stored)].info
    seconds, fraction = info.limit_seconds, track.declaration.limits.time_limit_fraction
    training_seconds = None if info.calibration is None else seconds / fraction
    limit = Limit(
        seconds,
        fraction,
        training_seconds=training_seconds,
        calibration=info.calibration,
        floor_seconds=info.floor_seconds,
    )
    return replace(unknown, limit=limit)


def score_name(track: Track, runs: int) -> str:
    """Return what the score of so many runs is stored under."""
    return f"score-{reference_name(track, runs)}"


def stored_score(results: Results, track: Track, runs: int) -> ScoreFile | None:
    """Return the score of so many runs, if it is stored in the form this version of the harness has."""
    stored = results.read(score_name(track, runs))
    if stored is None:
        return None
    try:
        return ScoreFile.from_json(stored)
    except ValueError:
        return None


def _swapped(
    submission: Submission, track: Track, conditions: Conditions, results: Results, *, may_run: bool
) -> list[Run]:
    """Return the first runs made with other examples to forget, as far as they are stored or may be made."""
    done = results.runs(range(N_SWAPPED), gpus=conditions.gpus, swap_forget_set=True)
    missing = missing_runs(done, N_SWAPPED)
    if missing and may_run:
        done |= _make(submission, track, conditions, results, missing, swap_forget_set=True)
    return _up_to_first_failure(done)


def _make(
    submission: Submission,
    track: Track,
    conditions: Conditions,
    results: Results,
    indices: list[int],
    *,
    on_run: Callable[[Run], None] = lambda run: None,
    swap_forget_set: bool = False,
) -> dict[int, Run]:
    """Make runs here, and return those that were made before one failed."""
    from harness.runs.local import LocalExecutor  # imports torch, which a repeated call has no use for

    made = {}
    pending = Pending(submission, results, indices, swap_forget_set)
    for _, run in make_runs([pending], LocalExecutor(track, conditions)):
        on_run(run)
        made[run.index] = run
    return made


def missing_runs(stored: dict[int, Run], runs: int) -> list[int]:
    """Return the indices below `runs` that are still to be run: those after a failed run are skipped."""
    first_failed = min((index for index, run in stored.items() if run.outcome != Outcome.OK), default=runs)
    return [index for index in range(first_failed) if index not in stored]


def _up_to_first_failure(runs: dict[int, Run]) -> list[Run]:
    in_order = []
    for index in sorted(runs):
        in_order.append(runs[index])
        if runs[index].outcome != Outcome.OK:
            break
    return in_order
