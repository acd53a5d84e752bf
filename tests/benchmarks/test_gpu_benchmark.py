"""The benchmark of a machine with a GPU: steps end as they may, none stops the next, all end in time; the page."""

import dataclasses
import importlib
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import layers, page, small_track, steps
from benchmarks.gpu.__main__ import STEPS, main
from benchmarks.gpu.programs import TESTED
from benchmarks.gpu.steps import FAILED, LEFT_OUT, OK, OVER, RESERVE, Ended, Step, Task, run_steps
from harness.runner.isolation import offered
from harness.runner.sandbox.plan import NAMESPACE_LEVELS
from harness.tracks.declaration import read_declaration

PLENTY = 600.0  # seconds: no test here takes as long, however busy the machine


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """What all steps are given."""
    return Task(device="cuda", home=str(tmp_path / "home"), lines=str(tmp_path / "lines"))


def run(steps: list[Step], task: Task, *, seconds: float = PLENTY) -> dict[str, Ended]:
    """Run steps, and return how they ended, by name."""
    ended = list(run_steps(steps, task, Path(task.lines).with_name("log"), seconds=seconds))
    assert [one.name for one in ended] == [step.name for step in steps]
    return {one.name: one for one in ended}


def a_step(function: str, **fields: Any) -> Step:
    return Step(function, f"tests.benchmarks.gpu_steps:{function}", **{"share": 100, "least": 0} | fields)


# ---- the runner ---------------------------------------------------------------------------------------------------


def test_whatever_becomes_of_a_step_its_lines_are_there_and_the_next_one_is_run(task: Task) -> None:
    names = ["raises", "prints_garbage", "is_killed", "is_left_out", "fine"]
    ended = run([a_step(name) for name in names], task)
    assert {name: one.status for name, one in ended.items()} == {
        "raises": FAILED,
        "prints_garbage": OK,
        "is_killed": FAILED,
        "is_left_out": LEFT_OUT,
        "fine": OK,
    }
    assert ended["raises"].reason == "ValueError: the driver is asleep"
    assert ended["is_killed"].reason == "ended by signal 9"
    assert ended["is_left_out"].reason == "there is no snow"
    assert all(ended[name].rows == [{"value": 1}] for name in names if name != "is_left_out")


def test_a_step_that_hangs_is_killed_with_its_children(task: Task) -> None:
    ended = run([a_step("hangs", share=1), a_step("fine", share=99)], task)  # six seconds for the first
    assert ended["hangs"].status == OVER
    assert ended["hangs"].reason == "killed after 6 s"
    assert ended["fine"].status == OK
    child = Path(f"/proc/{ended['hangs'].rows[0]['child']}/stat")
    deadline = time.monotonic() + PLENTY
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_steps_that_all_hang_end_in_time(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "RESERVE", 57.0)  # three seconds for all of them
    hanging = [dataclasses.replace(a_step("hangs"), name=str(index)) for index in range(6)]
    started = time.monotonic()
    ended = run(hanging, task, seconds=60)
    assert time.monotonic() - started < 60
    assert {one.status for one in ended.values()} == {OVER}


def test_a_step_for_which_too_little_time_is_left_is_left_out_and_says_so(task: Task) -> None:
    ended = run([a_step("fine", least=30)], task, seconds=RESERVE + 20)
    assert ended["fine"].status == LEFT_OUT
    assert "s were left for it" in (ended["fine"].reason or "")


def test_a_step_that_takes_a_gpu_takes_no_time_without_one(task: Task) -> None:
    ended = run([a_step("fine"), a_step("raises", takes_gpu=True)], dataclasses.replace(task, device="cpu"))
    assert ended["raises"].reason == "it takes a GPU"
    assert ended["fine"].limit > 0.9 * (PLENTY - RESERVE)


# ---- the real steps -----------------------------------------------------------------------------------------------


def test_every_step_has_its_function() -> None:
    for step in STEPS:
        module, _, name = step.function.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("first", [0, 1])
def test_any_real_step_may_fail_or_hang(task: Task, first: int) -> None:
    bad = [("hangs", OVER), ("raises", FAILED)]
    replaced, expected = [], {}
    for index, step in enumerate(STEPS):  # every second one hangs, those between fail; then the other way round
        function, status = bad[(index + first) % 2]
        share = 0.5 if function == "hangs" else step.share
        replaced.append(
            dataclasses.replace(step, function=f"tests.benchmarks.gpu_steps:{function}", share=share, least=0)
        )
        expected[step.name] = status
    ended = run([*replaced, a_step("fine", share=1000)], task)
    assert {name: one.status for name, one in ended.items()} == {**expected, "fine": OK}


def test_the_command_writes_what_is_known_when_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "STEPS", (a_step("fine"), a_step("interrupts"), a_step("raises")))
    done = call("--device", "cpu", "--minutes", "10", "--out", str(tmp_path))
    assert done.exit_code == 130, done.output
    found = json.loads((tmp_path / "gpu-cpu-dry-run.json").read_text())["steps"]
    assert found["fine"]["status"] == OK
    assert (found["interrupts"]["reason"], found["interrupts"]["rows"]) == ("interrupted", [{"value": 1}])
    assert found["raises"]["status"] == LEFT_OUT


def test_a_result_has_the_name_of_its_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = dataclasses.replace(a_step("is_a_card"), name="machine")
    monkeypatch.setattr(command, "STEPS", (machine, a_step("raises")))
    done = call("--minutes", "10", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "gpu-nvidia-h200.json").read_text())
    assert result["card"] == "NVIDIA H200"
    assert result["steps"]["raises"]["reason"] == "ValueError: the driver is asleep"


def test_the_command_ends_at_once_where_there_is_no_time(tmp_path: Path) -> None:
    done = call("--device", "cpu", "--minutes", "0.1", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "gpu-cpu-dry-run.json").read_text())["steps"]
    assert {step["status"] for step in found.values()} == {LEFT_OUT}


@pytest.mark.slow
def test_a_dry_run_on_a_cpu_ends_in_time_and_every_step_says_how(tmp_path: Path) -> None:
    started = time.monotonic()
    done = call("--device", "cpu", "--minutes", "3", "--out", str(tmp_path))
    assert time.monotonic() - started < 180
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "gpu-cpu-dry-run.json").read_text())
    assert list(result["steps"]) == [step.name for step in STEPS]
    for name, step in result["steps"].items():
        assert step["status"] == OK or (step["status"] in (OVER, LEFT_OUT) and step["reason"]), (name, step)
    assert "CPU, dry run" in page.section([result])


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


# ---- what is measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_small_track_is_a_declaration(device: str, tmp_path: Path) -> None:
    declaration = read_declaration(small_track.declared(device, tmp_path))
    assert declaration.name == small_track.NAMES[device]
    assert declaration.limits.seconds == small_track.LIMIT_SECONDS


@pytest.mark.skipif(offered().strongest not in NAMESPACE_LEVELS, reason="no level with namespaces here")
def test_every_set_of_layers_can_be_entered(task: Task) -> None:
    step = next(step for step in STEPS if step.name == "layers")
    ended = run([step], dataclasses.replace(task, device="cpu"))["layers"]
    rows = {row["layers"]: row for row in ended.rows if "layers" in row}
    assert list(rows) == list(layers.VARIANTS)
    assert rows["no layer"]["works"]
    assert not [row for row in rows.values() if row["reason"].startswith("set-up")]


def test_drawn_images_are_told_apart_by_their_patterns() -> None:
    first, second = small_track.drawn(200), small_track.drawn(100)
    means = np.stack([first["images"][first["labels"] == label].mean(axis=0) for label in range(10)])
    distance = np.abs(second["images"][:, None].astype(float) - means).mean(axis=(2, 3, 4))
    assert (distance.argmin(axis=1) == second["labels"]).all()


def test_packed_images_are_unpacked(tmp_path: Path) -> None:
    images, blobs = np.zeros((3, 32, 32, 3), np.uint8), []
    images[1] = 255
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG")
        blobs.append(np.frombuffer(file.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, blobs)])
    np.savez(tmp_path / "packed.npz", train_jpeg=np.concatenate(blobs), train_offsets=offsets, train_labels=[3, 1, 2])
    found = small_track.unpacked(tmp_path / "packed.npz", "train")
    assert found["labels"].tolist() == [3, 1, 2]
    assert np.abs(found["images"].astype(int) - images).max() < 3


@pytest.mark.parametrize(
    ("line", "name", "outcome", "rest"),
    [
        ("tests/test_a.py::test_b PASSED      [ 11%]", "tests/test_a.py::test_b", "PASSED", "     [ 11%]"),
        ("tests/test_a.py::test_b[x y] FAILED [ 2%]", "tests/test_a.py::test_b[x y]", "FAILED", "[ 2%]"),
        ("tests/test_a.py::test_b SKIPPED (no copy) [100%]", "tests/test_a.py::test_b", "SKIPPED", "(no copy) [100%]"),
    ],
)
def test_lines_of_pytest_are_read(line: str, name: str, outcome: str, rest: str) -> None:
    found = TESTED.match(line)
    assert found is not None
    assert found.groups() == (name, outcome, rest)


# ---- the page -----------------------------------------------------------------------------------------------------


def test_the_page_is_as_the_stored_results_make_it(tmp_path: Path) -> None:
    copy = tmp_path / "gpu.md"
    copy.write_text(page.PAGE.read_text())
    page.write_page(copy)
    assert copy.read_text() == page.PAGE.read_text()


def test_a_result_is_a_row_of_the_page() -> None:
    assert page.section([]) == page.NONE_YET
    text = page.section([made_up()])
    assert text.count("\n") == 3
    for cell in (
        "NVIDIA H200, driver 580.1",
        "`full`",
        "0.30 s in 8 runs, 1.2% of a limit of 25.0 s",
        "20,000 eager, 90,000 as prepared, 200,000 by 8 processes",
        "480 of 4 epochs on synthetic images",
        "600 with 1 at once, 900 with 2 at once",
        "tests: 2 of 9 tests failed",
    ):
        assert cell in text, cell


def test_a_result_without_any_figure_is_a_row_too() -> None:
    result = made_up()
    result["steps"] = {name: {"status": OVER, "reason": "killed", "rows": []} for name in result["steps"]}
    assert "identity: killed" in page.section([result | {"card": None}])
    result["steps"]["identity"]["rows"] = [{"outcome": "HARNESS_ERROR"}]
    assert "none starts" in page.section([result])


def made_up() -> dict[str, Any]:
    rate = {"net": "resnet18", "batch": 128}
    rows: dict[str, list[dict[str, Any]]] = {
        "tests": [],
        "throughput": [
            {"way": "eager", **rate, "images_per_second": 20_000},
            {"way": "eager", "net": "resnet18_cifar", "batch": 256, "images_per_second": 10_000},
            {"way": "eager", "net": "resnet18", "batch": 512, "images_per_second": 30_000},
            {"way": "as prepared", **rate, "images_per_second": 90_000},
            {"way": "as prepared", "net": "resnet18", "batch": 512, "failed": "OutOfMemoryError"},
        ],
        "processes": [{"processes": n, **rate, "images_per_second": n * 25_000} for n in (1, 8)],
        "prepare": [{"images": "synthetic", "epochs": 4}, {"models_per_hour": 480.2}],
        "identity": [
            {"outcome": "HARNESS_ERROR", "level": "full"},
            {"outcome": "OK", "level": "full", "runs": 8, "seconds": {"mean": 0.3}},
        ],
        "runs per hour": [{"at_once": n, "runs_per_hour": rate} for n, rate in ((1, 600.0), (2, 900.0))],
        "calibration": [{"declared_limit_seconds": 25.0}],
    }
    done = {name: {"status": OK, "reason": None, "rows": found} for name, found in rows.items()}
    done["tests"] = {"status": FAILED, "reason": "2 of 9 tests failed", "rows": []}
    versions = {"torch": "2.11.0", "cuda": "13.0", "harness": "0.1.0"}
    return {"card": "NVIDIA H200", "driver": "580.1", "date": "2026-05-01", **versions, "steps": done}
