"""What a competition takes: every figure follows from what is stored here, and says where it comes from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from harness.runs import conditions
from harness.runs.run import Limit
from harness.seal import read_sealed_arrays, write_sealed_arrays
from harness.tracks.track import Track

Harness = Callable[..., Result]
IDENTITY = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"


def test_before_any_run_the_limit_is_all_that_is_known_and_the_plan_says_so(
    harness: Harness, tiny_file: Path, tmp_path: Path
) -> None:
    found = planned(harness, tiny_file, tmp_path, "--runs", 64, "--gpus", 4)
    assert found["submissions"]["value"] == 200
    assert found["runs"]["value"] == 200 * 66
    hours = found["CPU worker hours, at most"]
    assert hours["value"] == pytest.approx(200 * 66 * 2.0 / 3600)
    assert "assumed" in hours["origin"]
    assert "not known yet" in hours["origin"]
    assert found["days, at most"]["value"] == pytest.approx(hours["value"] / 24 / 4)
    assert "CPU worker hours" not in found
    assert "computed" in found["disk"]["origin"]


def test_stored_runs_say_what_later_ones_take(
    harness: Harness, submission: Callable[[str], Path], home: Path, tiny_file: Path, tmp_path: Path
) -> None:
    fast, slow = submission(IDENTITY), submission(f"COUNT = 1\n{IDENTITY}")
    for file in (fast, slow):
        assert harness("leaderboard", "run", file, "--track", tiny_file, "--runs", 2).exit_code == 0
    checked = submission(f"COUNT = 2\n{IDENTITY}")
    assert harness("check", checked, "--track", tiny_file).exit_code == 0
    computed = planned(harness, tiny_file, tmp_path, "--runs", 8)["disk"]["value"]
    folders = sorted({path.parent for path in home.glob("results/*/*/run-*.npz")})
    for folder, seconds in zip(folders, (0.5, 1.5, 1.0), strict=True):
        runs = list(folder.glob("run-*.npz"))
        around = 0.25 if len(runs) > 1 else 6.0  # the run of a check waits for imports
        for path in runs:
            arrays, _ = read_sealed_arrays(path)
            info = json.loads(str(arrays["info"])) | {"seconds": seconds, "whole_seconds": seconds + around}
            write_sealed_arrays(path, arrays | {"info": np.array(json.dumps(info))})
    found = planned(harness, tiny_file, tmp_path, "--runs", 8)
    assert found["mean time of a run"]["value"] == pytest.approx(1.0)
    assert "5 stored runs of 3 submissions" in found["mean time of a run"]["origin"]
    assert found["CPU worker hours"]["value"] == pytest.approx(200 * 8 * 1.25 / 3600)
    assert found["CPU worker hours, at most"]["value"] == pytest.approx(200 * 8 * 2.25 / 3600)
    assert found["disk"]["value"] == pytest.approx(computed, rel=0.05)
    assert "measured" in found["disk"]["origin"]


def test_the_size_of_a_run_is_known_before_there_is_one(
    harness: Harness, submission: Callable[[str], Path], tiny_file: Path, tmp_path: Path
) -> None:
    before = planned(harness, tiny_file, tmp_path, "--runs", 8)["disk"]["value"]
    assert harness("evaluate", submission(IDENTITY), "--track", tiny_file, "--runs", 1).exit_code == 0
    assert planned(harness, tiny_file, tmp_path, "--runs", 8)["disk"]["value"] == pytest.approx(before, rel=0.1)


def test_a_plan_ends_with_the_keys_that_a_final_changes_and_commands(
    harness: Harness, tiny_file: Path, tmp_path: Path
) -> None:
    command = ("leaderboard", "plan", "--teams", 10, "--tries", 20, "--track")
    keys = ("data.source", "split.seed", "reference.published_secret")
    output = harness(*command, tiny_file).output
    assert all(f"\n    {key} " in output for key in keys)
    assert "forget.forget_sets" not in output
    assert "\n  harness prepare final-track.toml\n" in output


def test_as_many_trainings_are_timed_at_once_as_there_will_be_runs(
    harness: Harness, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed, limit_here = [], conditions._limit
    monkeypatch.setattr("harness.accelerator.usable_processors", lambda: 4.0)

    def limit(track: Track, home: Path, device: str, jobs: int, *others: Any) -> Limit:
        timed.append(jobs)
        return limit_here(track, home, device, jobs, *others)

    monkeypatch.setattr(conditions, "_limit", limit)
    for options in ((), ("--gpus", 1), ("--gpus", 64)):
        planned(harness, tiny_file, tmp_path, "--runs", 2, "--device", "cpu", *options)
    assert timed == [4, 1, 4]


def planned(harness: Harness, tiny_file: Path, tmp_path: Path, *options: object) -> dict[str, dict[str, Any]]:
    """Return the figures of a plan for 10 teams with 20 tries each, by name."""
    out = tmp_path / "plan.json"
    command = ("leaderboard", "plan", "--track", tiny_file, "--teams", 10, "--tries", 20)
    result = harness(*command, *options, "--json", out)
    assert result.exit_code == 0, result.output
    figures = {figure["name"]: figure for figure in json.loads(out.read_text())}
    assert all(name in result.output for name in figures)
    return figures
