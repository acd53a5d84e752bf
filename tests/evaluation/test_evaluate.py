"""The main path through the command line: run, store, score, show; run nothing twice, lose nothing."""

import base64
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from rich.console import Console

from harness.evaluation.evaluate import evaluate
from harness.report.terminal import show
from harness.runner.forked import ForkedProcess
from harness.runner.isolation import choose
from harness.runs.run import Conditions, Limit
from harness.runs.stage import Stage
from harness.runs.store import Results
from harness.seal import sealed
from harness.storage import read_json, write_json
from harness.submission import read_submission
from harness.tracks.track import Track
from tests.learners import EXACT

ROOT = Path(__file__).parents[2]

Harness = Callable[..., Result]
Write = Callable[[str], Path]
Evaluated = Callable[..., dict[str, Any]]

FINETUNE = """
import torch

EPOCHS = 1
RATE = 0.05

def unlearn(net, retain_loader, forget_loader, val_loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    net.train()
    for _ in range(EPOCHS):
        for images, labels in retain_loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    return net
"""

STARTING_KIT = """
import torch
from torch import nn, optim

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

def unlearning(net, retain, forget, validation, **kwargs):
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1)
    net.train()
    for inputs, targets in retain:
        inputs, targets = inputs.to(DEVICE), targets.to(DEVICE)
        optimizer.zero_grad()
        loss = criterion(net(inputs), targets)
        loss.backward()
        optimizer.step()
    scheduler.step()
    net.eval()
    return net
"""

KAGGLE = """
import torch
from torch.utils.data import DataLoader, Subset

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

def unlearning(net, retain_loader, forget_loader, val_loader):
    own = DataLoader(retain_loader.dataset, batch_size=64, shuffle=True, num_workers=2)
    few = DataLoader(Subset(forget_loader.dataset, range(4)), batch_size=2)
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
    net.train()
    for loader, key in ((own, "age_group"), (few, "label"), (retain_loader, "age_group")):
        for sample in loader:
            inputs, targets = sample["image"].to(DEVICE), sample[key].to(DEVICE)
            optimizer.zero_grad()
            criterion(net(inputs), targets).backward()
            optimizer.step()
    net.eval()
"""


@pytest.fixture
def evaluated(harness: Harness, tmp_path: Path, tiny_file: Path) -> Evaluated:
    """Evaluates a file on the tiny track and returns what --json wrote."""

    def call(file: Path, *options: object) -> dict[str, Any]:
        out = tmp_path / "out.json"
        result = harness("evaluate", file, "--track", tiny_file, "--json", out, *options)
        assert result.exit_code == 0, result.output
        return {**json.loads(out.read_text()), "output": result.output}

    return call


def run_files(home: Path, stage: Stage = Stage.RUN) -> dict[str, int]:
    """Return the stored runs of a stage and when they were written."""
    return {str(path.relative_to(home)): path.stat().st_mtime_ns for path in home.glob(f"results/*/*/{stage}-*.npz")}


# ---- run and score ------------------------------------------------------------------------------------------------


def test_a_submission_is_run_and_scored_between_floor_and_ceiling(evaluated: Evaluated, submission: Write) -> None:
    result = evaluated(submission(FINETUNE), "--runs", 16)
    assert (result["outcome"], result["n_runs"], result["ranked"]) == ("OK", 16, True)
    assert result["floor"] < result["ceiling"]
    assert result["score"] == pytest.approx(
        result["forgetting_quality"] * result["retain_ratio"] * result["test_ratio"]
    )
    assert 0 < result["seconds"]["mean"] <= result["seconds"]["max"] < 2 * result["seconds"]["limit"]
    assert result["seconds"]["training"] is result["seconds"]["fraction_of_training"] is None  # the limit is in seconds
    assert result["isolation"]["level"] == choose().level
    assert 0 < result["calibrated_score"] < 1.5
    assert result["score_interval"][0] < result["score"] < result["score_interval"][1]
    assert result["full_stack"]["n_unlearned"] == 16
    assert {alarm["name"] for alarm in result["alarms"]} <= {"window", "leak", "gap", "fit"}
    assert result["audit"]["n_unlearned"] == 16


def test_doing_nothing_scores_exactly_the_floor(evaluated: Evaluated, submission: Write) -> None:
    result = evaluated(submission("def unlearn(net, retain_loader, forget_loader, val_loader): pass"), "--runs", 16)
    assert result["score"] == pytest.approx(result["floor"], rel=1e-3)
    assert {alarm["name"] for alarm in result["alarms"]} == {"weights unchanged", "runs identical"}
    assert "alarm (weights unchanged): 100% of the runs returned the original model" in result["output"]
    assert result["output"].count("docs/scoring.md#alarms says what to do") == 1


def test_a_submission_that_does_not_look_at_its_forget_set_raises_an_alarm(
    evaluated: Evaluated, submission: Write, home: Path
) -> None:
    noise = """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
"""
    blind = evaluated(submission(noise), "--runs", 16)
    assert "same output for another forget set" in {alarm["name"] for alarm in blind["alarms"]}
    assert len(list(home.glob("results/*/*/swapped-*.npz"))) == 2
    again = evaluated(submission(noise), "--runs", 16)
    assert again["alarms"] == blind["alarms"]


def test_a_submission_that_works_for_one_forget_set_alone_raises_an_alarm(
    evaluated: Evaluated, submission: Write, tiny: Track
) -> None:
    first = float(tiny.examples("forget").images[:, 0, 2].sum())
    source = f"{FINETUNE}    assert sum(float(x[:, 0, 0, 2].sum()) for x, y in forget_loader) * 16 == {first}\n"
    picky = evaluated(submission(source.replace("    return net\n", "")), "--runs", 16)
    assert "fails with another forget set" in {alarm["name"] for alarm in picky["alarms"]}
    assert "the outcome was EXCEPTION" in picky["output"]


def test_a_file_that_holds_a_table_raises_an_alarm_from_its_first_check_on(
    harness: Harness, evaluated: Evaluated, submission: Write, tiny_file: Path
) -> None:
    table = base64.b64encode(random.Random(0).randbytes(4096)).decode()
    said = "alarm (data in the file): numbers and texts in the file take 4.1 KB when compressed"
    for source, expected in ((f'TABLE = "{table}"\n{FINETUNE}', 1), (FINETUNE, 0)):
        file = submission(source)
        check = harness("check", file, "--track", tiny_file)
        assert check.exit_code == 0, check.output
        assert check.output.count(said) == expected
        assert "an alarm above 1 KB" in check.output
        result = evaluated(file, "--runs", 2)
        assert [alarm["name"] for alarm in result["alarms"] or ()] == ["data in the file"] * expected
        assert result["output"].count(said) == expected


@pytest.mark.parametrize("source", [STARTING_KIT, KAGGLE], ids=["starting-kit", "kaggle"])
def test_code_of_2023_runs_unchanged(source: str, evaluated: Evaluated, submission: Write) -> None:
    assert evaluated(submission(source), "--runs", 2)["outcome"] == "OK"


def test_the_result_is_shown_with_its_scale_and_how_it_compares(
    evaluated: Evaluated, submission: Write, home: Path
) -> None:
    file = submission(FINETUNE)
    first = evaluated(file, "--runs", 4)
    assert f"floor {first['floor']:.3f}, ceiling {first['ceiling']:.3f}" in first["output"]
    assert "harness evaluate baselines/finetune.py --track tiny --runs 4" in first["output"]
    assert "not ranked: fewer than 16 runs" in first["output"]
    file.write_text(FINETUNE.replace("EPOCHS = 1", "EPOCHS = 2"))
    second = evaluated(file, "--runs", 4)
    pair = f"{second['calibrated_score']:.2f} against {first['calibrated_score']:.2f} of the last version of this file"
    assert pair in second["output"]
    finetune = evaluated(Path(__file__).parents[2] / "baselines" / "finetune.py", "--runs", 4)
    third = evaluated(file, "--runs", 4)
    pair = f"{third['calibrated_score']:.2f} against {finetune['calibrated_score']:.2f} of fine-tuning"
    assert pair in third["output"]


def test_a_file_is_compared_with_its_last_version_under_the_same_time_limit_and_a_learner_with_none(
    evaluated: Evaluated, submission: Write
) -> None:
    file, said = submission(FINETUNE), "of the last version of this file"
    evaluated(file, "--runs", 2)
    assert said not in evaluated(file, "--runs", 2, "--time-limit", 0.2)["output"]  # the same version
    assert said not in evaluated(file, "--runs", 2)["output"]
    file.write_text(FINETUNE.replace("EPOCHS = 1", "EPOCHS = 2"))
    assert said in evaluated(file, "--runs", 2, "--time-limit", 0.2)["output"]
    for source in (EXACT, EXACT.replace("range(3)", "range(4)")):
        file.write_text(source)
        output = evaluated(file, "--runs", 2)["output"]
        assert said not in output
        assert "to compare with fine-tuning" not in output


def test_quick_is_marked_and_cannot_be_mixed_with_runs(
    harness: Harness, evaluated: Evaluated, submission: Write, tiny_file: Path
) -> None:
    file = submission("def unlearn(net, retain_loader, forget_loader, val_loader): pass")
    assert evaluated(file, "--quick")["n_runs"] == 4  # the tiny track's default is below 16
    result = harness("evaluate", file, "--track", tiny_file, "--quick", "--runs", 3)
    assert result.exit_code == 2
    assert "--quick or --runs" in result.output


def test_over_the_limit_is_scored_in_full_but_not_ranked(evaluated: Evaluated, submission: Write) -> None:
    slow = "import time\ndef unlearn(net, retain_loader, forget_loader, val_loader): time.sleep(2.1)"
    result = evaluated(submission(slow), "--runs", 16, "--jobs", 8)
    assert result["ranked"] is False
    assert result["seconds"]["mean"] > result["seconds"]["limit"] == 2
    assert result["score"] is not None


def test_a_longer_limit_is_kept_apart_and_never_ranked(evaluated: Evaluated, submission: Write, home: Path) -> None:
    file = submission(FINETUNE)
    evaluated(file, "--runs", 2)
    result = evaluated(file, "--runs", 2, "--time-limit", 0.5)
    assert result["unranked_because"] == "time limit overridden"
    assert len(run_files(home)) == 4


def test_time_is_a_share_of_the_training_that_the_limit_of_each_run_comes_from(
    tiny: Track, submission: Write, home: Path
) -> None:
    read = read_submission(submission(FINETUNE), source_kb=256)
    for runs, training in ((1, 20.0), (2, 40.0)):  # the machine was calibrated again
        limit = Limit(training / 8, 0.125, training_seconds=training, calibration=f"of {training} s")
        found = evaluate(read, tiny, Conditions(limit, choose()), runs=runs, home=home)
    share = (found.runs[0].seconds / 20 + found.runs[1].seconds / 40) / 2
    figures = found.score_file
    assert figures.full_stack is not None
    assert figures.full_stack.rte.mean == figures.seconds.fraction_of_training == pytest.approx(share)
    assert figures.full_stack.efficiency == pytest.approx(1 / share)
    assert found.share_of_limit == pytest.approx(8 * share)
    shown = io.StringIO()
    Console(file=shown, width=200).print(show(found, []))
    assert f"{share:.1%} of a training (40.0 s), limit 12.5%" in shown.getvalue()


# ---- nothing is run twice, nothing is lost ------------------------------------------------------------------------


def test_a_repeated_call_runs_nothing_and_more_runs_add_only_the_new(
    evaluated: Evaluated, submission: Write, home: Path
) -> None:
    file = submission(FINETUNE)
    first = evaluated(file, "--runs", 3)
    files = run_files(home)
    again = evaluated(file, "--runs", 3)
    assert run_files(home) == files
    assert {**again, "output": ""} == {**first, "output": ""}
    evaluated(file, "--runs", 5)
    assert {name: run_files(home)[name] for name in files} == files
    assert len(run_files(home)) == 5


def test_comments_docstrings_and_layout_do_not_make_new_runs_but_code_does(
    evaluated: Evaluated, submission: Write, home: Path
) -> None:
    evaluated(submission(FINETUNE), "--runs", 2)
    evaluated(
        submission('"""Words."""\n# a comment\n' + FINETUNE.replace("RATE = 0.05", "RATE   =   0.05")), "--runs", 2
    )
    assert len(run_files(home)) == 2
    evaluated(submission(FINETUNE.replace("0.05", "0.06")), "--runs", 2)
    assert len(run_files(home)) == 4


def test_what_a_docstring_says_is_not_executed(evaluated: Evaluated, submission: Write) -> None:
    """Or an edit of it could change what a run does, and its stored runs would be taken for those of the new file."""
    source = (
        '"""words"""\ndef unlearn(net, retain_loader, forget_loader, val_loader):\n    """words"""\n'
        "    assert __doc__ is unlearn.__doc__ is None\n"
    )
    assert evaluated(submission(source), "--runs", 1)["outcome"] == "OK"


def test_a_set_constant_acts_and_is_part_of_what_is_run(evaluated: Evaluated, submission: Write, home: Path) -> None:
    written = evaluated(submission(FINETUNE.replace("EPOCHS = 1", "EPOCHS = 2")), "--runs", 2)
    is_set = evaluated(submission(FINETUNE), "--runs", 2, "--set", "EPOCHS=2")
    assert len(run_files(home)) == 2
    assert is_set["code_hash"] == written["code_hash"]
    assert is_set["constants"] == {"EPOCHS": "2"}
    assert evaluated(submission(FINETUNE), "--runs", 2)["code_hash"] != written["code_hash"]


def conditions(*, jobs: int = 1, fork: bool | None = None) -> Conditions:
    return Conditions(Limit(seconds=10.0, fraction=0.1), choose(), jobs=jobs, fork=fork)


def hashes_of(track: Track, file: Path, home: Path, given: Conditions, runs: int = 3) -> list[str]:
    """Return the hashes of the weights of a submission's runs."""
    evaluation = evaluate(read_submission(file, source_kb=256), track, given, runs=runs, home=home)
    return [str(run.record.weights_sha256[0]) for run in evaluation.runs if run.record is not None]


RANDOM = """
import random
import numpy as np
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    order = next(iter(retain_loader))[1].sum()
    names = sum(hash(name) % 1000 for name in {"a", "b", "c"})
    with torch.no_grad():
        net.fc.bias += torch.randn(10) + np.random.rand() + random.random() + order + names
"""


def test_runs_differ_from_each_other_and_repeat_exactly(tiny: Track, submission: Write, tmp_path: Path) -> None:
    file = submission(RANDOM)
    first = hashes_of(tiny, file, tmp_path / "a", conditions(jobs=2), runs=6)
    assert len(set(first)) == 6
    assert hashes_of(tiny, file, tmp_path / "b", conditions(), runs=6) == first


@pytest.mark.parametrize("is_running", [False, True])
def test_what_the_harness_fails_at_is_made_again_with_the_same_seeds_and_listed(
    is_running: bool, tiny: Track, submission: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = submission(RANDOM.replace("    order = next", "    __import__('time').sleep(0.5)\n    order = next"))
    undisturbed = hashes_of(tiny, slow, tmp_path / "a", conditions())
    submitted = read_submission(slow, source_kb=256)

    go = ForkedProcess.go
    lost = threading.Event()

    def lose_zygote(self: ForkedProcess) -> None:
        """Lose what runs are forked from, once, as a run begins or while it runs."""
        if is_running:
            go(self)
        if not lost.is_set():
            lost.set()
            self._zygote.process.kill()
            self._zygote.process.wait()
        if not is_running:
            go(self)

    monkeypatch.setattr(ForkedProcess, "go", lose_zygote)
    evaluation = evaluate(submitted, tiny, conditions(jobs=2), runs=3, home=tmp_path / "b")
    assert evaluation.outcome == "OK"
    assert [str(run.record.weights_sha256[0]) for run in evaluation.runs if run.record is not None] == undisturbed
    assert sum(len(run.info.harness_errors) for run in evaluation.runs) >= 1


def test_a_new_process_per_run_gives_the_same_weights_as_a_forked_one(
    tiny: Track, submission: Write, tmp_path: Path
) -> None:
    file = submission(FINETUNE)
    forked = hashes_of(tiny, file, tmp_path / "a", conditions(fork=True), runs=2)
    assert hashes_of(tiny, file, tmp_path / "b", conditions(fork=False), runs=2) == forked


def test_a_new_process_per_run_is_killed_and_its_faults_are_told(
    tiny: Track, submission: Write, tmp_path: Path
) -> None:
    cases = {
        "import time\ndef unlearn(a, b, c, d): time.sleep(60)": "TIME_LIMIT",
        "import os\ndef unlearn(a, b, c, d): os._exit(3)": "CRASHED",
        "def unlearn(a, b, c, d): print('hello'); 1 / 0": "EXCEPTION",
    }
    given = Conditions(Limit(seconds=0.5, fraction=0.1), choose(), fork=False)
    for source, outcome in cases.items():
        evaluation = evaluate(read_submission(submission(source), source_kb=256), tiny, given, runs=1, home=tmp_path)
        assert evaluation.outcome == outcome
    assert evaluation.runs[0].info.log == "hello\n"


STOPPED = """
import pathlib, time
def unlearn(net, retain_loader, forget_loader, val_loader):
    time.sleep(0.4)
"""


def start_harness(home: Path, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        env=os.environ | {"HARNESS_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_runs(home: Path, count: int, stage: Stage = Stage.RUN) -> None:
    deadline = time.monotonic() + 60
    while len(run_files(home, stage)) < count:
        assert time.monotonic() < deadline, "no runs were stored"
        time.sleep(0.05)


def processes_of(pid: int) -> set[int]:
    """Return a process and all that descend from it."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(status.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def processes_with_a_run(pid: int) -> set[int]:
    """Return the harness's processes at a moment when a run is in flight: itself, its zygote, a run."""
    deadline = time.monotonic() + 20
    while len(found := processes_of(pid)) < 3:
        assert time.monotonic() < deadline, "no run was in flight"
        time.sleep(0.01)
    return found


def assert_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 10
    while alive := {pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)}:
        assert time.monotonic() < deadline, f"left behind: {alive}"
        time.sleep(0.05)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("stop", "source", "stage"),
    [
        pytest.param(signal.SIGKILL, STOPPED, Stage.RUN, marks=pytest.mark.long),
        (signal.SIGINT, STOPPED, Stage.RUN),
        pytest.param(signal.SIGKILL, EXACT, Stage.SCORING, marks=pytest.mark.long),
    ],
    ids=["killed", "interrupted", "a learner, killed"],
)
def test_a_stopped_evaluation_leaves_nothing_running_and_goes_on_where_it_was(
    stop: signal.Signals,
    source: str,
    stage: Stage,
    evaluated: Evaluated,
    submission: Write,
    home: Path,
    tiny_file: Path,
) -> None:
    file = submission(source)
    process = start_harness(home, "evaluate", file, "--track", tiny_file, "--runs", 16, "--jobs", 2)
    try:
        wait_for_runs(home, 3, stage)
        descendants = processes_with_a_run(process.pid)
        process.send_signal(stop)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert_gone(descendants)
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on from there" in output
        assert "Traceback" not in output
    stored = run_files(home, stage)
    assert 3 <= len(stored) < 16
    result = evaluated(file, "--runs", 8)
    assert result["outcome"] == "OK"
    assert {name: run_files(home, stage)[name] for name in stored} == stored


@pytest.mark.long
def test_no_process_imports_what_lies_in_the_current_folder(submission: Write, home: Path, tmp_path: Path) -> None:
    """A submissions folder is a stranger's: a random.py or cuda.py of theirs is nobody's module."""
    for name in ("random.py", "cuda.py", "json.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    file = submission(FINETUNE)
    for command in (("check", str(file)), ("prepare", "digits", "--estimate", "--jobs", "2")):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "harness", *command],
            env=os.environ | {"HARNESS_HOME": str(home), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "executed").exists()


def test_a_baseline_is_compared_with_by_its_name(harness: Harness, submission: Write, tiny_file: Path) -> None:
    file = submission(FINETUNE)
    missing = harness("compare", file, file.with_name("nothing"), "--track", tiny_file, "--runs", 8)
    assert missing.exit_code == 2
    assert "nothing; start one: harness new" in missing.output
    assert "runs ..." not in missing.output  # both files are looked at before the first is run
    result = harness("compare", file, "baselines/identity.py", "--track", tiny_file, "--runs", 8)
    assert result.exit_code == 0, result.output
    assert "8 runs of each are few" in result.output


def test_a_damaged_run_file_is_made_again(evaluated: Evaluated, submission: Write, home: Path) -> None:
    file = submission(FINETUNE)
    first = evaluated(file, "--runs", 4)
    damaged = next(iter(home.glob("results/*/*/run-0002.npz")))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    again = evaluated(file, "--runs", 4)
    assert "1 made now, 3 stored before" in again["output"]
    assert again["score"] == first["score"]


def test_rescore_scores_stored_runs_anew_and_makes_none(
    harness: Harness, evaluated: Evaluated, submission: Write, home: Path, tiny_file: Path
) -> None:
    file = submission(FINETUNE)
    nothing = harness("evaluate", file, "--track", tiny_file, "--runs", 4, "--rescore")
    assert nothing.exit_code == 2
    assert "4 of 4 runs of" in nothing.output
    first = evaluated(file, "--runs", 4)
    stored = run_files(home)
    scored = next(home.glob("results/*/*/score-4-*.json"))
    write_json(scored, sealed({**read_json(scored), "score": 9.0}))
    assert evaluated(file, "--runs", 4)["score"] == 9.0  # a repeated call shows what is stored, and whole
    assert evaluated(file, "--runs", 4, "--rescore")["score"] == first["score"]
    assert run_files(home) == stored


def test_runs_of_another_machine_are_rescored_under_their_own_limit_and_without_its_gpu(
    harness: Harness, evaluated_home: Path, home: Path, tiny: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = evaluated_home / "submissions" / "bob" / "noise.py"
    submission = read_submission(file, source_kb=256)
    elsewhere: dict[str, Any] = {
        "device": "cuda",
        "gpu": "another card, driver 1",
        "limit_seconds": 8.0,
        "calibration": "elsewhere",
    }
    for run in Results.of(evaluated_home, tiny, submission, "cpu").runs(range(4)).values():
        for time_limit in (None, 0.4):
            results = Results.of(home, tiny, submission, "cuda", time_limit=time_limit)
            results.save_run(replace(run, info=replace(run.info, **elsewhere)))
    monkeypatch.setattr("harness.api.conditions_here", lambda *_, **__: pytest.fail("this machine is looked at"))
    out, options = tmp_path / "out.json", ("--track", "tiny", "--device", "cuda")
    for given, training, unranked in (((), 80.0, "fewer than"), (("--time-limit", 0.4), 20.0, "time limit overridden")):
        result = harness("evaluate", file, *options, *given, "--runs", 4, "--rescore", "--json", out)
        assert result.exit_code == 0, result.output
        assert "new ones would be made" not in result.output
        found = read_json(out)
        assert (found["seconds"]["limit"], found["seconds"]["training"]) == (8.0, training)
        assert found["environment"]["gpu"] == "another card, driver 1"
        assert unranked in found["unranked_because"]
    lacking = harness("report", file, *options, "--runs", 5)
    assert lacking.exit_code == 2
    assert "1 of 5 runs of" in lacking.output


# ---- what a run finds ---------------------------------------------------------------------------------------------


def test_a_run_finds_the_environment_the_contract_promises(
    evaluated: Evaluated, submission: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HARNESS", "1")
    source = """
import os, sys, torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    assert float(os.environ["UNLEARN_TIME_LIMIT_SECONDS"]) == 2.0
    assert not [name for name in os.environ if "HARNESS" in name], os.environ
    assert not net.training and all(p.requires_grad for p in net.parameters())
    assert {type(loader) for loader in (retain_loader, forget_loader, val_loader)} == {torch.utils.data.DataLoader}
    assert (len(retain_loader.dataset), len(forget_loader.dataset), len(val_loader.dataset)) == (100, 20, 80)
    assert torch.get_num_threads() == 1
    assert "torch._dynamo" in sys.modules and "pandas" in sys.modules
    trusted = ("harness.scoring", "harness.tracks", "data_prep")
    assert not [name for name in sys.modules if name.startswith(trusted)]
    ways_to_packages = {os.path.relpath(prefix).split("/")[0] for prefix in (sys.prefix, sys.base_prefix)}
    assert set(os.listdir()) <= ways_to_packages and sys.stdin.read() == ""
    open("scratch", "w").close()
"""
    assert evaluated(submission(source), "--runs", 4)["outcome"] == "OK"


def test_every_run_starts_from_its_own_original_and_keeps_its_record(
    evaluated: Evaluated, submission: Write, home: Path, tiny: Track
) -> None:
    evaluated(submission(FINETUNE), "--runs", 3)
    files = sorted(home.glob("results/*/*/run-*.npz"))
    for index, file in enumerate(files):
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["original"][0] == index % 2
            assert arrays["forget_logits"].shape == (1, 20, 10)
            assert arrays["test_logits"].shape == (1, len(tiny.examples("test")), 10)
            assert arrays["retain_confidence"].shape == (1, 100)
            assert 0 < arrays["distance"][0] < 100
            info = json.loads(str(arrays["info"]))
            assert info["isolation"] == choose().level
            assert 0 < info["seconds_inside"] < info["seconds"]


# ---- compare ------------------------------------------------------------------------------------------------------

DESTROY = """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += torch.randn_like(parameter)
"""


def test_compare_tells_a_destroyed_net_from_retrained_ones_and_retrained_from_itself(
    harness: Harness, submission: Write, tiny_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    file = submission(DESTROY)
    result = harness("compare", file, "retrained", "--track", tiny_file, "--runs", 16, "--json", out)
    assert result.exit_code == 0, result.output
    assert "retrained is better than foo.py" in result.output
    found = json.loads(out.read_text())
    assert found["p_value"] == 0.001
    assert found["difference"] < -0.5
    same = harness("compare", "retrained", "retrained", "--track", tiny_file, "--runs", 16)
    assert "cannot be told apart" in same.output


def test_compare_does_not_tell_a_submission_from_itself_with_other_comments(
    harness: Harness, submission: Write, tiny_file: Path
) -> None:
    first, second = submission(FINETUNE), submission(FINETUNE.replace("RATE = 0.05", "RATE = 0.050001"))
    result = harness("compare", first, second, "--track", tiny_file, "--runs", 16)
    assert result.exit_code == 0, result.output
    assert "cannot be told apart" in result.output


def test_compare_under_another_time_limit_says_so_and_keeps_its_runs_apart(
    harness: Harness, submission: Write, tiny_file: Path, tmp_path: Path, home: Path
) -> None:
    out = tmp_path / "out.json"
    file = submission(DESTROY)
    result = harness(
        "compare", file, "retrained", "--track", tiny_file, "--runs", 8, "--time-limit", 0.2, "--json", out
    )
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["time_limit_override"] == 0.2
    assert len(list(home.glob("results/*/*-limit0.2-*/run-*.npz"))) == 8


def test_compare_refuses_too_few_runs_before_it_makes_any(
    harness: Harness, submission: Write, tiny_file: Path, home: Path
) -> None:
    result = harness("compare", submission(DESTROY), "retrained", "--track", tiny_file, "--runs", 7)
    assert result.exit_code == 2, result.output
    assert "7 runs are too few to compare; ask for at least 8: --runs 16" in " ".join(result.output.split())
    assert not run_files(home)


def test_compare_shows_the_failure_of_a_submission_that_fails(
    harness: Harness, submission: Write, tiny_file: Path
) -> None:
    file = submission("def unlearn(a, b, c, d): 1 / 0")
    result = harness("compare", file, "retrained", "--track", tiny_file, "--runs", 8)
    assert result.exit_code == 3
    assert "ZeroDivisionError" in result.output
