"""The score of a set of runs: as it is stored, or computed from the runs and then stored."""

import importlib
from collections.abc import Sequence
from dataclasses import replace

from harness.evaluation.findings import findings_of
from harness.evaluation.full_metrics import full_stack
from harness.evaluation.learner_figures import LearnerFigures
from harness.evaluation.learner_findings import alarms_of_learner
from harness.evaluation.own_reference import models_of
from harness.evaluation.reference import Reference, reference_name
from harness.evaluation.score_file import ScoreFile, score_file, share_of_limit, trainings_taken
from harness.evaluation.stream_figures import StreamFigures
from harness.runner.outcome import Outcome
from harness.runs.run import Conditions, Run, records_of
from harness.runs.run_set import RunSet
from harness.runs.store import Results
from harness.scoring.thresholds import FEWEST_RANKED
from harness.seal import whole
from harness.storage import read_json, write_json
from harness.tracks.track import Track

__all__ = ["load_what_scores", "outcome_of", "score_name", "score_of", "stored_score", "unranked_because"]


def load_what_scores() -> None:
    """Import what scoring imports late, which takes a second: for whoever waits for something else anyway."""
    for library in ("scipy.stats", "sklearn.svm"):
        importlib.import_module(library)


def score_of(run_set: RunSet, track: Track, conditions: Conditions, reference: Reference, *, anew: bool) -> ScoreFile:
    """Return what is known of runs that are all there, or there up to one that failed, with their records.

    anew: compute the score even if it is stored. One that is stored counts only if it is whole and of these very runs.
    A new score is stored; what failed has none.
    """
    if outcome_of(run_set) != Outcome.OK:
        return _score_file(run_set, track, conditions, reference)
    submission = run_set.submission
    stored = None if anew else stored_score(run_set.results, track, run_set.count)
    if stored is not None and stored.runs_seal == run_set.seal:  # of the same code, perhaps as another file
        own = {"submission": submission.name, "sha256": submission.sha256, "constants": dict(submission.constants)}
        return stored.model_copy(update=own)
    found = _score_file(run_set, track, conditions, reference)
    write_json(run_set.results.score_file(score_name(track, run_set.count)), found.to_json())
    return found


def outcome_of(run_set: RunSet) -> Outcome:
    """Return what became of a submission whose runs are all there, or there up to one that failed."""
    if run_set.submission.problems:
        return Outcome.INVALID_SUBMISSION
    return Outcome.OK if run_set.failed is None else run_set.failed.outcome


def score_name(track: Track, runs: int) -> str:
    """Return what the score of so many runs is stored under."""
    return f"score-{reference_name(track, runs)}"


def stored_score(results: Results, track: Track, runs: int) -> ScoreFile | None:
    """Return the score of so many runs, if it is stored whole, in the form this version of the harness has."""
    file = results.score_file(score_name(track, runs))
    return whole(file, lambda stored: ScoreFile.from_json(read_json(stored)))


def unranked_because(runs: Sequence[Run], learner: LearnerFigures | None = None) -> str | None:
    """Return why runs that are all OK, a learner's if there are figures of one, are not ranked; None if they are."""
    if (share_of_limit(runs) or 0) > 1:
        return "over the limit"
    if len(runs) < FEWEST_RANKED:
        return f"fewer than {FEWEST_RANKED} runs"
    return None if learner is None else learner.unranked_because


def _score_file(run_set: RunSet, track: Track, conditions: Conditions, reference: Reference) -> ScoreFile:
    runs, outcome, findings, metrics, learner, stream = run_set.runs, outcome_of(run_set), None, None, None, None
    if run_set.failed_in_train:
        conditions = replace(conditions, limit=None)  # that of `unlearn`, which says nothing of this run's time
    if outcome == Outcome.OK:
        information = run_set.submission.information
        originals, retrained = models_of(run_set, track)
        findings = findings_of(runs, run_set.swapped.runs, originals, reference, information=information)
        if findings.alarms is not None and len(runs) >= FEWEST_RANKED:
            own = alarms_of_learner(run_set, track, reference)
            findings = replace(findings, alarms=(*findings.alarms, *own))
        learner = LearnerFigures.of(run_set, conditions, reference)
        metrics = full_stack(track, records_of(runs), retrained, trainings=trainings_taken(runs, conditions.limit))
        stream = StreamFigures.of(run_set, track, metrics)
    return score_file(
        run_set.submission,
        track,
        conditions,
        runs,
        reference,
        runs_seal=run_set.seal,
        outcome=outcome,
        unranked_because=_unranked_because(outcome, conditions, runs, learner),
        findings=findings,
        full_stack=metrics,
        learner=learner,
        all_runs=run_set.all_runs,
        stream=stream,
    )


def _unranked_because(
    outcome: Outcome, conditions: Conditions, runs: Sequence[Run], learner: LearnerFigures | None
) -> str | None:
    if outcome != Outcome.OK:
        return f"outcome {outcome}"
    if conditions.own_time_limit is not None:
        return "time limit overridden"
    return unranked_because(runs, learner)
