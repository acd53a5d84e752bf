"""`import harness`: what the command line does, as functions."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.errors import UsageError
from harness.tracks.track import Track
from tests.conftest import EVALUATED

ROOT = Path(__file__).parents[2]
Write = Callable[[str], Path]


@pytest.fixture
def finetune(submission: Write) -> Path:
    return submission(EVALUATED["ada/finetune.py"])


def test_an_evaluation_is_what_the_command_line_writes(
    finetune: Path, home: Path, tiny_file: Path, tmp_path: Path
) -> None:
    runs: list[object] = []
    result = harness.evaluate(finetune, track=tiny_file, runs=4, on_run=runs.append)
    assert len(runs) == 4
    out = tmp_path / "result.json"
    command = [
        sys.executable,
        "-m",
        "harness",
        "evaluate",
        finetune,
        "--track",
        tiny_file,
        "--runs",
        "4",
        "--json",
        out,
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=ROOT)
    assert json.loads(out.read_text()) == result.score_file.to_json()
    assert harness.ScoreFile.from_json(json.loads(out.read_text())) == result.score_file


def test_a_baseline_can_be_given_by_its_name(home: Path, tiny: Track) -> None:
    assert harness.evaluate("identity", track=tiny, runs=1).outcome == "OK"
    with pytest.raises(UsageError, match="did you mean identity"):
        harness.evaluate("identiti", track=tiny, runs=1)


def test_a_prepared_track_and_constants_can_be_given(submission: Write, home: Path, tiny: Track) -> None:
    file = submission("EPOCHS = 1\ndef unlearn(net, retain_loader, forget_loader, val_loader): assert EPOCHS == 3")
    failed = harness.evaluate(file, track=tiny, runs=1, isolation="none")
    assert failed.outcome == "EXCEPTION"
    assert failed.score_file.failure is not None
    assert failed.score_file.calibrated_score is None
    assert failed.records is None
    assert harness.evaluate(file, track=tiny, runs=1, constants={"EPOCHS": 3}).outcome == "OK"
    with pytest.raises(UsageError, match="give its path"):
        harness.evaluate(failed.submission, track=tiny, runs=1, constants={"EPOCHS": 3})
    with pytest.raises(UsageError, match="no score to plot"):
        harness.plot(failed)
    with pytest.raises(UsageError, match="no score to compare"):
        harness.compare(failed, "retrained")


def test_evaluations_are_compared_with_each_other_and_with_retraining(
    finetune: Path, submission: Write, home: Path, tiny_file: Path
) -> None:
    first = harness.evaluate(finetune, track=tiny_file, runs=8)
    idle = harness.evaluate(submission(EVALUATED["bob/nothing.py"]), track=tiny_file, runs=8)
    found = harness.compare(first, idle)
    assert (found.first.name, found.second.name) == (first.submission.name, idle.submission.name)
    assert 0 < harness.compare("retrained", idle).p_value <= 1
    itself = harness.compare("retrained", "retrained", track=tiny_file, runs=8)
    assert itself.difference.value == 0
    with pytest.raises(UsageError, match="an evaluation or the word retrained"):
        harness.compare(first, "retraining")
    with pytest.raises(UsageError, match="as many runs"):
        harness.compare(first, harness.evaluate(finetune, track=tiny_file, runs=4))


def test_a_plot_is_a_figure(finetune: Path, home: Path, tiny_file: Path, tmp_path: Path) -> None:
    result = harness.evaluate(finetune, track=tiny_file, runs=4)
    harness.plot(result).savefig(tmp_path / "epsilons.png")
    assert (tmp_path / "epsilons.png").stat().st_size > 5000


def test_arrays_from_anywhere_are_scored() -> None:
    golden = np.load(ROOT / "tests" / "golden" / "official_metric.npz")
    found = harness.score({"confidence": golden["unlearned_16"]}, {"confidence": golden["retrained_16"]})
    assert found["n_models"] == 16
    assert found["score"] is None


def test_a_track_that_is_not_there_is_a_usage_error(home: Path) -> None:
    with pytest.raises(UsageError, match="no track 'nothing'"):
        harness.open_track("nothing")


def test_importing_it_loads_no_torch_and_all_of_it_can_be_listed() -> None:
    code = "import sys, harness; assert 'torch' not in sys.modules; harness.evaluate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert {"evaluate", "compare", "score", "open_track", "plot", "ScoreFile"} <= set(dir(harness))
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(harness, "nonsense")  # noqa: B009


@pytest.mark.slow
def test_the_examples_of_the_page_run_as_printed(tmp_path: Path) -> None:
    """On the default track, whose time limit is measured first."""
    text = (ROOT / "docs" / "api.md").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) > 3
    (tmp_path / "submissions").symlink_to(ROOT / "submissions")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", "".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
