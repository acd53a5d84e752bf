"""The whole story of an evaluation: missing runs are made, every run is stored, stored runs are scored."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.evaluation.commands import options
from harness.evaluation.make import check_runs, make_missing
from harness.evaluation.own_reference import reference_of
from harness.evaluation.reference import Reference, Scored, load_reference
from harness.evaluation.score_file import ScoreFile
from harness.evaluation.stored_score import load_what_scores, outcome_of, score_of
from harness.quoting import quoted
from harness.record import Records
from harness.runner.isolation import Isolation, weakest
from harness.runner.outcome import Outcome
from harness.runs.launchers import launcher_for
from harness.runs.learner_runs import LearnerRunSet, run_set_of
from harness.runs.queue import Executor
from harness.runs.run import Conditions, Limit, Run, records_of
from harness.runs.run_set import N_SWAPPED, RunSet
from harness.runs.store import Results
from harness.scoring.alarms import Alarm
from harness.scoring.thresholds import FEWEST_RANKED
from harness.submission import Submission
from harness.tracks.track import Track, siblings

__all__ = ["Evaluation", "conditions_of", "evaluate", "load_evaluation", "load_sibling_evaluations"]

OnTraining = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What is known of a submission after an evaluation."""

    submission: Submission
    track: Track
    conditions: Conditions
    outcome: Outcome
    n_requested: int
    run_set: RunSet  # all of what was run
    runs: tuple[Run, ...]  # in the order of the indices, up to and including the first failed one
    n_made: int  # of them made now; the others were stored
    has_stored_failure: bool  # the run that failed was not made now
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
    def records(self) -> Records | None:
        """The records of the runs that are OK; None if none is."""
        return records_of(self.runs) if any(run.record is not None for run in self.runs) else None

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
        return np.nan if self.score_file.share_of_limit is None else self.score_file.share_of_limit


def evaluate(
    submission: Submission,
    track: Track,
    conditions: Conditions,
    *,
    runs: int,
    home: Path,
    required_isolation: str | None = None,
    again: bool = False,
    on_run: Callable[[Run], None] = lambda run: None,
    on_training: OnTraining = lambda done, total: None,
) -> Evaluation:
    """Make the runs that are not stored yet, and score all of them.

    A stored failure is made again once what it depends on has changed. again: make stored failures again in any case.
    on_run hears of every run made, as they are done; on_training of how many trainings of a learner there are, and are
    to be. Raises UsageError if there are fewer retrained models than runs.
    """
    check_runs(track, runs)
    results = Results.of(home, track, submission, conditions.device, time_limit=conditions.own_time_limit)
    run_set = run_set_of(
        submission,
        results,
        runs,
        required_isolation=required_isolation,
        gpus=conditions.gpus,
        with_records=True,
        failure_counts=lambda run: not again and run.info.dependencies == conditions.dependencies,
    )
    may_run = not submission.problems
    if may_run and run_set.missing:
        launcher_for(track, conditions).warm_up()  # beside all that is made ready here
        if runs >= FEWEST_RANKED:
            load_what_scores()
    reference = load_reference(track, runs, Results.cache(home, track))  # while a launcher gets ready
    if may_run:
        executor = cache(partial(_this_machine, track, conditions))  # what measures runs is made ready once
        for each, run in make_missing([run_set], executor):
            if each is run_set:
                on_run(run)
            elif isinstance(run_set, LearnerRunSet):
                on_training(*run_set.training_counts)
    anew = bool(run_set.made or run_set.swapped.made)
    return _evaluation(run_set, track, conditions, reference_of(run_set, track, reference), anew=anew)


def load_evaluation(
    submission: Submission,
    track: Track,
    device: str,
    *,
    runs: int,
    home: Path,
    time_limit: float | None = None,
    required_isolation: str | None = None,
    isolation: Isolation | None = None,
    rescore: bool = False,
) -> Evaluation:
    """Return the evaluation of stored runs, which may have been made on another machine; nothing is run.

    time_limit: the share of a training that they were given instead of the track's. required_isolation: runs of weaker
    levels do not count. isolation: what is known of how they were made beside the level, which they say themselves.
    rescore: score them anew. Raises UsageError, naming the command that makes them, if some are not stored.
    """
    check_runs(track, runs)
    results = Results.of(home, track, submission, device, time_limit=time_limit)
    run_set = run_set_of(submission, results, runs, required_isolation=required_isolation, with_records=True)
    lacking = run_set.lacking
    if required_isolation is not None and run_set.needs_swapped and run_set.swapped.missing:
        lacking |= {"runs with other examples to forget": (len(run_set.swapped.missing), N_SWAPPED)}
    if lacking and not submission.problems:
        first = run_set.n_scorable if run_set.lacking else 0
        fewer = f"ask for the {first} that are with --runs {first}, or " if first else ""
        same = [
            *options(track.name, device=device, constants=submission.constants, time_limit=time_limit),
            *([] if required_isolation is None else [f"--require-isolation {required_isolation}"]),
            f"--runs {runs}",
        ]
        counts = " and ".join(f"{missing} of {total} {what}" for what, (missing, total) in lacking.items())
        raise UsageError(
            f"{counts} of {submission.path} on {track.name} are not stored; {fewer}make them with: "
            f"harness evaluate {quoted(submission.path)} {' '.join(same)}"
        )
    conditions = conditions_of(run_set, track, device, isolation, time_limit)
    reference = reference_of(run_set, track, load_reference(track, runs, Results.cache(home, track)))
    return _evaluation(run_set, track, conditions, reference, anew=rescore)


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


def _evaluation(
    run_set: RunSet, track: Track, conditions: Conditions, reference: Reference, *, anew: bool
) -> Evaluation:
    """Return what is known of runs that are all there, or there up to one that failed."""
    return Evaluation(
        submission=run_set.submission,
        track=track,
        conditions=conditions,
        outcome=outcome_of(run_set),
        n_requested=run_set.count,
        run_set=run_set,
        runs=run_set.runs,
        n_made=sum(run.index in run_set.made for run in run_set.runs),
        has_stored_failure=run_set.has_stored_failure,
        reference=reference,
        score_file=score_of(run_set, track, conditions, reference, anew=anew),
    )


def _this_machine(track: Track, conditions: Conditions) -> Executor:
    from harness.runs.local import LocalExecutor  # imports torch, which a repeated call has no use for

    return LocalExecutor(track, conditions)


def conditions_of(
    run_set: RunSet,
    track: Track,
    device: str,
    isolation: Isolation | None = None,
    time_limit: float | None = None,
) -> Conditions:
    """Return what stored runs were made under: their weakest level, unless more is known, and the limit of `unlearn`.

    time_limit: the share of a training that they were given instead of the track's.
    """
    runs, limits = run_set.runs, track.declaration.limits
    isolation = isolation or Isolation(weakest([run.info.isolation for run in run_set.all_runs] or ["none"]), {})
    unknown = Conditions(limit=None, isolation=isolation, device=device, threads=limits.threads)
    if not runs:
        return unknown
    info, fraction = runs[0].info, time_limit or limits.time_limit_fraction
    share = limits.train_limit if run_set.failed_in_train else fraction  # of a training, that the first run was given
    limit = Limit(
        info.limit_seconds * (fraction / share),
        fraction,
        is_overridden=time_limit is not None,
        training_seconds=None if info.calibration is None else info.limit_seconds / share,
        calibration=info.calibration,
        floor_seconds=info.floor_seconds,
    )
    return replace(unknown, limit=limit)
