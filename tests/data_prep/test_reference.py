"""What submissions are scored against: computed once for each number of runs, and read back the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.datasets import load_dataset
from harness.evaluation.reference import load_reference
from harness.scoring.uncertainty import standard_error
from harness.storage import write_arrays
from harness.tracks.track import Track


def test_a_reference_is_computed_once_and_read_back_the_same(tiny: Track, tmp_path: Path) -> None:
    first = load_reference(tiny, 16, tmp_path)
    (stored,) = tmp_path.glob("reference-16-*.json")
    written = stored.stat().st_mtime_ns
    second = load_reference(tiny, 16, tmp_path)
    assert stored.stat().st_mtime_ns == written
    assert (first.floor, first.null, first.ceiling.score) == (second.floor, second.null, second.ceiling.score)
    stored.write_text("{")
    assert load_reference(tiny, 16, tmp_path).floor == first.floor  # a damaged file is made again


def test_retrained_models_score_about_1_when_calibrated(tiny: Track, tmp_path: Path) -> None:
    reference = load_reference(tiny, 16, tmp_path)
    scored = reference.score(reference.ceiling_outputs)
    assert scored.halves is not None
    assert scored.calibrated == pytest.approx(1, abs=4 * standard_error(scored.halves.calibrated_score))


def test_subjects_give_an_error_of_their_own(tiny: Track, tmp_path: Path) -> None:
    reference = load_reference(tiny, 16, tmp_path)
    assert reference.score(reference.ceiling_outputs).error_over_subjects is None
    with_subjects = replace(reference, forget_subjects=np.repeat(np.arange(5), 4))
    error = with_subjects.score(reference.ceiling_outputs).error_over_subjects
    assert error is not None
    assert 0 < error < 0.5


def test_subjects_of_a_data_file_are_kept_with_their_examples(tmp_path: Path) -> None:
    images, labels = np.zeros((6, 4, 4, 1), np.uint8), np.arange(6) % 2
    write_arrays(tmp_path / "faces.npz", {"images": images, "labels": labels, "subjects": np.array(list("aabbcc"))})
    examples = load_dataset("faces.npz", folder=tmp_path, cache=tmp_path).examples
    chosen = examples[np.array([5, 0])]
    assert chosen.subjects is not None
    assert chosen.subjects.tolist() == ["c", "a"]
    assert set(chosen.arrays()) == {"images", "labels", "subjects"}
