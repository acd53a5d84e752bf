"""The wheel is the product: installed into an empty environment it does from an empty folder what a checkout does."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Once

ROOT = Path(__file__).parents[2]
Installed = Callable[..., subprocess.CompletedProcess[str]]


def install(place: Path) -> None:
    """Build the wheel and install it alone into a new environment, which finds all else in that of the tests."""
    pip, environment, dist = [sys.executable, "-m", "pip", "--quiet"], place / "environment", place / "dist"
    source = place / "source"  # a copy: a build leaves files where it is made, which would be in the next one too
    for name in ("harness", "data_prep", "baselines", "submissions"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    scores = "benchmarks/results/baselines-digits.json"
    (source / scores).parent.mkdir(parents=True)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", scores):
        shutil.copyfile(ROOT / name, source / name)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(dist), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    (wheel,) = map(str, dist.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(packages), wheel], check=True, capture_output=True)
    # A checkout that is installed there is not seen: links are not followed from a folder that is merely named.
    (packages / "needs.pth").write_text(sysconfig.get_path("purelib"))


@pytest.fixture
def python(once: Once) -> Path:
    """The interpreter of the environment that has the wheel."""
    return once("wheel", install) / "environment" / "bin" / "python"


@pytest.fixture
def installed(python: Path, prepared_tracks: Path, tmp_path: Path) -> Installed:
    """Calls the installed command from an empty folder: installed("evaluate", ...), with the tiny track prepared."""
    folder = tmp_path / "empty"
    (folder / ".harness").mkdir(parents=True)
    (folder / ".harness" / "tracks").symlink_to(prepared_tracks)

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HARNESS_HOME")}
        command = [str(python), "-P", "-m", "harness", *map(str, arguments)]
        return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)

    return call


def test_it_is_the_installed_one_that_is_called(python: Path, installed: Installed) -> None:
    where = [str(python), "-P", "-c", "import data_prep, harness; print(data_prep.__file__, harness.__file__)"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(where, cwd=python.parent, env=clean, capture_output=True, text=True, check=True)
    found = ran.stdout.split()
    assert all(path.startswith(str(python.parents[1])) for path in found)
    said = installed("evaluate", "missing.py", "--track", "tiny")
    assert said.returncode == 2
    assert "start one: harness new missing.py" in said.stderr


@pytest.mark.long
def test_a_submission_is_started_and_evaluated_and_told_what_to_compare_it_with(
    installed: Installed, tmp_path: Path
) -> None:
    assert installed("new", "mine.py").returncode == 0
    assert installed("new", "mine.py").returncode == 2
    unknown = installed("new", "other.py", "--from", "nothing")
    assert unknown.returncode == 2
    assert "baselines are challenge_1st" in unknown.stderr
    out = tmp_path / "result.json"
    said = installed("evaluate", "mine.py", "--track", "tiny", "--runs", 2, "--isolation", "none", "--json", out)
    assert said.returncode == 0, said.stderr
    assert json.loads(out.read_text())["outcome"] == "OK"
    assert "to compare with fine-tuning" in said.stdout


@pytest.mark.long
def test_a_learner_comes_with_it_and_is_exact(installed: Installed) -> None:
    for name in ("sisa", "baselines/learners/sisa.py"):
        quick = ("--set", "EPOCHS=4", "--set", "SHARDS=2")
        said = installed("check", name, "--track", "tiny", "--isolation", "none", *quick)
        assert said.returncode == 0, said.stderr
        assert "exact 1/1" in said.stdout


@pytest.mark.long
def test_baselines_and_the_template_are_marked_on_a_board_and_not_ranked(installed: Installed, tmp_path: Path) -> None:
    folder = tmp_path / "submissions"
    assert installed("new", folder / "copied.py", "--from", "identity").returncode == 0
    for name in ("untouched", "own"):
        assert installed("new", folder / f"{name}.py").returncode == 0
    own = folder / "own.py"
    own.write_text(own.read_text().replace("EPOCHS = 4", "EPOCHS = 3"))
    options = ("--track", "tiny", "--runs", 16, "--isolation", "none")
    said = installed("leaderboard", "run", folder, *options)
    assert said.returncode == 0, said.stderr
    shown = json.loads(installed("leaderboard", "show", "--track", "tiny", "--format", "json").stdout)
    shown_as = {row["submission"]: (row["baseline"], row["rank"]) for row in shown}
    assert shown_as["copied.py"] == ("identity", None)
    assert shown_as["untouched.py"] == ("template", None)
    assert shown_as["own.py"] == (None, "1")


@pytest.mark.long
def test_the_metric_is_checked_with_the_shipped_baselines(installed: Installed) -> None:
    said = installed("leaderboard", "selfcheck", "--track", "tiny", "--runs", 16)
    assert "doing nothing is told from retraining" in said.stdout, said.stderr


def test_the_default_track_ships_prepared(installed: Installed) -> None:
    said = installed("leaderboard", "show")
    assert said.returncode == 2
    assert "there is no leaderboard of digits" in said.stderr
