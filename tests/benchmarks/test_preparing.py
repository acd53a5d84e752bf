"""A study prepares the tracks that it needs, and takes those that are there."""

from pathlib import Path

import click
import pytest

from benchmarks.preparing import track_for, tuning_track_for


@pytest.mark.long
def test_a_track_is_prepared_once_and_so_is_the_one_for_tuning(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    file = tmp_path / "quick.toml"
    file.write_text(tiny_file.read_text().replace('"tiny"', '"quick"').replace("epochs = 8", "epochs = 1"))
    track = track_for(file, retrained=2)
    tuning = tuning_track_for(track, retrained=2)
    assert (track.name, track.manifest.retrained, tuning.manifest.retrained) == ("quick", 2, 2)
    monkeypatch.setattr("benchmarks.preparing.cli", None)
    assert track_for(file, retrained=4).manifest.retrained == 2
    assert tuning_track_for(track, retrained=4).folder == tuning.folder


def test_a_track_that_is_not_known_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    with pytest.raises(click.UsageError, match="no track 'cifar10-smal'"):
        track_for("cifar10-smal", retrained=2)
