"""What scoring finds of a learner's own models, beside what it finds of its runs."""

import numpy as np

from harness.evaluation.own_reference import models_of
from harness.evaluation.reference import Reference, outputs
from harness.record import Records
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.run import records_of
from harness.runs.run_set import RunSet
from harness.scoring.alarms import Alarm
from harness.scoring.learners import of_originals, of_reference
from harness.scoring.official import logit_scaled_confidence
from harness.tracks.track import POOLS, Track

__all__ = ["alarms_of_learner"]


def alarms_of_learner(run_set: RunSet, track: Track, reference: Reference) -> list[Alarm]:
    """Return the alarms that a learner's own models raise; none for other submissions."""
    if not isinstance(run_set, LearnerRunSet):
        return []
    originals, _ = models_of(run_set, track)
    pools = Records.concatenate(records_of(pool.runs) for pool in run_set.pools)
    recipe = track.originals(), Records.concatenate(track.retrained(pool) for pool in POOLS)
    labels = track.examples("test").labels
    expected = recipe[0].accuracy_on("test"), recipe[1].accuracy_on("test")
    found = of_reference(_of_test(originals, labels), _of_test(pools, labels), expected)
    if track.declaration.forget.kind == "random" and track.declaration.trojan is None:
        forget = outputs(originals, reference.forget_labels).confidences
        found += of_originals(forget, originals.retain_confidence.astype(np.float64))
    return found


def _of_test(records: Records, labels: np.ndarray) -> np.ndarray:
    """Return accuracy and confidences on the test set, (n_models, 1 + n_test)."""
    confidences = np.stack([logit_scaled_confidence(logits, labels) for logits in records.test_logits])
    return np.column_stack([records.accuracy_on("test"), confidences])
