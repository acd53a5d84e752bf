"""The trojan study: verdicts on made-up seeds, and one sparsity of one seed with few images and epochs."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from benchmarks.trojan import models
from benchmarks.trojan.__main__ import cells, measure
from benchmarks.trojan.claims import METHODS, SPARSITIES, Rows, findings
from benchmarks.trojan.models import ARMS, drawn
from benchmarks.trojan.page import all_tables, verdict_tables
from data_prep.sources.dataset import Dataset
from harness.storage import read_json
from harness.tracks.track import Examples


def made_up(*, before: float = 95, after: float = 20, slope: float = 0, lost: float = 0, noise: float = 0.2) -> Rows:
    """Return rows of five seeds in which all methods do the same, up to noise."""
    generator = np.random.default_rng(0)

    def rates(asr: float, sa: float) -> dict[str, float]:
        return {"asr": asr + generator.normal(0, noise), "sa": sa + generator.normal(0, noise)}

    return [
        {
            "seed": seed,
            "sparsity": sparsity,
            "models": {
                "before": rates(before, 43),
                "retrained": rates(5, 43),
                **{arm: rates(after + slope * sparsity, 43 - lost) for arm in ARMS},
            },
        }
        for seed in range(5)
        for sparsity in SPARSITIES
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (made_up(slope=-10), ("holds", "holds", "holds")),
        (made_up(slope=10, lost=5), ("holds", "refuted", "refuted")),
        (made_up(after=99), ("refuted", "holds", "undecided")),
        (made_up(after=94.9, lost=2), ("undecided", "undecided", "undecided")),
    ],
    ids=["the paper", "the opposite", "worse", "no difference"],
)
def test_verdicts_follow_the_seeds(rows: Rows, expected: tuple[str, str, str]) -> None:
    found = findings(rows)
    claims = found["tested"]
    for method in METHODS:
        assert tuple(claim["verdict"] for claim in claims[method].values()) == expected
    assert [one["verdict"] for one in found["claims"]] == [*expected, *expected]
    assert len(claims["l1-sparse"]["falls"]["cells"]) == 20
    assert min(cell["level"] for cell in claims["l1-sparse"]["falls"]["cells"]) >= 0.95


def test_a_cell_below_the_gate_stops_all_tests() -> None:
    rows = made_up()
    for row in rows:
        row["models"]["before"]["asr"] -= 20 * (row["sparsity"] == 0.9)
    found = findings(rows)
    assert (found["gate"]["passed"], found["claims"]) == (False, [])
    text = verdict_tables({**found, "cells": rows, "seeds": 5, "pixels": "", "machine": "a machine", "torch": "3"})
    assert "the trigger is too weak, and nothing is tested" in text


def test_every_table_says_what_the_pixels_are() -> None:
    rows = made_up()
    found = {**findings(rows), "cells": rows, "seeds": 5, "pixels": "JPEG pixels", "machine": "a machine", "torch": "3"}
    for text in (verdict_tables(found), all_tables(found)):
        assert text.endswith("\n")
        assert "N = 5 seeds, 95 % t-intervals; CIFAR-10 at 16x16, JPEG pixels, " in text
    assert all(all_tables(found).count(f"| {arm} |") >= 5 for arm in ARMS)


# ---- one seed ------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Noise in ten classes, and a study of it that takes a second."""
    monkeypatch.setattr(models, "TRAIN", 8)
    monkeypatch.setattr(models, "TEST", 4)
    monkeypatch.setattr(models, "EPOCHS", 1)
    monkeypatch.setattr(models, "REWIND_EPOCH", 1)
    monkeypatch.setattr(models, "RECIPE", models.RECIPE.model_copy(update={"epochs": 2, "batch_size": 16}))
    images = np.random.default_rng(0).integers(1, 256, (200, 16, 16, 3)).astype(np.uint8)
    return Dataset(Examples(images, np.arange(200) % 10), n_test=80)


def test_a_seed_draws_every_class_alike_and_poisons_a_tenth(data: Dataset) -> None:
    images = drawn(data, 3)
    assert len(images.train) == 80
    assert len(images.retain) == 72
    black = (images.train.images[:, 13:15, 13:15] == 0).all(axis=(1, 2, 3))
    assert black.sum() == 8
    assert (images.train.labels[black] == 0).all()
    assert (images.retain.images > 0).all()
    assert np.array_equal(np.bincount(images.test.labels), [4] * 10)
    assert len(images.triggered) == 36
    assert (images.triggered.images[:, 13:15, 13:15] == 0).all()
    assert not np.array_equal(images.test.images, drawn(data, 4).test.images)


def test_a_seed_is_measured_once_and_goes_on_where_it_was(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.trojan.__main__.SPARSITIES", (0.0, 0.9))
    measure(data, 0, tmp_path)
    files = cells(0, tmp_path)
    found = {sparsity: read_json(file) for sparsity, file in files.items()}
    assert list(found) == [0.0, 0.9]
    assert set(found[0.9]["models"]) == {"before", "retrained", *ARMS}
    assert (tmp_path / "seed-0-dense.safetensors").is_file()
    files[0.9].unlink()
    dense = load_file(tmp_path / "seed-0-dense.safetensors")
    measure(data, 0, tmp_path)
    assert read_json(files[0.9])["models"] == found[0.9]["models"]
    assert read_json(files[0.0]) == found[0.0]
    again = load_file(tmp_path / "seed-0-dense.safetensors")
    assert all(bool((value == again[name]).all()) for name, value in dense.items())
