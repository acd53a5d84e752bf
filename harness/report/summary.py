"""An evaluation in words, and a comparison as plain values."""

from typing import Any

from harness.evaluation.commands import options
from harness.evaluation.compare import Comparison
from harness.evaluation.evaluate import Evaluation
from harness.quoting import quoted
from harness.runs.floor import LARGE_SHARE
from harness.scoring.thresholds import FEWEST_RANKED

__all__ = ["alarm_sentences", "comparison_summary", "remarks"]

ABOUT_ALARMS = "an alarm changes no score, it asks a person to look; docs/scoring.md#alarms says what to do about each"


def remarks(evaluation: Evaluation) -> list[str]:
    """Return what a reader of the score must know, in words; alarms are not among it."""
    assert evaluation.scored is not None
    score, n_forget = evaluation.scored.score, len(evaluation.reference.forget_labels)
    full = evaluation.track.usual_runs
    found = []
    if evaluation.score_file.unranked_because is not None:
        few = "; a score of so few means little" if evaluation.n_requested < FEWEST_RANKED else ""
        found.append(f"not ranked: {evaluation.score_file.unranked_because}{few}")
    elif evaluation.n_requested < full:
        found.append(f"{evaluation.n_requested} runs instead of the {full} of the track")
    if (excerpt := evaluation.submission.excerpt) is not None:
        file, under = evaluation.submission.path, evaluation.conditions
        same = options(evaluation.track.name, device=under.device, constants=evaluation.submission.constants)
        found.append(
            f"of {file.name} only what unlearn needs was run, {len(excerpt.left)} statements were left out; "
            f"which: {' '.join([f'harness check {quoted(file)}', *same])}"
        )
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


def alarm_sentences(evaluation: Evaluation) -> list[str]:
    """Return the signs that the score may mean something else, in words, and where to read on."""
    found = [f"alarm ({alarm.name}): {alarm.message}" for alarm in evaluation.alarms or ()]
    return [*found, ABOUT_ALARMS] if found else []


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
