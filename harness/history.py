"""Earlier scores of a file, so that a participant sees what the last change did."""

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.evaluate import Evaluation
from harness.reference import reference_name
from harness.results import Results
from harness.storage import write_json
from harness.submission import read_submission

__all__ = ["comparisons", "remember"]

BASELINE = Path(__file__).parents[1] / "baselines" / "finetune.py"


def remember(home: Path, evaluation: Evaluation, summary: dict[str, Any]) -> None:
    """Store a score with its submission's runs, and in the history of its file."""
    results, name = _stored_as(home, evaluation)
    results.save_score(name, summary)
    entry = {"code_hash": evaluation.submission.code_hash, "name": name, "score": summary["score"]}
    history = [other for other in _history(home, evaluation) if other["code_hash"] != entry["code_hash"]]
    write_json(_history_path(home, evaluation), [*history, entry])


def comparisons(home: Path, evaluation: Evaluation) -> list[str]:
    """Return a sentence against fine-tuning and one against the last version of the same file, where they are known."""
    if evaluation.score is None or evaluation.score.score is None:
        return []
    score, (_, name) = evaluation.score.score, _stored_as(home, evaluation)
    sentences = []
    if BASELINE.is_file() and evaluation.submission.path.resolve() != BASELINE:
        finetune = read_submission(BASELINE, source_kb=evaluation.track.declaration.limits.source_kb)
        stored = Results(home, evaluation.track, finetune, evaluation.conditions).score(name)
        if stored is not None and stored["score"] is not None:
            sentences.append(f"{score:.3f} against {stored['score']:.3f} of fine-tuning")
        else:
            runs = f" --runs {evaluation.n_requested}"
            sentences.append(f"to compare with fine-tuning: harness evaluate baselines/finetune.py{runs}")
    earlier = [
        entry["score"]
        for entry in _history(home, evaluation)
        if entry["name"] == name
        and entry["code_hash"] != evaluation.submission.code_hash
        and entry["score"] is not None
    ]
    if earlier:
        sentences.append(f"{score:.3f} against {earlier[-1]:.3f} of the last version of this file")
    return sentences


def _stored_as(home: Path, evaluation: Evaluation) -> tuple[Results, str]:
    results = Results(home, evaluation.track, evaluation.submission, evaluation.conditions)
    return results, reference_name(evaluation.track, evaluation.n_requested)


def _history(home: Path, evaluation: Evaluation) -> list[dict[str, Any]]:
    try:
        entries: list[dict[str, Any]] = json.loads(_history_path(home, evaluation).read_text())
    except (OSError, ValueError):
        return []
    return entries


def _history_path(home: Path, evaluation: Evaluation) -> Path:
    results, _ = _stored_as(home, evaluation)
    file = hashlib.sha256(str(evaluation.submission.path.resolve()).encode()).hexdigest()[:16]
    return results.folder.parent / "files" / f"{file}.json"
