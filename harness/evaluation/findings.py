"""What scoring finds of an evaluation's runs: the score with its noise, the audit, the alarms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.evaluation.reference import Reference, Scored, outputs
from harness.information import NOTHING, Information
from harness.record import Records
from harness.runs.run import Run, records_of
from harness.scoring.alarms import Alarm, Behaviour, Standing, alarms, of_file
from harness.scoring.audit import Audit, audit
from harness.scoring.coupling import coupling, similarities
from harness.scoring.score import Outputs, calibrated_score
from harness.scoring.uncertainty import standard_error

__all__ = ["Findings", "findings_of"]

MIN_AUDIT_RUNS = 8
SEED = 0  # of the audit's draws: the same runs have the same findings


@dataclass(frozen=True)
class Findings:
    """All that is found of n runs."""

    scored: Scored
    audit: Audit | None  # None below MIN_AUDIT_RUNS
    alarms: tuple[Alarm, ...] | None  # None below FEWEST_RANKED, unless the file itself raises one


def findings_of(
    runs: Sequence[Run],
    swapped: Sequence[Run],
    originals: Records,
    reference: Reference,
    *,
    information: Information = NOTHING,
) -> Findings:
    """Return the findings of runs that are all OK, as many as the reference has models.

    swapped: the first of them made again with other examples to forget, as far as there are any; they may have failed.
    originals: records of the original models. information: of the file that was run, if one was.
    """
    records = records_of(runs)
    unlearned = outputs(records, reference.forget_labels)
    scored = reference.score(unlearned)
    audited = _audit(unlearned, records, reference) if len(runs) >= MIN_AUDIT_RUNS else None
    of_code, of_runs = of_file(information.literals, information.code), None
    if reference.null is not None and audited is not None:
        behaviour = _behaviour(runs, records, unlearned, _change_under_swap(runs, swapped, originals))
        standing = _standing(scored, audited, reference)
        of_runs = alarms(behaviour, reference.scoring.confidences, reference.null, standing)
        of_runs += _failures(swapped)
    raised = None if of_runs is None and not of_code else (*of_code, *(of_runs or ()))
    return Findings(scored, audited, raised)


def _audit(unlearned: Outputs, records: Records, reference: Reference) -> Audit:
    """Return estimators beside the official one, of what the models say of the forget set."""
    logits = (records.forget_logits, reference.scoring_logits)
    return audit(unlearned.confidences, reference.scoring.confidences, logits=logits, seed=SEED)


def _behaviour(runs: Sequence[Run], records: Records, unlearned: Outputs, change: float | None) -> Behaviour:
    return Behaviour(
        confidences=unlearned.confidences,
        weights=records.weights_sha256,
        distance=records.distance,
        order=np.array([run.info.order for run in runs]),
        original=records.original,
        val_accuracy=records.accuracy_on("val"),
        test_accuracy=records.accuracy_on("test"),
        change_under_swap=change,
        coupling=coupling(similarities(records.forget_logits), similarities(records.test_logits)),
    )


def _standing(scored: Scored, audited: Audit, reference: Reference) -> Standing:
    error = 0.0 if scored.halves is None else standard_error(scored.halves.calibrated_score)
    floor = calibrated_score(reference.floor, reference.ceiling.smooth_quality)
    found = audited.estimates
    tests = [] if found is None else [found.set_level, found.all_logits]
    p_values = tuple(test.p_value for test in tests if test is not None)
    return Standing(scored.calibrated - 1, error, p_values, scored.calibrated - floor)


def _change_under_swap(runs: Sequence[Run], swapped: Sequence[Run], originals: Records) -> float | None:
    """Return how much other examples to forget change a run's outputs, over what the run changes of its original's."""
    change, whole = 0.0, 0.0
    for other in swapped:
        run = runs[other.index]
        if other.record is None or run.record is None:
            continue
        ours = run.record.forget_logits
        change += float(np.abs(other.record.forget_logits - ours).mean())
        whole += float(np.abs(ours - originals.forget_logits[run.record.original]).mean())
    return change / whole if whole > 0 else None


def _failures(swapped: Sequence[Run]) -> list[Alarm]:
    failed = [run for run in swapped if run.outcome.is_fault_of_submission]
    if not failed:
        return []
    message = f"with other examples to forget the outcome was {failed[0].outcome}: it works for these alone"
    return [Alarm("fails with another forget set", message, float(len(failed)), 0.0)]
