"""Earlier scores of a file, so that a participant sees what the last change did."""

import hashlib
from pathlib import Path
from typing import Any

from harness.evaluation.evaluate import Evaluation
from harness.evaluation.reference import reference_name
from harness.runs.store import Results
from harness.scoring.uncertainty import difference
from harness.shipped import BASELINES
from harness.storage import read_json, write_json
from harness.submission import read_submission

__all__ = ["comparisons", "remember"]

BASELINE = BASELINES / "finetune.py"


def remember(home: Path, evaluation: Evaluation, summary: dict[str, Any]) -> None:
    """Store a score with its submission's runs, and in the history of its file."""
    results, name = _stored_as(home, evaluation)
    results.write(name, summary)
    entry = {"folder": results.folder.name, "name": name}
    others = [other for other in _history(home, evaluation) if other != entry]
    write_json(_history_path(home, evaluation), [*others, entry])


def comparisons(home: Path, evaluation: Evaluation, summary: dict[str, Any]) -> list[str]:
    """Return a sentence against fine-tuning and one against the last version of the same file, where they are known."""
    if evaluation.scored is None:
        return []
    results, name = _stored_as(home, evaluation)
    sentences = []
    if BASELINE.is_file() and evaluation.submission.path.resolve() != BASELINE:
        finetune = read_submission(BASELINE, source_kb=evaluation.track.declaration.limits.source_kb)
        stored = Results(home, evaluation.track, finetune, evaluation.conditions).read(name)
        if stored is not None:
            sentences.append(_sentence(summary, stored, "of fine-tuning"))
        else:
            runs = f" --runs {evaluation.n_requested}"
            sentences.append(f"to compare with fine-tuning: harness evaluate baselines/finetune.py{runs}")
    earlier = [
        entry["folder"]
        for entry in _history(home, evaluation)
        if entry["name"] == name and entry["folder"] != results.folder.name
    ]
    stored = results.beside(earlier[-1]).read(name) if earlier else None
    if stored is not None:
        sentences.append(_sentence(summary, stored, "of the last version of this file"))
    return sentences


def _sentence(ours: dict[str, Any], theirs: dict[str, Any], whose: str) -> str:
    """Say whether two calibrated scores differ, by the half-samples stored with them."""
    scores = f"{ours['calibrated_score']:.2f} against {theirs['calibrated_score']:.2f} {whose}"
    if ours["half_samples"] is None or theirs["half_samples"] is None:
        return f"{scores}: too few runs to tell"
    found = difference(
        ours["calibrated_score"],
        theirs["calibrated_score"],
        ours["half_samples"]["calibrated_score"],
        theirs["half_samples"]["calibrated_score"],
    )
    verdict = f"different, p = {found.p_value:.2g}" if found.is_significant else "not different"
    return f"{scores}: {verdict} (these runs show differences from {found.visible:.2f})"


def _stored_as(home: Path, evaluation: Evaluation) -> tuple[Results, str]:
    results = Results(home, evaluation.track, evaluation.submission, evaluation.conditions)
    return results, f"score-{reference_name(evaluation.track, evaluation.n_requested)}"


def _history(home: Path, evaluation: Evaluation) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = read_json(_history_path(home, evaluation))
    except (OSError, ValueError):
        return []
    return entries


def _history_path(home: Path, evaluation: Evaluation) -> Path:
    results, _ = _stored_as(home, evaluation)
    file = hashlib.sha256(str(evaluation.submission.path.resolve()).encode()).hexdigest()[:16]
    return results.folder.parent / "files" / f"{file}.json"
