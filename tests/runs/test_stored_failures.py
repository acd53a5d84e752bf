"""A failure that is stored counts as long as nothing has changed that it may be due to, and whoever sees it is told."""

import shutil
import site
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.environment import packages_hash
from harness.runner.isolation import Isolation, offered, stronger
from harness.runs import conditions
from harness.runs.conditions import conditions_here
from harness.runs.stage import Stage
from harness.runs.store import Results
from harness.submission import read_submission
from harness.tracks.track import Track

STORED = "this failure was stored on 20"
BROKEN = "submissions/cy/broken.py"
Changes = dict[str, Any]


@pytest.fixture
def evaluated(evaluated_home: Path, home: Path) -> Path:
    """A HARNESS_HOME of its own with 16 runs of some submissions, one of which fails."""
    for name in ("results", "submissions"):
        shutil.copytree(evaluated_home / name, home / name)
    return home


@pytest.fixture
def call(evaluated: Path, harness: Callable[..., Result], tiny_file: Path) -> Any:
    """The command line on the tiny track in that home: what it says."""

    def called(*arguments: object, exit_code: int) -> str:
        result = harness(*arguments, "--track", tiny_file)
        assert result.exit_code == exit_code, result.output
        return result.output

    return called


def install_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "packages_hash", lambda: "with another package")


def test_a_stored_failure_is_said_to_be_one_and_run_again_where_asked(call: Any, evaluated: Path) -> None:
    said = call("evaluate", evaluated / BROKEN, "--runs", 16, exit_code=3)
    assert f"{STORED}" in said
    assert f"run it again: harness evaluate {evaluated / BROKEN} --track tiny --again" in said
    for command in (("evaluate", "--runs", 16), ("check",)):
        name, *options = command
        assert STORED not in call(name, evaluated / BROKEN, *options, "--again", exit_code=3)
    assert STORED in call("check", evaluated / BROKEN, exit_code=3)
    assert "give one of them" in call("evaluate", evaluated / BROKEN, "--again", "--rescore", exit_code=2)


def test_a_board_that_takes_over_a_stored_failure_is_verified(call: Any, evaluated: Path, tmp_path: Path) -> None:
    said = call("leaderboard", "run", evaluated / BROKEN, "--runs", 16, exit_code=0)
    assert "were stored before" in said
    call("leaderboard", "verify", "--publish", tmp_path / "opening.json", exit_code=0)
    assert "difference" not in call("leaderboard", "verify", tmp_path / "opening.json", exit_code=0)


def test_a_failure_is_made_again_once_a_package_was_installed(
    call: Any, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_a_package(monkeypatch)
    assert STORED not in call("evaluate", evaluated / BROKEN, "--runs", 16, exit_code=3)
    assert STORED in call("evaluate", evaluated / BROKEN, "--runs", 16, exit_code=3)
    assert STORED in call("evaluate", evaluated / BROKEN, "--runs", 16, "--rescore", exit_code=3)


def test_packages_have_another_hash_once_one_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(tmp_path), str(tmp_path / "absent")])
    found = []
    for name in ("numpy", "__pycache__", "numpy-2.0.dist-info", "numpy-2.1.dist-info"):
        (tmp_path / name).mkdir()
        found.append(packages_hash())
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_runs_that_are_ok_are_never_thrown_again(call: Any, evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_a_package(monkeypatch)
    said = call("evaluate", evaluated / "submissions/bob/noise.py", "--runs", 16, "--again", exit_code=0)
    assert "0 made now, 16 stored before" in said


def test_runs_that_are_ok_are_made_again_once_the_track_allows_something_else(
    evaluated: Path, harness: Callable[..., Result], prepared_tracks: Path
) -> None:
    (evaluated / "tracks").unlink()
    shutil.copytree(prepared_tracks, evaluated / "tracks")
    stored = ("evaluate", evaluated / "submissions/bob/noise.py", "--track", "tiny", "--runs", 2, "--rescore")
    assert harness(*stored).exit_code == 0
    declared = evaluated / "tracks" / "tiny" / "track.toml"
    declared.write_text(declared.read_text().replace("seconds = 2.0", "seconds = 2.0\nmemory_mb = 4000"))
    result = harness(*stored)
    assert (result.exit_code, "2 of 2 runs of" in result.output) == (2, True), result.output


def test_a_board_makes_a_failure_again_and_its_team_has_its_slot_only_once(
    call: Any, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ("leaderboard", "run", evaluated / "submissions/cy", "--runs", 16, "--max-per-day", 1)
    said = "the failures of cy/broken.py were stored before; --again makes them again"
    assert said in call(*batch, exit_code=0)
    assert said not in call(*batch, "--again", exit_code=0)
    install_a_package(monkeypatch)
    again = call(*batch, exit_code=0)
    assert said not in again
    assert "waits" not in again
    assert said in call(*batch, exit_code=0)


@pytest.mark.parametrize("change", [{"memory_mb": 1}, {"processes": 7}, {"scratch_mb": 7}, {"seconds": 7.0}])
def test_a_failure_depends_on_what_the_track_allows(change: Changes, tiny: Track, tmp_path: Path) -> None:
    def dependencies(track: Track, level: str = "none") -> str:
        return conditions_here(track, tmp_path, device="cpu", isolation=Isolation(level, {}), jobs=1).dependencies

    limits = tiny.declaration.limits.model_copy(update=change)
    changed = replace(tiny, declaration=tiny.declaration.model_copy(update={"limits": limits}))
    assert dependencies(tiny) == dependencies(tiny)
    assert len({dependencies(tiny), dependencies(changed), dependencies(tiny, "full")}) == 3


@pytest.mark.skipif(offered().strongest == "none", reason="needs two levels")
def test_the_level_of_stored_runs_is_said_and_a_stronger_one_by_name_makes_them_again(
    call: Any, evaluated: Path, tiny: Track
) -> None:
    noise = evaluated / "submissions/bob/noise.py"
    stored = call("evaluate", noise, "--runs", 16, "--isolation", "none", exit_code=0)
    assert "0 made now, 16 stored before" in stored
    assert "of the stored runs; new ones would be made at none" in " ".join(stored.split())
    results = Results.of(evaluated, tiny, read_submission(noise, source_kb=256), "cpu")
    for run in results.runs(range(2)).values():
        results.save_run(replace(run, info=replace(run.info, isolation="none")))
    for level, made in (("none", 0), (offered().strongest, 2), ("none", 0)):
        assert f"{made} made now" in call("evaluate", noise, "--runs", 2, "--isolation", level, exit_code=0)
    for run in results.runs(range(2), stage=Stage.SWAPPED).values():
        results.save_run(replace(run, info=replace(run.info, isolation="none")), stage=Stage.SWAPPED)
    strict = ("evaluate", noise, "--runs", 16, "--rescore", "--require-isolation", offered().strongest)
    assert "2 of 2 runs with other examples to forget of" in call(*strict, exit_code=2)


def test_a_level_asked_for_by_its_name_is_one_that_stored_runs_must_have() -> None:
    assert stronger("auto", None) is None
    assert (stronger("full", None), stronger("auto", "userns"), stronger("none", None)) == ("full", "userns", "none")
    assert (stronger("syscall", "full"), stronger("full", "syscall")) == ("full", "full")
