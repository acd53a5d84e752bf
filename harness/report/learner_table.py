"""What a learner's evaluation is made of, stage by stage, as rows of text."""

import numpy as np

from harness.report.numbers import UNKNOWN
from harness.report.tables import Table
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.stage import Stage

__all__ = ["stages_table"]

STAGES = {
    Stage.ORIGINAL: ("originals", "train on the training set; each run of unlearn starts from one of its own"),
    Stage.SCORING: ("retrained models", "train on the retain set: what is scored against"),
    Stage.CEILING: ("second pool", "the same once more, scored as if it were a submission: the ceiling"),
    Stage.RUN: ("unlearning", "unlearn on an original and its state: what is scored"),
    Stage.SWAPPED: ("with another forget set", "the same with other examples to forget, for an alarm"),
    Stage.TWIN: ("twins", "train on the retain set with the seeds of the first originals: is it exact?"),
}


def stages_table(run_set: LearnerRunSet) -> Table:
    """Return how many runs of each kind there are, how long they take, and what they are for."""
    made = {each.stage: each.runs for each in (run_set, run_set.swapped, *run_set.trainings)}
    rows = []
    for stage, (name, what) in STAGES.items():
        seconds = [run.seconds for run in made[stage]]
        shares = [run.seconds / run.info.limit_seconds for run in made[stage]]
        mean, share = (f"{np.mean(seconds):.3g} s", f"{100 * np.mean(shares):.0f} %") if seconds else (UNKNOWN, UNKNOWN)
        rows.append([name, str(len(seconds)), mean, share, what])
    return Table(["kind", "runs", "mean time", "of the limit", "what it is"], rows)
