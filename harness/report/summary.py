"""An evaluation as plain values: what `--json` writes and what is stored as its score. Unknown values are null."""

import math
from typing import Any

from harness.environment import environment
from harness.evaluate import Evaluation
from harness.scoring.score import SCORER_VERSION

__all__ = ["summary"]


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything an evaluation found, ready for JSON."""
    score, track, submission = evaluation.score, evaluation.track, evaluation.submission
    return {
        "submission": submission.name,
        "sha256": submission.sha256,
        "code_hash": submission.code_hash,
        "constants": submission.constants,
        "track": track.name,
        "fingerprint": track.manifest.fingerprint,
        "reference_hash": track.manifest.reference_hash,
        "scorer_version": SCORER_VERSION,
        "outcome": evaluation.outcome,
        "failure": _failure(evaluation),
        "n_runs": len(evaluation.runs),
        "ranked": evaluation.unranked_because is None,
        "unranked_because": evaluation.unranked_because,
        "score": score and score.score,
        "forgetting_quality": score and score.forgetting_quality,
        "retain_ratio": score and score.retain_ratio,
        "test_ratio": score and score.test_ratio,
        "calibrated_score": None,
        "ceiling": evaluation.reference.ceiling.score,
        "floor": evaluation.reference.floor.score,
        "score_interval": None,
        "epsilon": score
        and {
            "median": score.median_epsilon,
            "unresolved": score.unresolved,
            "perfectly_separated": score.perfectly_separated,
        },
        "seconds": _seconds(evaluation),
        "isolation": {
            "level": evaluation.conditions.isolation.level,
            "missing": evaluation.conditions.isolation.missing,
        },
        "environment": environment() | {"device": evaluation.conditions.device},
        "alarms": None,
        "full_stack": None,
    }


def _failure(evaluation: Evaluation) -> dict[str, Any] | None:
    if evaluation.submission.problems:
        return {"run": None, "message": "; ".join(evaluation.submission.problems), "lines": []}
    if evaluation.failed is None:
        return None
    failed = evaluation.failed
    return {"run": failed.index, "message": failed.info["message"], "lines": failed.info["lines"]}


def _seconds(evaluation: Evaluation) -> dict[str, float | None]:
    limit = evaluation.conditions.limit
    seconds = [run.seconds for run in evaluation.runs]
    share = evaluation.share_of_limit
    return {
        "limit": limit.seconds if limit else None,
        "mean": sum(seconds) / len(seconds) if seconds else None,
        "max": max(seconds, default=None),
        "training": limit.training_seconds if limit else None,
        "fraction_of_training": None if limit is None or math.isnan(share) else share * limit.fraction,
        "limit_fraction": limit.fraction if limit else None,
    }
