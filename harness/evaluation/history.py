"""Earlier scores of a file, so that a participant sees what the last change did."""

import hashlib
import os
from pathlib import Path

from pydantic import TypeAdapter

from harness.evaluation.commands import options
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.figures import Part
from harness.evaluation.reference import Scored
from harness.evaluation.stored_score import score_name, stored_score
from harness.quoting import quoted
from harness.runs.store import Results
from harness.scoring.uncertainty import difference
from harness.shipped import BASELINES
from harness.storage import read_json, write_json
from harness.submission import Submission, read_submission

__all__ = ["add_to_history", "comparisons"]

BASELINE = BASELINES / "finetune.py"


class StoredScore(Part):
    """Where a score of a file lies: of one version of it, for one number of runs."""

    folder: str  # of the results
    name: str


HISTORY = TypeAdapter(list[StoredScore])


def add_to_history(home: Path, evaluation: Evaluation) -> None:
    """Add a stored score to the history of its file."""
    results, name = _stored_as(home, evaluation)
    newest = StoredScore(folder=results.folder.name, name=name)
    others = [other for other in _history(home, evaluation) if other != newest]
    write_json(_history_path(home, evaluation), HISTORY.dump_python([*others, newest], mode="json"))


def comparisons(home: Path, evaluation: Evaluation) -> list[str]:
    """Return a sentence against fine-tuning and one against the last version of the same file, where they are known.

    A learner is scored against models of its own, which says nothing beside any other score.
    """
    if evaluation.scored is None or evaluation.submission.is_learner:
        return []
    results, name = _stored_as(home, evaluation)
    ours, sentences = results.folder.name, []
    if (beside := _beside_fine_tuning(home, evaluation, evaluation.scored)) is not None:
        sentences.append(beside)
    earlier = [
        other.folder
        for other in _history(home, evaluation)
        if other.name == name and other.folder != ours and _made_under(other.folder) == _made_under(ours)
    ]
    stored = _score(results.beside(earlier[-1]), evaluation) if earlier else None
    if stored is not None:
        sentences.append(_sentence(evaluation.scored, stored, "of the last version of this file"))
    return sentences


def _made_under(folder: str) -> str:
    """Return what the name of a folder of results says beside the code: the device, and a time limit of its own."""
    return folder.partition("-")[2]


def _beside_fine_tuning(home: Path, evaluation: Evaluation, scored: Scored) -> str | None:
    """Return a sentence against fine-tuning, or how to get one; None where there is none: it cannot tune forests."""
    if not BASELINE.is_file() or evaluation.track.declaration.model.is_forest:
        return None
    finetune = read_submission(BASELINE, source_kb=evaluation.track.declaration.limits.source_kb)
    if evaluation.submission.code_hash == finetune.code_hash:
        return None
    stored = _score(_results(home, evaluation, finetune), evaluation)
    if stored is not None:
        return _sentence(scored, stored, "of fine-tuning")
    file = BASELINE.relative_to(Path.cwd()) if BASELINE.is_relative_to(Path.cwd()) else Path(BASELINE.stem)
    under = evaluation.conditions
    same = options(evaluation.track.name, device=under.device, time_limit=under.own_time_limit)
    command = " ".join([f"harness evaluate {quoted(file)}", *same, f"--runs {evaluation.n_requested}"])
    return f"to compare with fine-tuning: {command}"


def _score(results: Results, evaluation: Evaluation) -> Scored | None:
    """Return the score of as many runs of another submission, if it is stored and none of a learner."""
    stored = stored_score(results, evaluation.track, evaluation.n_requested)
    return None if stored is None or stored.learner is not None else stored.scored


def _sentence(ours: Scored, theirs: Scored, whose: str) -> str:
    """Say whether two calibrated scores differ, by the half-samples stored with them."""
    scores = f"{ours.calibrated:.2f} against {theirs.calibrated:.2f} {whose}"
    if ours.halves is None or theirs.halves is None:
        return f"{scores}: too few runs to tell"
    found = difference(ours.calibrated, theirs.calibrated, ours.halves.calibrated_score, theirs.halves.calibrated_score)
    verdict = f"different, p = {found.p_value:.2g}" if found.is_significant else "not different"
    return f"{scores}: {verdict} (these runs show differences from {found.visible:.2f})"


def _stored_as(home: Path, evaluation: Evaluation) -> tuple[Results, str]:
    name = score_name(evaluation.track, evaluation.n_requested)
    return _results(home, evaluation, evaluation.submission), name


def _results(home: Path, evaluation: Evaluation, submission: Submission) -> Results:
    """Return the results of a submission, evaluated as another was."""
    under = evaluation.conditions
    return Results.of(home, evaluation.track, submission, under.device, time_limit=under.own_time_limit)


def _history(home: Path, evaluation: Evaluation) -> list[StoredScore]:
    """Return the scores of a file, the oldest first; none if what is stored is damaged."""
    try:
        return HISTORY.validate_python(read_json(_history_path(home, evaluation)))
    except (OSError, ValueError):
        return []


def _history_path(home: Path, evaluation: Evaluation) -> Path:
    results, _ = _stored_as(home, evaluation)
    file = hashlib.sha256(os.fsencode(evaluation.submission.path.resolve())).hexdigest()[:16]
    return results.folder.parent / "files" / f"{file}.json"
