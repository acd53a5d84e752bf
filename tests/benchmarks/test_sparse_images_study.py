"""The study of sparsity on images: verdicts on made-up seeds, and a seed with few images and epochs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.sparse_images import __main__ as command
from benchmarks.sparse_images import methods, tuning
from benchmarks.sparse_images.__main__ import Study
from benchmarks.sparse_images.claims import CLAIMS, Rows, findings
from benchmarks.sparse_images.methods import METHODS, SCHEDULES, SETTINGS, arms_of, constants_of, unlearned
from benchmarks.sparse_images.models import Models
from benchmarks.sparse_images.page import all_tables, figure, verdict_table
from benchmarks.sparse_images.protocol import CELLS, PAPER, SMALL, SPARSE, Cell, drawn
from data_prep.pruning import convolutions
from data_prep.sources.dataset import Dataset
from harness.report.style import svg
from harness.storage import read_json
from harness.tracks.declaration import Training
from harness.tracks.track import Examples


def made_up(*, sign: float, noise: float = 0.2) -> Rows:
    """Return rows of five seeds in which all that the paper says is so (sign 1), or the contrary (-1), up to noise."""
    generator = np.random.default_rng(0)

    def metrics(ua: float, *, privacy: float = 60.0, ta: float = 45.0) -> dict[str, float]:
        shares = {"ua": ua, "mia_efficacy": ua, "ra": 100.0, "ta": ta, "mia_privacy": privacy}
        return {name: value + generator.normal(0, noise) for name, value in shares.items()} | {"seconds": 1.0}

    def models(cell: Cell) -> dict[str, dict[str, float]]:
        privacy = 70 - sign * 10 * cell.sparsity
        far = 20 - sign * 5 * (cell.sparsity == SPARSE)  # from the retrained model, in UA and MIA-Efficacy
        by_pruner = {"omp": 0.0, "synflow": -2 * sign, "imp": -6 * sign}
        found = {"original": metrics(22.5 - 22.5 * sign, privacy=privacy), "retrained": metrics(50, privacy=privacy)}
        if cell == CELLS[0]:
            found["retrained again"] = metrics(50, privacy=privacy)
        apart = {"constant": 0.0, "growing": 0.0, "decaying": 8 * sign}
        for name in arms_of(cell):
            nearer = apart[name.rpartition(" ")[2]] if name in SCHEDULES else by_pruner[cell.pruner]
            ours = metrics(50 - far + nearer, privacy=privacy - 5 * sign)
            found |= {f"{name}, {setting}": ours for setting in SETTINGS}
        return found

    return [
        {
            "seed": seed,
            "scenario": cell.scenario,
            "pruner": cell.pruner,
            "sparsity": cell.sparsity,
            "models": models(cell),
        }
        for seed in range(5)
        for cell in CELLS
    ]


def result(rows: Rows) -> dict[str, Any]:
    """Return what is stored of rows."""
    tried = [{"method": name, "value": 1.0, "disparities": [2.0]} for name in METHODS | SCHEDULES]
    scenario = {"chosen": dict.fromkeys(METHODS | SCHEDULES, 1.0), "trials": tried}
    about = {"seeds": 5, "pixels": "JPEG pixels", "device": "cpu", "machine": "a machine", "torch": "3"}
    return {**about, "rows": rows, "tuning": {"random": scenario, "class": scenario}, **findings(rows)}


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "refuted")])
def test_verdicts_follow_the_seeds(sign: float, verdict: str) -> None:
    found = findings(made_up(sign=sign))
    assert [one["verdict"] for one in found["claims"]] == [verdict] * 2 * len(CLAIMS)
    assert found["claims"][0]["claim"].endswith("retraining, at the paper's settings")
    assert "less constant" in found["claims"][0]["found"]
    assert min(cell["level"] for cell in found["tested"]["tuned"]["table 3, class"]["cells"].values()) >= 0.95


def test_nothing_is_said_of_nets_that_pruning_has_spoilt() -> None:
    rows = made_up(sign=1)
    for row in rows:
        row["models"]["original"]["ta"] -= 10 * (row["sparsity"] == SPARSE)
    found = result(rows)
    assert {one["verdict"] for one in found["claims"]} == {"undecided"}
    assert "nothing is tested" in verdict_table(found)


def test_tables_have_the_papers_figures_and_say_what_the_pixels_are() -> None:
    found = result(made_up(sign=1))
    verdicts, tables = verdict_table(found), all_tables(found)
    assert "FT 25.78 to 11.50, GA 7.12 to 6.41, FF 5.32 to 1.98, IU 5.41 to 1.10" in verdicts
    assert "disparity 1.56; constant 3.33, growing 3.16" in verdicts
    for text in (verdicts, tables):
        assert text.endswith("\n")
        assert "N = 5 seeds, 95 % t-intervals; CIFAR-10 at 16x16, JPEG pixels, " in text
    assert tables.count("\n| retrained |") == len(CELLS) + 1
    assert "**1: 2.0**" in tables
    assert svg(figure(found["rows"])).startswith(b"<?xml")


# ---- one seed ------------------------------------------------------------------------------------------------------

TINY = replace(
    SMALL, train=8, test=6, recipe=Training(epochs=2, batch_size=16, learning_rate=0.1), rewind_epoch=1, imp_rounds=2
)


@pytest.fixture
def source() -> Dataset:
    """Noise in ten classes."""
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3)).astype(np.uint8)
    return Dataset(Examples(images, np.arange(200) % 10), n_test=80)


def test_a_seed_draws_every_class_alike_and_forgets_a_tenth_or_a_class(source: Dataset) -> None:
    images = drawn(source, TINY, 3)
    random, of_class = images.sets("random"), images.sets("class")
    assert (len(images.all), len(random.retain), len(random.forget), len(random.test)) == (80, 72, 8, 60)
    assert (len(of_class.retain), len(of_class.forget), len(of_class.test)) == (72, 8, 54)
    assert of_class.forget.labels.unique().tolist() == [0]
    assert 0 not in torch.cat([of_class.retain.labels, of_class.test.labels])
    assert not torch.equal(random.forget.inputs, drawn(source, TINY, 4).sets("random").forget.inputs)


def test_every_method_keeps_the_mask_and_changes_what_is_left(source: Dataset, tmp_path: Path) -> None:
    models = Models(drawn(source, TINY, 0), TINY, 0, tmp_path, "cpu")
    sets = models.images.sets("random")
    originals = {pruner: models.original(Cell("random", pruner, 0.9)) for pruner in ("omp", "synflow", "imp")}
    names = convolutions(models.build())
    zeros = {pruner: sum(int((one[name] == 0).sum()) for name in names) for pruner, one in originals.items()}
    count = sum(originals["omp"][name].numel() for name in names)
    assert set(zeros.values()) == {round(0.9 * count)}
    for name, method in METHODS.items():
        constants = constants_of(name, method.values[1], None) | ({"EPOCHS": 1} if name in ("FT", "GA") else {})
        ours = unlearned(models, originals["omp"], sets, name, constants)[0].state_dict()
        assert ours.keys() == originals["omp"].keys()
        for layer in names:
            assert torch.equal(ours[layer] == 0, originals["omp"][layer] == 0), (name, layer)
        assert any(not torch.equal(ours[layer], originals["omp"][layer]) for layer in names), name


def test_a_study_is_tuned_and_goes_on_where_it_was(
    source: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = (CELLS[0], Cell("class", "omp", 0.0))
    monkeypatch.setattr(command, "CELLS", dense)
    short = {"FT": {"EPOCHS": 1}, "GA": {}, "l1-sparse, decaying": {"EPOCHS": 1}}
    arms = METHODS | SCHEDULES
    few = {name: replace(arms[name], constants=arms[name].constants | more) for name, more in short.items()}
    for module in (methods, tuning):
        monkeypatch.setattr(module, "METHODS", {name: few[name] for name in ("FT", "GA")})
        monkeypatch.setattr(module, "SCHEDULES", {name: few[name] for name in few if name in SCHEDULES})
    study = Study(source, TINY, tmp_path, "cpu")
    tuned = study.tuning()
    assert set(tuned["random"]["chosen"]) == set(few)
    assert [len(one["disparities"]) for one in tuned["class"]["trials"]] == [2] * 8 + [1] * 4
    chosen = {scenario: found["chosen"] for scenario, found in tuned.items()}
    study.measure(0, chosen)
    found = [read_json(study.file(0, cell)) for cell in dense]
    of_settings = {f"{name}, {setting}" for name in few for setting in SETTINGS}
    assert set(found[0]["models"]) == {"original", "retrained", "retrained again"} | of_settings
    assert found[1]["models"]["retrained"]["ua"] == 100
    study.file(0, dense[1]).unlink()
    study.measure(0, {scenario: one["chosen"] for scenario, one in study.tuning().items()})
    again = [read_json(study.file(0, cell)) for cell in dense]
    assert again[0] == found[0]
    assert all(again[1]["models"][name]["ua"] == one["ua"] for name, one in found[1]["models"].items())


def test_the_papers_size_is_that_of_its_track() -> None:
    assert (10 * PAPER.train, PAPER.recipe.epochs, PAPER.recipe.batch_size) == (45_000, 182, 256)
    assert 1 - 0.05 ** (1 / PAPER.imp_rounds) == pytest.approx(0.2, abs=0.01)
