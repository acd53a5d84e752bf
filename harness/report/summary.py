"""An evaluation as plain values: what `--json` writes and what is stored as its score. Unknown values are null."""

import math
import platform
import statistics
from dataclasses import asdict
from typing import Any

from harness.environment import environment
from harness.evaluation.compare import Comparison
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.full_metrics import full_stack
from harness.evaluation.reference import Scored
from harness.runner.sandbox.seccomp import is_supported, program_hash
from harness.runs.floor import LARGE_SHARE
from harness.scoring.score import SCORER_VERSION
from harness.scoring.uncertainty import interval

__all__ = ["comparison_summary", "remarks", "summary"]


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything an evaluation found, ready for JSON."""
    track, submission, reference = evaluation.track, evaluation.submission, evaluation.reference
    alarms = evaluation.alarms
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
        **_scores(evaluation.scored),
        "ceiling": reference.ceiling.score,
        "ceiling_interval": reference.ceiling.interval and list(reference.ceiling.interval),
        "floor": reference.floor.score,
        "seconds": _seconds(evaluation),
        "harness_errors": _harness_errors(evaluation),
        "isolation": _isolation(evaluation),
        "environment": environment() | {"device": evaluation.conditions.device, "gpu": _gpu(evaluation)},
        "alarms": None if alarms is None else [asdict(alarm) for alarm in alarms],
        "audit": None if evaluation.findings is None else evaluation.findings.audit,
        "full_stack": _full_stack(evaluation),
    }


def _gpu(evaluation: Evaluation) -> str | None:
    """Return name and driver of the GPU that the runs were made on, of the first of them if of several."""
    return next((run.info.get("gpu") for run in evaluation.runs), None)


def _isolation(evaluation: Evaluation) -> dict[str, Any]:
    """Return what stood between the runs and the machine: the level of all of them, and this machine's layers."""
    limits = evaluation.track.declaration.limits
    found = evaluation.conditions.isolation
    return {
        "level": evaluation.isolation,
        "missing": found.missing,
        "layers": found.layers,
        "kernel": platform.release(),
        "filter_sha256": program_hash() if is_supported() else None,
        "limits": {name: getattr(limits, name) for name in ("memory_mb", "processes", "scratch_mb", "threads")},
    }


SCORES = (
    "score",
    "score_interval",
    "calibrated_score",
    "calibrated_interval",
    "error_over_subjects",
    "forgetting_quality",
    "retain_ratio",
    "test_ratio",
    "epsilon",
    "half_samples",
)


def _scores(scored: Scored | None) -> dict[str, Any]:
    """Return SCORES by name, all null where nothing was scored."""
    if scored is None:
        return dict.fromkeys(SCORES)
    score, halves = scored.score, scored.halves
    return {
        "score": score.score,
        "score_interval": _interval(score.score, scored),
        "calibrated_score": scored.calibrated,
        "calibrated_interval": list(interval(scored.calibrated, halves.calibrated_score)) if halves else None,
        "error_over_subjects": scored.error_over_subjects,
        "forgetting_quality": score.forgetting_quality,
        "retain_ratio": score.retain_ratio,
        "test_ratio": score.test_ratio,
        "epsilon": {
            "median": score.median_epsilon,
            "unresolved": score.unresolved,
            "perfectly_separated": score.perfectly_separated,
            "smooth_quality": score.smooth_quality,
        },
        "half_samples": halves
        and {"score": halves.score.tolist(), "calibrated_score": halves.calibrated_score.tolist()},
    }


def remarks(evaluation: Evaluation) -> list[str]:
    """Return what a reader of the score must know, in words; alarms are not among it."""
    assert evaluation.scored is not None
    score, n_forget = evaluation.scored.score, len(evaluation.reference.forget_labels)
    full = evaluation.track.declaration.evaluation.runs
    found = []
    if evaluation.unranked_because is not None:
        found.append(f"not ranked: {evaluation.unranked_because}")
    elif evaluation.n_requested < full:
        found.append(f"quick: {evaluation.n_requested} runs instead of {full}")
    limit = evaluation.conditions.limit
    if limit is not None and limit.floor_share > LARGE_SHARE:
        found.append(
            f"a run that does nothing takes {limit.floor_seconds:.2f} s, {limit.floor_share:.0%} of the limit: "
            "times here say little of methods; a track of longer trainings, or another device, says more"
        )
    if score.unresolved:
        withheld = "; too many, so F is withheld" if score.score is None else ""
        found.append(f"{score.unresolved} examples could not be resolved{withheld}")
    if score.perfectly_separated > n_forget / 2:
        found.append(
            f"{score.perfectly_separated} of {n_forget} forget examples tell these models from "
            "retrained ones without error: their outputs differ too little between runs, or lie elsewhere"
        )
    return found


def comparison_summary(comparison: Comparison, time_limit: float | None) -> dict[str, Any]:
    """Return what a comparison found, ready for JSON; time_limit: the share of a training that was asked for."""
    return {
        "first": comparison.first.name,
        "second": comparison.second.name,
        "calibrated_scores": [side.scored.calibrated for side in (comparison.first, comparison.second)],
        "difference": comparison.difference.value,
        "standard_error": comparison.difference.standard_error,
        "smallest_visible_difference": comparison.difference.visible,
        "p_value": comparison.p_value,
        "time_limit_override": time_limit,
        "sentence": comparison.sentence,
    }


def _full_stack(evaluation: Evaluation) -> dict[str, Any] | None:
    if evaluation.scored is None:
        return None
    limit = evaluation.conditions.limit
    return full_stack(
        evaluation.track,
        evaluation.records,
        seconds=[run.seconds for run in evaluation.runs],
        training_seconds=limit.training_seconds if limit else None,
    )


def _interval(official: float | None, scored: Scored) -> list[float] | None:
    return None if official is None or scored.halves is None else list(interval(official, scored.halves.score))


def _failure(evaluation: Evaluation) -> dict[str, Any] | None:
    if evaluation.submission.problems:
        return {"run": None, "message": "; ".join(evaluation.submission.problems), "lines": []}
    if evaluation.failed is None:
        return None
    failed = evaluation.failed
    return {"run": failed.index, "message": failed.info["message"], "lines": failed.info["lines"]}


def _harness_errors(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return what the harness failed at and made again, with the same seeds, by run."""
    told = ((run.index, run.info.get("harness_errors", [])) for run in evaluation.runs)
    return [{"run": index, "message": message} for index, messages in told for message in messages]


def _seconds(evaluation: Evaluation) -> dict[str, float | None]:
    limit = evaluation.conditions.limit
    seconds = [run.seconds for run in evaluation.runs]
    share = evaluation.share_of_limit
    return {
        "limit": limit.seconds if limit else None,
        "floor": limit.floor_seconds if limit else None,  # of a run that does nothing
        "mean": sum(seconds) / len(seconds) if seconds else None,
        "max": max(seconds, default=None),
        "spread": statistics.stdev(seconds) if len(seconds) > 1 else None,  # standard deviation over the runs
        "training": limit.training_seconds if limit else None,
        "fraction_of_training": None if limit is None or math.isnan(share) else share * limit.fraction,
        "limit_fraction": limit.fraction if limit else None,
    }
