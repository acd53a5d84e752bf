"""A track on one page: what is forgotten, how many there are, and whether it can tell methods apart."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.evaluation.reference import Reference, load_reference
from harness.report.sections import picture
from harness.report.track_page import track_page, write_track_page
from harness.tracks.track import Track, load_track


@pytest.fixture(scope="module")
def reference(tiny: Track, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return load_reference(tiny, 16, tmp_path_factory.mktemp("reference"))


def changed(track: Track, **manifest: Any) -> Track:
    return Track(track.folder, track.declaration, track.manifest.model_copy(update=manifest))


def test_the_page_shows_the_sets_the_models_and_the_verdict(tiny: Track, reference: Reference) -> None:
    page = track_page(tiny, reference).html
    assert "retain 100, forget 20, val 80, test 1597" in page
    assert "2 originals, 16 retrained in each of two pools" in page
    assert "doing nothing gets" in page
    assert "retraining gets" in page
    assert "This track can" in page
    assert page.count("data:image/svg+xml;base64,") == 3  # examples, accuracies, the scale
    for name, label in (("retain", 0), ("test", 9)):
        assert f"<td>{(tiny.examples(name).labels == label).sum()}</td>" in page


def test_the_page_needs_nothing_beside_itself_and_escapes_what_others_wrote(tiny: Track, reference: Reference) -> None:
    names = [f"<b>{label}</b>" for label in range(9)] + ["\u732b $x$ " * 5]
    page = track_page(changed(tiny, class_names=names), reference).html
    assert "&lt;b&gt;8&lt;/b&gt;" in page
    assert "<b>8</b>" not in page
    assert not [address for address in ("http:", "https:", "<script", 'src="/') if address in page]


def test_few_runs_tell_nothing(tiny: Track, tmp_path: Path) -> None:
    page = track_page(tiny, load_reference(tiny, 2, tmp_path)).html
    assert "its submissions have 2 runs, and it takes 16" in page
    assert "unknown" in page


@pytest.mark.parametrize("scale", [255.0, 1.0])
def test_images_of_bytes_are_shown_whether_or_not_they_are_divided_by_a_scale(scale: float) -> None:
    image = np.array([0, 51, 102, 255], np.uint8).reshape(2, 2, 1)
    shown = picture(image, scale)
    assert shown is not None
    assert shown.tolist() == [[0.0, 0.2], [0.4, 1.0]]


def test_images_of_many_channels_are_not_shown_and_many_classes_are_cut_short(
    tiny: Track, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = Track.examples

    def of_two_channels(track: Track, name: str) -> Any:
        found = examples(track, name)
        return type(found)(found.images.repeat(2, axis=3), found.labels)

    monkeypatch.setattr(Track, "examples", of_two_channels)
    page = track_page(changed(tiny, n_classes=40), reference).html
    assert "8 x 8 pixels, 2 channels" in page
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "The first 30 of 40 classes are listed." in page


def test_the_page_lies_in_the_track_and_does_not_count_as_a_part_of_it(
    tiny: Track, reference: Reference, tmp_path: Path
) -> None:
    track = load_track(shutil.copytree(tiny.folder, tmp_path / "tiny"))
    page = track_page(track, reference)
    file = write_track_page(track, page)
    assert page.verdict.startswith("This track can")
    assert file == tmp_path / "tiny" / "track.html"
    assert load_track(track.folder).manifest == track.manifest
