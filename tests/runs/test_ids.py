"""Where examples are in the training set, as a submission is told: on all loaders, whatever is to be forgotten."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.runner.isolation import choose
from harness.runs.conditions import conditions_here
from harness.runs.local import Runner
from harness.runs.run_set import Task
from harness.runs.stage import Stage
from harness.storage import read_arrays
from harness.submission import read_submission
from harness.tracks.track import Track

SAYS_IDS = """
def unlearn(net, retain_loader, forget_loader, val_loader):
    retain, forget, val = (loader.dataset.ids for loader in (retain_loader, forget_loader, val_loader))
    assert sorted([*retain.tolist(), *forget.tolist()]) == list(range(120))
    assert (val == -1).all() and len(val) == 80
    assert len(retain_loader.dataset.ids) == len(retain_loader.dataset.inputs)
    raise ValueError(str([*forget.tolist(), *retain[:3].tolist()]))
"""


@pytest.mark.parametrize("fork", [True, False])
def test_ids_are_positions_in_the_training_set(
    fork: bool, tiny: Track, home: Path, submission: Callable[[str], Path]
) -> None:
    split = read_arrays(tiny.private / "split.npz")
    training = sorted([*split["retain"], *split["forget"]])
    file = read_submission(submission(SAYS_IDS), source_kb=256)
    conditions = conditions_here(tiny, home, device="cpu", isolation=choose(), jobs=1)
    runner = Runner(tiny, replace(conditions, fork=fork))
    said = runner.run(Task(file, 0, 0)).info.message
    wanted = [training.index(one) for one in (*split["forget"], *split["retain"][:3])]
    assert said == f"ValueError: {wanted}"
    if fork:
        swapped = runner.run(Task(file, 0, 0, Stage.SWAPPED)).info.message
        forgotten = np.array(eval(swapped.partition("ValueError: ")[2]))
        assert set(forgotten[:20]) < set(tiny.training_ids()["retain"])  # each goes with its example
        assert not set(forgotten[:20]) & set(wanted[:20])
