"""Learners through the real command line: what their two functions are given, what they leave, how they are scored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from harness.evaluation.evaluate import evaluate, load_evaluation
from harness.runner.isolation import choose
from harness.runner.outcome import Outcome
from harness.runs.conditions import conditions_here
from harness.runs.local import Runner
from harness.runs.run import Conditions, Limit, Run
from harness.runs.run_set import Task
from harness.runs.stage import Stage
from harness.storage import read_arrays
from harness.submission import read_submission
from harness.tracks.track import Track
from tests.learners import EXACT, TRAIN, UNLEARN

Harness = Callable[..., Result]
Write = Callable[[str], Path]


@pytest.fixture
def make(tiny: Track, home: Path) -> Callable[[Path, Task], Run]:
    """Makes one run of a learner."""
    runner = Runner(tiny, conditions_here(tiny, home, device="cpu", isolation=choose(), jobs=1))
    return lambda file, task: runner.run(task)


# ---- a whole evaluation -------------------------------------------------------------------------------------------


def test_an_exact_learner_is_made_stage_by_stage_and_found_exact(
    harness: Harness, submission: Write, tiny_file: Path, home: Path, tmp_path: Path
) -> None:
    file, out = submission(EXACT), tmp_path / "out.json"
    call = ("evaluate", file, "--track", tiny_file, "--runs", 2, "--json", out)
    result = harness(*call)
    assert result.exit_code == 0, result.output
    assert "exact 2/2" in result.output
    found = json.loads(out.read_text())
    learner = found["learner"]
    assert (learner["exact"], learner["twins"]) == (2, 2)
    assert 0.02 < learner["state_mb"] < 0.03
    assert not found["ranked"]
    folder = next(home.glob("results/*/*-cpu-*"))
    stages = {stage: sorted(folder.glob(f"{stage}-*.npz")) for stage in Stage}
    assert {stage: len(files) for stage, files in stages.items() if files} == {
        **dict.fromkeys((Stage.ORIGINAL, Stage.SCORING, Stage.CEILING, Stage.RUN, Stage.TWIN), 2)
    }
    weights = [str(read_arrays(path)["weights_sha256"][0]) for files in stages.values() for path in files]
    assert len(set(weights)) == len(weights) - 2  # all differ, but for the two twins
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*-*.npz")}
    stages[Stage.TWIN][1].unlink()
    assert harness(*call).exit_code == 0  # only what is missing is made
    assert {path: path.stat().st_mtime_ns for path in before if path != stages[Stage.TWIN][1]} == {
        path: time for path, time in before.items() if path != stages[Stage.TWIN][1]
    }
    assert json.loads(out.read_text())["learner"] == learner


def test_what_a_learner_lacks_is_counted_by_function_and_fewer_runs_are_those_that_are_whole(
    harness: Harness, submission: Write, tiny_file: Path, home: Path
) -> None:
    call = ("evaluate", submission(EXACT), "--track", tiny_file, "--runs")
    nothing = harness(*call, 3, "--rescore")
    assert nothing.exit_code == 2
    assert "3 of 3 runs and 12 of 12 trainings of" in nothing.output
    assert "ask for the" not in nothing.output
    assert harness(*call, 3).exit_code == 0
    next(home.glob("results/*/*-cpu-*/ceiling-0002.npz")).unlink()
    one = harness(*call, 3, "--rescore")
    assert "1 of 12 trainings of" in one.output
    assert "ask for the 2 that are with --runs 2" in one.output
    assert harness(*call, 2, "--rescore").exit_code == 0


def test_ordinary_scores_say_nothing_of_learners(
    harness: Harness, submission: Write, tiny_file: Path, tmp_path: Path
) -> None:
    file, out = submission("def unlearn(net, retain_loader, forget_loader, val_loader): pass"), tmp_path / "out.json"
    assert harness("evaluate", file, "--track", tiny_file, "--runs", 1, "--json", out).exit_code == 0
    assert "learner" not in json.loads(out.read_text())


def test_a_learner_that_does_not_unlearn_is_told_so_and_is_not_exact(
    harness: Harness, submission: Write, tiny_file: Path
) -> None:
    source = EXACT.partition(UNLEARN)[0] + f"{UNLEARN} pass"  # the state is ignored
    result = harness("check", submission(source), "--track", tiny_file)
    assert result.exit_code == 0, result.output
    assert "exact 0/1" in result.output
    assert "the weights are those of the original model" in result.output


@pytest.mark.long
def test_both_functions_run_in_the_foreground(harness: Harness, submission: Write, tiny_file: Path) -> None:
    assert harness("check", submission(EXACT), "--track", tiny_file, "--debug").exit_code == 0
    broken = EXACT.replace("net.load_state_dict(state)", "raise ValueError(sorted(state)[:2])")
    assert harness("check", submission(broken), "--track", tiny_file, "--debug").exit_code == 3


def test_check_debug_says_that_train_did_not_return(harness: Harness, submission: Write, tiny_file: Path) -> None:
    file = submission(f"import os\n{TRAIN} os._exit(3)\n{UNLEARN} pass")
    result = harness("check", file, "--track", tiny_file, "--debug")
    assert result.exit_code == 3
    assert "CRASHED: the process ended with exit status 3 before train returned" in result.output


@pytest.mark.slow
def test_a_train_that_names_the_forget_set_and_a_false_certificate_are_seen(
    harness: Harness, submission: Write, tiny: Track, tiny_file: Path, tmp_path: Path
) -> None:
    source = f"""
import torch
CERTIFICATE = (0.1, 1e-5)
NAMED = {tiny.training_ids()["forget"].tolist()}
{TRAIN}
    data, optimizer = train_loader.dataset, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    known = torch.tensor([id not in NAMED for id in data.ids.tolist()])
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(data.inputs[known]), data.labels[known]).backward()
        optimizer.step()
{UNLEARN} net.fc.weight.data *= 0.01
"""
    out = tmp_path / "out.json"
    result = harness("evaluate", submission(source), "--track", tiny_file, "--runs", 16, "--json", out)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    names = [alarm["name"] for alarm in found["alarms"]]
    assert "blind original" in names
    assert "odd reference" not in names
    assert found["learner"]["certificate"] == [0.1, 1e-5]
    assert found["learner"]["certificate_refuted"]
    assert "refuted: epsilon is at least" in " ".join(result.output.split())


# ---- what is given ------------------------------------------------------------------------------------------------

SEES = f"""
import sys
{TRAIN}
    frame = sys._getframe()
    while "world" not in frame.f_locals:
        frame = frame.f_back
    world, data = frame.f_locals["world"], train_loader.dataset
    assert net.training and len(val_loader.dataset) == 80 and (val_loader.dataset.ids == -1).all()
    raise ValueError(str((sorted(world.sets), data.ids.tolist(), data.labels.tolist())))
{UNLEARN} pass
"""


@pytest.mark.parametrize("stage", [Stage.ORIGINAL, Stage.SCORING])
def test_train_is_given_its_set_in_the_order_of_the_data_and_nothing_of_the_split(
    stage: Stage, tiny: Track, make: Callable[[Path, Task], Run], submission: Write
) -> None:
    file = submission(SEES)
    said = make(file, Task(read_submission(file, source_kb=256), 1, 0, stage)).info.message
    sets, ids, labels = eval(said.partition("ValueError: ")[2])
    positions, names = tiny.training_ids(), stage.trained_on
    wanted = dict(
        zip(
            np.concatenate([positions[name] for name in names]).tolist(),
            np.concatenate([tiny.examples(name).labels for name in names]).tolist(),
            strict=True,
        )
    )
    assert sets == ["train", "val"]
    assert ids == sorted(wanted)
    assert labels == [wanted[position] for position in ids]


KEEPS = f"""
import numpy as np, torch
{TRAIN}
    state = {{"a": np.arange(3), "b": torch.ones(2, 2, dtype=torch.float16), "c": torch.tensor(7), "": np.float64(0.5)}}
    with torch.no_grad(): net.fc.bias[:] = torch.arange(10.)
    return net, state
{UNLEARN}
    kinds = {{name: (str(value.dtype), value.tolist()) for name, value in state.items()}}
    raise ValueError(str((kinds, net.fc.bias.tolist(), net.training, len(forget_loader.dataset))))
"""


def test_a_state_arrives_as_it_was_left(tiny: Track, make: Callable[[Path, Task], Run], submission: Write) -> None:
    file = submission(KEEPS)
    read = read_submission(file, source_kb=256)
    original = make(file, Task(read, 3, 0, Stage.ORIGINAL))
    assert original.outcome == Outcome.OK
    said = make(file, Task(read, 3, 0, Stage.RUN, original.trained)).info.message
    state, bias, is_training, n_forget = eval(said.partition("ValueError: ")[2])
    assert state == {
        "a": ("torch.int64", [0, 1, 2]),
        "b": ("torch.float16", [[1, 1], [1, 1]]),
        "c": ("torch.int64", 7),
        "": ("torch.float64", 0.5),
    }
    assert bias == list(range(10))
    assert not is_training
    assert n_forget == 20


ENSEMBLE = f"""
import copy, torch
{TRAIN}
    other = copy.deepcopy(net)
    with torch.no_grad(): net.fc.bias[0], other.fc.bias[1] = 60, 60
    return [net, other], dict(a=torch.ones(1))
{UNLEARN}
    assert len(net) == 2 and net[0].fc.bias[0] == 60 and net[1].fc.bias[1] == 60 and state["a"] == 1
    with torch.no_grad(): net[0].fc.bias[2] += 1
"""


def test_a_model_of_several_nets_gives_the_mean_of_their_probabilities(
    make: Callable[[Path, Task], Run], submission: Write
) -> None:
    file = submission(ENSEMBLE)
    read = read_submission(file, source_kb=256)
    original = make(file, Task(read, 0, 0, Stage.ORIGINAL))
    run = make(file, Task(read, 0, 0, Stage.RUN, original.trained))
    assert run.outcome == Outcome.OK, run.info.message
    assert run.record is not None
    probabilities = np.exp(run.record.test_logits[0])
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert np.allclose(probabilities[:, :2], 0.5, atol=1e-3)
    assert run.record.distance[0] == pytest.approx(1)


# ---- bad input ----------------------------------------------------------------------------------------------------

FAULTS = {
    "five arguments, no train": (f"{UNLEARN} pass", "INVALID_SUBMISSION", "train(net, train_loader, val_loader)"),
    "train of two": (f"def train(net, loader): pass\n{UNLEARN} pass", "INVALID_SUBMISSION", "takes 2 arguments"),
    "train that is a class": (f"class train: pass\n{UNLEARN} pass", "INVALID_SUBMISSION", "is a class"),
    "a certificate of one": (
        f"CERTIFICATE = 3\n{TRAIN} pass\n{UNLEARN} pass",
        "INVALID_SUBMISSION",
        "CERTIFICATE in line 1 has to be epsilon and delta as two numbers",
    ),
    "a certificate within an if": (
        f"if True: CERTIFICATE = (1, 1e-5)\n{TRAIN} pass\n{UNLEARN} pass",
        "INVALID_SUBMISSION",
        "CERTIFICATE in line 1 has to be epsilon and delta as two numbers, such as CERTIFICATE = (1.0, 1e-5)",
    ),
    "train that fails": (f"{TRAIN} 1 / 0\n{UNLEARN} pass", "EXCEPTION", "train on the training set: ZeroDivisionError"),
    "train that ends": (f"import os\n{TRAIN} os._exit(0)\n{UNLEARN} pass", "CRASHED", "before train returned"),
    "no net": (f"{TRAIN} return 3, {{}}\n{UNLEARN} pass", "BAD_OUTPUT", "train returned int, not a net"),
    "another architecture": (
        f"import torch\n{TRAIN} return torch.nn.Linear(2, 2)\n{UNLEARN} pass",
        "BAD_OUTPUT",
        "another architecture: no bn1.bias",
    ),
    "NaN weights": (
        f"{TRAIN} net.fc.weight.data[:] = float('nan')\n{UNLEARN} pass",
        "NON_FINITE",
        "160 in fc.weight",
    ),
    "too many nets": (f"{TRAIN} return [net] * 9\n{UNLEARN} pass", "BAD_OUTPUT", "train returned 9 nets"),
    "a list of one that is none": (f"{TRAIN} return [net, 3]\n{UNLEARN} pass", "BAD_OUTPUT", "returned int, not a net"),
    "NaN in the second net": (
        f"import copy\n{TRAIN}\n    other = copy.deepcopy(net)\n    other.fc.bias.data[0] = float('nan')\n"
        f"    return [net, other]\n{UNLEARN} pass",
        "NON_FINITE",
        "1 in fc.bias",
    ),
    "a state that is a list": (f"{TRAIN} return net, [1]\n{UNLEARN} pass", "BAD_OUTPUT", "is of type list"),
    "a state with objects": (
        f"{TRAIN} return net, dict(seed=3)\n{UNLEARN} pass",
        "BAD_OUTPUT",
        "state['seed'] is of type int: keep tensors or arrays of numbers, such as torch.tensor(3)",
    ),
    "a state of strings": (
        f"import numpy\n{TRAIN} return net, dict(a=numpy.array(['x']))\n{UNLEARN} pass",
        "BAD_OUTPUT",
        "is an array of <U1",
    ),
    "a state by numbers": (
        f"import torch\n{TRAIN} return net, {{0: torch.ones(1)}}\n{UNLEARN} pass",
        "BAD_OUTPUT",
        "by strings",
    ),
    "NaN in the state": (
        f"import torch\n{TRAIN} return net, dict(a=torch.tensor([1, float('nan')]))\n{UNLEARN} pass",
        "BAD_OUTPUT",
        "state['a'] holds NaN",
    ),
    "a state too large": (
        f"import torch\n{TRAIN} return net, dict(a=torch.zeros(17 << 20))\n{UNLEARN} pass",
        "BAD_OUTPUT",
        "the state has 68.0 MB, the limit is 64 MB",
    ),
    "a state that is no safetensors": (
        f"import sys\n{TRAIN} sys.modules['harness.runner.inside.worker'].packed = lambda *_: b'x' * 9\n{UNLEARN} pass",
        "BAD_OUTPUT",
        "the state that train left cannot be read",
    ),
    "unlearn that fails": (f"{TRAIN} pass\n{UNLEARN} 1 / 0", "EXCEPTION", "ZeroDivisionError"),
}


@pytest.mark.parametrize(("source", "outcome", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_learner_gets_its_outcome_and_a_remedy(
    source: str, outcome: str, message: str, harness: Harness, submission: Write, tiny_file: Path
) -> None:
    result = harness("evaluate", submission(source), "--track", tiny_file, "--runs", 2, "--jobs", 1)
    assert result.exit_code == 3, result.output
    assert outcome in result.output
    assert message in " ".join(result.output.split())
    assert "remedy: " in result.output
    assert "Traceback" not in result.output


def test_a_training_is_killed_at_twice_its_own_limit(
    harness: Harness, submission: Write, tiny: Track, home: Path
) -> None:
    (home / "tracks").unlink()
    shutil.copytree(tiny.folder, home / "tracks" / "tiny")
    toml = home / "tracks" / "tiny" / "track.toml"
    toml.write_text(toml.read_text().replace("seconds = 2.0", "seconds = 2.0\ntrain_limit = 0.02"))
    file = submission(f"import time\n{TRAIN} time.sleep(1000)\n{UNLEARN} pass")
    result = harness("evaluate", file, "--track", "tiny", "--runs", 2)
    assert result.exit_code == 3, result.output
    assert "TIME_LIMIT in run 0" in result.output
    assert "train on the training set: killed after" in result.output
    assert "the limit is 0.40 s" in result.output


def test_of_a_training_that_failed_no_time_is_told_by_the_limit_of_unlearn(
    tiny: Track, submission: Write, home: Path
) -> None:
    read = read_submission(submission(f"{TRAIN} 1 / 0\n{UNLEARN} pass"), source_kb=256)
    limit = Limit(2.0, 0.1, training_seconds=20.0, calibration="given")
    made = evaluate(read, tiny, Conditions(limit, choose()), runs=2, home=home)
    stored = load_evaluation(read, tiny, "cpu", runs=2, home=home)
    assert stored.conditions.limit is not None
    assert stored.conditions.limit.seconds == pytest.approx(2.0)
    assert stored.conditions.limit.training_seconds == pytest.approx(20.0)
    for each in (made, stored):
        seconds = each.score_file.seconds
        assert (seconds.limit, seconds.training, seconds.fraction_of_training) == (None, None, None)
        assert seconds.mean is not None


def test_train_alone_means_nothing(submission: Write) -> None:
    file = submission(f"{TRAIN} pass\ndef unlearn(net, retain_loader, forget_loader, val_loader): pass")
    read = read_submission(file, source_kb=256)
    assert not read.problems
    assert not read.is_learner


@pytest.mark.parametrize("claim", ["CERTIFICATE", "CERTIFICATE: tuple[float, float]", "CLAIM = CERTIFICATE"])
def test_a_certificate_is_read_however_the_constant_is_assigned(claim: str, submission: Write) -> None:
    file = submission(f"{claim} = (1, 1e-4)\n{TRAIN} pass\n{UNLEARN} pass")
    assert read_submission(file, source_kb=256).certificate == (1, 1e-4)
    assert read_submission(file, source_kb=256, constants={"CERTIFICATE": "(2, 0)"}).certificate == (2, 0)


def test_what_has_no_form_for_learners_says_so(harness: Harness, submission: Write, tiny_file: Path) -> None:
    file = submission(EXACT)
    compared = harness("compare", file, "retrained", "--track", tiny_file)
    assert (compared.exit_code, "is a learner" in compared.output) == (2, True)
    tuned = harness("tune", file, "--track", tiny_file)
    assert tuned.exit_code == 2, tuned.output
