"""What a learner's runs are given: `train` a fresh net and a training set, `unlearn` what its original left."""

from dataclasses import replace

import numpy as np

from harness.contract import TRAIN
from harness.runner.execution import seeds_of
from harness.runner.message import Job
from harness.runs.launchers import TRAINING_SET
from harness.runs.measure import initial_weights
from harness.runs.positions import ids_of_job
from harness.runs.run import Limit, Trained
from harness.runs.run_set import Task
from harness.runs.stage import Stage
from harness.tracks.track import Track

__all__ = ["job_of_learner", "training_job", "unlearning_job", "where"]


def job_of_learner(job: Job, task: Task, track: Track, limit: Limit) -> Job:
    """Return the job of an ordinary run as that of a learner's."""
    if task.stage.trained_on:
        return training_job(job, track, limit, task.submission.code_hash, task.index, task.stage)
    assert task.start is not None, "unlearn starts from an original"
    return unlearning_job(job, track, task.start)


def training_job(job: Job, track: Track, limit: Limit, code_hash: str, index: int, stage: Stage) -> Job:
    """Return the job of a run of `train`. Its initial weights come with it, drawn here from a seed of their own."""
    limits, name = track.declaration.limits, stage.seeded_as
    seed = seeds_of(track.secret, code_hash, index, stage=name, axes=("initial weights",))["initial weights"]
    ids = track.training_ids()
    positions = np.sort(np.concatenate([ids[each] for each in stage.trained_on]))
    return replace(
        job,
        call=TRAIN,
        original=0,  # the one net there is, whose weights are replaced
        seeds=seeds_of(track.secret, code_hash, index, stage=name),
        time_limit_seconds=limits.train_limit * limit.ordinary_training,
        weights=initial_weights(track, seed).tobytes(),
        members=limits.members,
        state_bytes=limits.state_mb << 20,
        ids=ids_of_job({TRAINING_SET: positions}),
    )


def unlearning_job(job: Job, track: Track, start: Trained) -> Job:
    """Return the job of a run of a learner's `unlearn`."""
    return replace(
        job,
        call="unlearn",
        original=0,  # of the track: its weights are replaced
        weights=start.weights.tobytes(),
        state=start.state,
        members=track.declaration.limits.members,
        state_bytes=track.declaration.limits.state_mb << 20,
    )


def where(stage: Stage) -> str:
    """Return what failed, to begin a message: nothing of a run that is scored."""
    if stage == Stage.SWAPPED:
        return "with other examples to forget: "
    return f"train on the {'training' if stage == Stage.ORIGINAL else 'retain'} set: " if stage.trained_on else ""
