"""What a learner is scored against: forgetting against models that its own `train` made without the forget set.

Its accuracy is compared with that of the track's recipe: a learner that learns little has little to forget.
"""

from dataclasses import replace

import numpy as np

from harness.evaluation.reference import Reference, null_among, outputs
from harness.record import Records
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.run import records_of
from harness.runs.run_set import RunSet
from harness.scoring.ceiling import ceiling
from harness.scoring.score import score
from harness.scoring.thresholds import FEWEST_RANKED
from harness.tracks.track import Track

__all__ = ["ceiling_models_of", "models_of", "reference_of"]


def reference_of(run_set: RunSet, track: Track, reference: Reference) -> Reference:
    """Return what runs are scored against: the track's reference, or a learner's own once its models are there."""
    if not isinstance(run_set, LearnerRunSet) or run_set.failed is not None or run_set.submission.problems:
        return reference
    labels, n = reference.forget_labels, run_set.count
    pools = [records_of(pool.runs) for pool in run_set.pools]
    scoring, other_pool = (outputs(pool, labels) for pool in pools)
    by_recipe = reference.scoring
    against = replace(scoring, retain_accuracy=by_recipe.retain_accuracy, test_accuracy=by_recipe.test_accuracy)
    return replace(
        reference,
        scoring=against,
        scoring_logits=pools[0].forget_logits,
        ceiling_outputs=other_pool,
        ceiling=ceiling(scoring, other_pool),
        floor=score(outputs(records_of(run_set.originals.runs), labels), against),
        null=null_among(track, pools, (scoring, other_pool)) if n >= FEWEST_RANKED else None,
    )


def models_of(run_set: RunSet, track: Track) -> tuple[Records, Records]:
    """Return the original models that runs start from, and the retrained ones that they are scored against."""
    if not isinstance(run_set, LearnerRunSet):
        return track.originals(), track.retrained("scoring")
    originals = records_of(run_set.originals.runs)
    return replace(originals, original=np.arange(len(originals))), records_of(run_set.pools[0].runs)


def ceiling_models_of(run_set: RunSet, track: Track) -> Records:
    """Return the second pool of retrained models, which stands for a perfect submission."""
    return records_of(run_set.pools[1].runs) if isinstance(run_set, LearnerRunSet) else track.retrained("ceiling")
