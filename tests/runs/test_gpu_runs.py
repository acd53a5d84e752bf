"""Runs on a GPU that is pretended: whose fault a lack of memory is, what waits for what, what another card means."""

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from torch.utils._python_dispatch import TorchDispatchMode

from data_prep.timed_training import part_of_training
from data_prep.training import Trainer
from harness.accelerator import FAKE_VARIABLE, is_out_of_memory, to_device
from harness.errors import MachineError
from harness.loaders import Images, loader
from harness.record import Records
from harness.runs import local as runs
from harness.runs import measure
from harness.runs.calibration import _time_trainings
from harness.runs.local import _Turns
from harness.runs.measure import Recorder
from harness.seal import write_sealed
from harness.tracks.declaration import Training
from harness.tracks.track import Track

Harness = Callable[..., Result]
Submission = Callable[[str], Path]
Evaluate = Callable[..., dict[str, Any]]

SIGNATURE = "def unlearn(net, retain_loader, forget_loader, val_loader):"
TRAINING = f"""
import torch
{SIGNATURE}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    net.train()
    for images, labels in retain_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets up the pretended GPU: fake(context_seconds=1)."""

    def set_up(**settings: Any) -> None:
        monkeypatch.setenv(FAKE_VARIABLE, json.dumps(settings))

    set_up()
    monkeypatch.setattr(measure, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "FREE_SECONDS", 0.0)
    return set_up


@pytest.fixture
def evaluate(harness: Harness, tiny_file: Path, tmp_path: Path) -> Evaluate:
    """Evaluates a file on the pretended GPU: what --json wrote, with the exit code and what was printed."""

    def call(file: Path, *options: object, runs: int = 2, device: str = "fake") -> dict[str, Any]:
        out = tmp_path / "result.json"
        arguments = ("--track", tiny_file, "--runs", runs, "--device", device, "--json", out)
        result = harness("evaluate", file, *arguments, *options)
        assert out.exists(), result.output
        found: dict[str, Any] = json.loads(out.read_text())
        return {**found, "exit_code": result.exit_code, "output": result.output}

    return call


def stored_runs(home: Path, device: str) -> list[Path]:
    return sorted(home.glob(f"results/*/*-{device}-v*/run-*.npz"))


# ---- whose fault it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        'torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 200.00 GiB.")',
        'RuntimeError("CUDA error: out of memory")',
        'RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")',
        'RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")',
    ],
)
def test_a_submission_that_fills_the_card_has_reached_its_memory_limit(
    fake: object, evaluate: Evaluate, submission: Submission, error: str
) -> None:
    found = evaluate(submission(f"import torch\n{SIGNATURE}\n    raise {error}"))
    assert (found["outcome"], found["exit_code"]) == ("MEMORY_LIMIT", 3)


def test_what_is_no_lack_of_memory_is_not_taken_for_one() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert is_out_of_memory(MemoryError())


def test_the_harness_tries_again_where_it_finds_no_memory_to_measure(
    fake: Callable[..., None], evaluate: Evaluate, submission: Submission
) -> None:
    fake(shortages=measure.ATTEMPTS - 1)
    assert evaluate(submission(TRAINING))["outcome"] == "OK"


def test_a_card_without_memory_to_measure_is_no_fault_of_the_submission_and_nothing_is_stored(
    fake: Callable[..., None], evaluate: Evaluate, submission: Submission, home: Path
) -> None:
    fake(shortages=1000)
    file = submission(TRAINING)
    found = evaluate(file)
    assert (found["outcome"], found["exit_code"]) == ("HARNESS_ERROR", 4)
    assert "no memory to measure" in found["failure"]["message"]
    assert "Traceback" not in found["output"]
    assert stored_runs(home, "fake") == []
    fake()
    assert evaluate(file)["outcome"] == "OK"


def test_a_card_taken_by_others_is_said_before_a_run_and_is_no_fault_of_the_submission(
    fake: Callable[..., None], evaluate: Evaluate, submission: Submission
) -> None:
    fake(free_mb=10_000)
    found = evaluate(submission(TRAINING))
    assert (found["outcome"], found["exit_code"]) == ("HARNESS_ERROR", 4)
    assert "the GPU has 9.8 of 78.1 GB free" in found["failure"]["message"]
    assert "nvidia-smi" in found["failure"]["message"]


# ---- the clock ----------------------------------------------------------------------------------------------------


def test_a_context_is_made_before_the_clock_starts(
    fake: Callable[..., None], evaluate: Evaluate, submission: Submission
) -> None:
    fake(context_seconds=4.5)  # at twice the limit of 2 s a run is killed
    assert evaluate(submission(f"{SIGNATURE} pass"), runs=1)["outcome"] == "OK"


def test_warming_up_changes_nothing_of_a_run(
    fake: object, evaluate: Evaluate, submission: Submission, home: Path
) -> None:
    file = submission(TRAINING)
    assert [evaluate(file, device=device)["outcome"] for device in ("cpu", "fake")] == ["OK", "OK"]
    weights = []
    for device in ("cpu", "fake"):
        for path in stored_runs(home, device):
            with np.load(path) as arrays:
                weights.append(str(arrays["weights_sha256"][0]))
    assert len(weights) == 4
    assert weights[:2] == weights[2:]


def test_no_model_is_measured_while_a_run_is_up(
    fake: object, evaluate: Evaluate, submission: Submission, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[float, float]] = []
    record_run = Recorder.record_run

    def noted(self: Recorder, values: np.ndarray, original: int) -> Records:
        started = time.monotonic()
        record = record_run(self, values, original)
        time.sleep(0.1)
        measured.append((started, time.monotonic()))
        return record

    monkeypatch.setattr(Recorder, "record_run", noted)
    source = f"import time\n{SIGNATURE}\n    started = time.monotonic()\n    time.sleep(0.2)\n"
    file = submission(f"{source}    print(started, time.monotonic())")
    assert evaluate(file, "--jobs", 2, runs=4)["outcome"] == "OK"
    ran = []
    for path in stored_runs(home, "fake"):
        with np.load(path) as arrays:
            ran.append(tuple(map(float, json.loads(str(arrays["info"]))["log"].split())))
    assert len(ran) == len(measured) == 4
    for started, ended in measured:
        assert not [run for run in ran if run[0] < ended and started < run[1]]


def test_runs_that_wait_for_a_measurement_start_after_it_and_measurements_come_one_by_one() -> None:
    turns, said = _Turns(alone=True), []
    holds, may_end = threading.Event(), threading.Event()

    def run() -> None:
        with turns.run():
            said.append("run")

    def measurement() -> None:
        with turns.measurement():
            said.append("measurement")

    def hold() -> None:
        with turns.run():
            holds.set()
            may_end.wait()

    first = threading.Thread(target=hold)
    first.start()
    holds.wait()
    waiting = threading.Thread(target=measurement)
    waiting.start()
    while not turns._waiting:
        time.sleep(0.001)
    late = threading.Thread(target=run)
    late.start()
    assert said == []
    may_end.set()
    for thread in (first, waiting, late):
        thread.join()
    assert said == ["measurement", "run"]


def test_no_batch_of_the_given_loaders_waits_for_the_device() -> None:
    """On the device that holds no values, where every copy from the host can be seen."""
    waited = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            options = kwargs or {}
            if "_to_copy" in str(function) and not options.get("non_blocking", False):
                waited.append(function)
            return function(*args, **options)

    images = Images(torch.randn(20, 1, 4, 4), torch.arange(20))
    batches = loader(images, batch_size=8, device=torch.device("meta"))
    with Watch():  # type: ignore[no-untyped-call]
        shapes = [(tuple(batch.images.shape), batch.images.is_meta) for batch in batches]
    assert shapes == [((8, 1, 4, 4), True), ((8, 1, 4, 4), True), ((4, 1, 4, 4), True)]
    assert waited == []


def test_what_is_on_the_device_already_is_not_copied() -> None:
    tensor = torch.ones(2)
    assert to_device(tensor, torch.device("cpu")) is tensor


# ---- another card -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_runs_made_on_another_card_are_made_again(
    fake: Callable[..., None], evaluate: Evaluate, submission: Submission
) -> None:
    file = submission(TRAINING)
    fake(name="first card")
    assert evaluate(file)["environment"]["gpu"] == "first card, driver 0"
    assert "0 made now, 2 stored" in evaluate(file)["output"]
    fake(name="second card")
    again = evaluate(file)
    assert "2 made now, 0 stored" in again["output"]
    assert again["environment"]["gpu"] == "second card, driver 0"


@pytest.mark.long
def test_a_board_counts_only_runs_of_the_card_that_is_here(
    fake: Callable[..., None], harness: Harness, submission: Submission, tiny_file: Path, home: Path
) -> None:
    file = submission(TRAINING)

    def first_run_of(runs: int) -> int:
        result = harness("leaderboard", "run", file, "--track", tiny_file, "--runs", runs, "--device", "fake")
        assert result.exit_code == 0, result.output
        assert len(stored_runs(home, "fake")) == runs
        return stored_runs(home, "fake")[0].stat().st_mtime_ns

    fake(name="first card")
    made = first_run_of(2)
    file.write_text(TRAINING + "\n")  # a new entry of the same code
    assert first_run_of(3) == made
    fake(name="second card")
    file.write_text(TRAINING + "\n\n")
    made_again = first_run_of(4)
    assert made_again > made
    fake(name="third card")  # a score of other cards' runs does not count either
    file.write_text(TRAINING + "\n\n\n")
    assert first_run_of(4) > made_again
    shown = json.loads(harness("leaderboard", "show", "--track", tiny_file, "--format", "json").output)
    assert "OK" in [row["outcome"] for row in shown]


def test_a_plan_counts_gpus(fake: object, harness: Harness, tiny_file: Path) -> None:
    result = harness(
        "leaderboard", "plan", "--track", tiny_file, "--teams", 3, "--tries", 1, "--device", "fake", "--gpus", 2
    )
    assert "GPU hours" in result.output


# ---- preparing and calibrating ------------------------------------------------------------------------------------


UNLIMITED = "seconds = 2.0"


@pytest.fixture
def uncalibrated(tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny track with a limit that is measured, in an empty HARNESS_HOME."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own"))
    file = tmp_path / "short.toml"
    text = tiny_file.read_text().replace(UNLIMITED, "").replace('"tiny"', '"short"').replace("epochs = 8", "epochs = 2")
    file.write_text(text)
    return file


@pytest.mark.long
def test_a_track_is_prepared_and_calibrated_on_a_gpu_and_an_idle_run_is_timed(
    fake: Callable[..., None],
    harness: Harness,
    submission: Submission,
    uncalibrated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(cards=2)
    assert harness("prepare", uncalibrated, "--device", "fake", "--jobs", 2).exit_code == 0
    # What carries packages reaches the calibration, what changes how a GPU computes does not: runs have neither.
    seen = tmp_path / "seen"
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "sitecustomize.py").write_text(
        f"import os, sys\nif 'data_prep.timed_training' in sys.orig_argv:\n"
        f"    open({str(seen)!r}, 'a').write(str('NVIDIA_TF32_OVERRIDE' in os.environ))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    out = tmp_path / "short.json"
    call = ("evaluate", submission(f"{SIGNATURE} pass"), "--track", uncalibrated, "--runs", 1, "--device", "fake")
    result = harness(*call, "--time-limit", 20, "--json", out)
    assert result.exit_code == 0, result.output
    assert seen.read_text() == "False"  # one process, all samples
    seconds = json.loads(out.read_text())["seconds"]
    assert 0 < seconds["floor"] < seconds["limit"]
    calibration = json.loads(next((tmp_path / "own" / "calibration").glob("short-*.json")).read_text())
    assert calibration["gpu"] == "fake GPU, driver 0"
    assert len(calibration["samples"]) == 3

    stored = next((tmp_path / "own" / "calibration").glob("floor-*.json"))
    write_sealed(stored, {"median": seconds["limit"] / 4})
    assert "25% of the limit" in harness(*call, "--time-limit", 20).output


def test_a_training_without_memory_says_so_in_a_sentence_and_keeps_what_is_done(
    fake: object, harness: Harness, uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", short_of_memory)
        result = harness("prepare", uncalibrated, "--device", "fake", "--jobs", 1)
    assert result.exit_code == 4
    assert "fewer at once (--jobs)" in result.output
    assert "Traceback" not in result.output
    assert harness("prepare", uncalibrated, "--device", "fake", "--jobs", 1).exit_code == 0


@pytest.mark.long
def test_a_training_that_fails_before_it_is_timed_is_said_whatever_the_others_do(tiny: Track, tmp_path: Path) -> None:
    gone = dataclasses.replace(tiny, folder=tmp_path / "gone")
    for _ in range(2):
        with pytest.raises(MachineError, match="a training to calibrate the time limit failed"):
            _time_trainings(gone, "cpu", threads=1, jobs=3)


@pytest.mark.parametrize(
    ("n", "seconds_per_example", "expected"),
    [
        (480, 1e-5, (480, 120)),  # all of it
        (480, 1e-2, (480, 1)),  # some epochs
        (50_000, 1e-5, (50_000, 14)),
        (50_000, 1e-2, (640, 1)),  # a part of one
        (50_000, 10.0, (128, 1)),
    ],
)
def test_no_sample_takes_longer_than_it_may_unless_one_step_does(
    n: int, seconds_per_example: float, expected: tuple[int, int]
) -> None:
    recipe = Training(epochs=120, batch_size=128, learning_rate=0.1)
    assert part_of_training(n, recipe, 7.0, seconds_per_example=seconds_per_example) == expected


def test_the_fake_is_no_choice_for_anybody_else(
    harness: Harness, submission: Submission, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FAKE_VARIABLE, raising=False)
    result = harness("evaluate", submission(TRAINING), "--track", tiny_file, "--device", "fake")
    assert result.exit_code == 2
    assert "'auto', 'cpu', 'cuda'" in result.output
    assert FAKE_VARIABLE not in os.environ


# ---- on a real one ------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_nothing_of_the_harness_stays_on_a_gpu_after_a_measurement(tiny_file: Path, prepared_tracks: Path) -> None:
    from harness.tracks.track import load_track

    track = load_track(prepared_tracks / "tiny")
    recorder = Recorder(track, "cuda")
    recorder.record(track.original(0))
    taken = torch.cuda.memory_allocated()  # by libraries, for good
    recorder.record(track.original(1))
    assert torch.cuda.memory_allocated() == taken
    assert not any(inputs.is_cuda for inputs in recorder.inputs.values())


@pytest.mark.gpu
def test_no_batch_of_the_given_loaders_waits_for_a_gpu() -> None:
    images = Images(torch.randn(200, 1, 8, 8), torch.arange(200) % 10)
    batches = loader(images, batch_size=16, device=torch.device("cuda"))
    next(iter(batches))
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert sum(len(batch.labels) for batch in batches) == 200
    finally:
        torch.cuda.set_sync_debug_mode("default")
