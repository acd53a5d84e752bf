"""Preparation through the command line: whole or not there, resumed, locked, repeatable, growing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from harness.cli import cli
from harness.track import Track, load_track

Harness = Callable[..., Result]


@pytest.fixture
def own_home(tmp_path: Path, tiny: Track, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HARNESS_HOME with a copy of the tiny track, to be changed."""
    shutil.copytree(tiny.folder, tmp_path / "home" / "tracks" / "tiny")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="harness")


def test_a_prepared_track_holds_what_the_declaration_asks_for(tiny: Track) -> None:
    assert [len(tiny.examples(name)) for name in ("retain", "forget", "val", "test")] == [100, 20, 80, 1797 - 200]
    assert len(tiny.originals()) == 2
    for pool in ("scoring", "ceiling"):
        records = tiny.retrained(pool)
        assert len(set(records.weights_sha256)) == 16
        assert records.forget_logits.shape == (16, 20, 10)
    assert tiny.originals().accuracy_on("forget").mean() > tiny.retrained("scoring").accuracy_on("forget").mean()
    assert not set(tiny.retrained("scoring").weights_sha256) & set(tiny.retrained("ceiling").weights_sha256)


def test_a_ready_track_is_not_prepared_again(own_home: Path, tiny_file: Path) -> None:
    before = (own_home / "tracks" / "tiny" / "manifest.json").stat().st_mtime_ns
    result = call("prepare", tiny_file)
    assert result.exit_code == 0
    assert "16 retrained models in each pool" in result.output
    assert (own_home / "tracks" / "tiny" / "manifest.json").stat().st_mtime_ns == before


def test_force_prepares_anew_and_reports_no_drift_on_the_same_machine(own_home: Path, tiny_file: Path) -> None:
    result = call("prepare", tiny_file, "--force")
    assert result.exit_code == 0, result.output
    assert "32 of 32 retrained models have the same weights as before" in result.output


def test_more_models_are_added_and_the_old_stay(own_home: Path, tiny_file: Path) -> None:
    old = load_track(own_home / "tracks" / "tiny")
    before = old.retrained("scoring").weights_sha256
    public_hash, reference_hash = old.manifest.public_hash, old.manifest.reference_hash
    result = call("prepare", tiny_file, "--retrained", 18)
    assert result.exit_code == 0, result.output
    grown = load_track(own_home / "tracks" / "tiny")
    after = grown.retrained("scoring").weights_sha256
    assert (len(after), len(set(after))) == (18, 18)
    assert np.array_equal(after[:16], before)
    assert grown.manifest.retrained == 18
    assert grown.manifest.public_hash == public_hash  # so that runs made before still count
    assert grown.manifest.reference_hash != reference_hash


def test_an_interrupted_preparation_goes_on_and_ends_the_same(tiny: Track, tiny_file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "harness", "prepare", str(tiny_file), "--jobs", "1"]
    environment = os.environ | {"HARNESS_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    parts = home / "tracks" / ".tiny.partial" / "parts"
    deadline = time.monotonic() + 60
    try:
        while not (parts.is_dir() and list(parts.glob("[a-z]*.npz"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (home / "tracks" / "tiny").exists()
    finished = {path: path.stat().st_mtime_ns for path in parts.glob("[a-z]*.npz")}
    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
    again = load_track(home / "tracks" / "tiny")
    assert finished
    for pool in ("scoring", "ceiling"):
        ours, theirs = again.retrained(pool), tiny.retrained(pool)
        assert np.allclose(ours.forget_logits, theirs.forget_logits, atol=1e-2)  # other stacks, other rounding


def test_a_second_preparation_at_the_same_time_is_refused(own_home: Path, tiny_file: Path) -> None:
    with FileLock(own_home / "tracks" / ".tiny.lock"):
        result = call("prepare", tiny_file, "--force")
    assert result.exit_code == 2
    assert "another process is preparing" in result.output


def test_export_and_import_move_a_whole_track(own_home: Path, tiny_file: Path, tmp_path: Path) -> None:
    result = call("prepare", tiny_file, "--export-private", tmp_path / "whole.track", "--export", tmp_path / "p.track")
    assert result.exit_code == 0, result.output
    manifest = (own_home / "tracks" / "tiny" / "manifest.json").read_text()
    shutil.rmtree(own_home / "tracks")
    assert call("prepare", "tiny", "--import", tmp_path / "whole.track").exit_code == 0
    assert json.loads((own_home / "tracks" / "tiny" / "manifest.json").read_text()) == json.loads(manifest)
    nonsense = tmp_path / "nonsense.track"
    nonsense.write_text("no track")
    assert call("prepare", "tiny", "--import", nonsense).exit_code == 2
