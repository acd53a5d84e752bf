"""The transfer study on a few random images, its criteria on invented results, and what its command refuses."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import transfer
from benchmarks.source_models import Pictures, Protocol, draw, features, untrained, worth
from benchmarks.transfer import (
    FASTER,
    METHODS,
    PUBLISHED,
    REMOVED,
    SHARE,
    claims,
    halves,
    least_share,
    main,
    result_name,
    study,
)

NAMES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PROTOCOL = Protocol(images=4, probe_images=4, probes=2, epochs=16, width=2, seeds=1, influence_models=2)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Twelve images of each class to train on and two to test, darker or brighter by class."""
    labels = torch.arange(10).repeat(14)
    noise = torch.randn(140, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Pictures(noise + labels[:, None, None, None] / 3, labels, 120, NAMES)


def test_a_study_compares_within_seeds_and_goes_on_from_what_is_kept(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = study(pictures, PROTOCOL, tmp_path)
    steps = {(one["seed"], one["method"], one["removed"], one["share"]): one.get("steps") for one in found["models"]}
    for k in REMOVED:
        assert steps[0, "retrained", k, 1] == 2 * steps[0, PUBLISHED, k, SHARE] == 16
        assert all((0, method, k, SHARE) in steps for method in METHODS)
    assert len(found["removed"]) == 3
    assert not {"cat", "dog"} & {*found["removed"], *found["influences"]}
    monkeypatch.setattr(transfer, "trained", None)
    assert study(pictures, PROTOCOL, tmp_path) == found


def test_a_probe_leaves_weights_and_buffers_as_they_are(pictures: Pictures) -> None:
    drawn = draw(pictures, PROTOCOL, 0)
    net = untrained(PROTOCOL, drawn, 0).train()
    before = copy.deepcopy(net.state_dict())
    assert 0 <= worth(net, pictures, PROTOCOL, drawn).accuracy <= 100
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert features(net, pictures.inputs[:5]).shape == (5, 8)


def test_a_draw_takes_training_images_once_and_none_of_the_target_for_the_source(pictures: Pictures) -> None:
    drawn = draw(pictures, PROTOCOL, 3)
    rows = np.concatenate([*drawn.source.values(), drawn.target.ravel()])
    assert len(set(rows)) == len(rows) == 8 * 4 + 2 * 4
    assert rows.max() < pictures.n_train
    assert set(pictures.labels[drawn.target.ravel()].tolist()) == {3, 5}
    assert sorted(pictures.labels[drawn.target[0]].tolist()) == [3, 3, 5, 5]


def test_every_class_is_in_half_of_the_models_of_the_influences() -> None:
    found = halves(range(8), 10)
    assert all(sum(label in classes for classes in found) == 5 for label in range(8))


@pytest.mark.parametrize(
    ("gap", "gain", "verdict", "share"),
    [(0.2, 5, "holds", 0.0625), (-3, 5, "refuted", None), (0.9, 5, "undecided", None), (0.2, 0, "undecided", 0.0625)],
)
def test_equality_is_decided_by_the_margin_where_sources_are_worth_something(
    gap: float, gain: float, verdict: str, share: float | None
) -> None:
    found = invented(gap, gain)
    validity, published, faster = claims(found)
    assert (published.verdict, faster.verdict) == (verdict, verdict)
    assert validity.verdict == ("holds" if gain else "refuted")
    assert least_share(found, PUBLISHED) == share


def invented(gap: float, gain: float) -> dict[str, Any]:
    """Return models of which l1-sparse ones are more accurate than retrained ones by the gap, some by less or more."""
    rows = []
    for seed in range(10):
        base, noise = 60 + seed / 5, (-1) ** seed / 4
        cells = [("original", 0, 1.0, base), ("untrained", 0, 0.0, base - gain)]
        for k in REMOVED:
            cells.append(("retrained", k, 1.0, base))
            cells += [(PUBLISHED, k, share, base + gap + noise) for share in transfer.SHARES]
            cells.append((FASTER, k, SHARE, base + gap + noise))
        names = ("method", "removed", "share", "accuracy")
        rows += [{"seed": seed, **dict(zip(names, one, strict=True))} for one in cells]
    return {"models": rows}


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of "CIFAR-10": two images of each class in either half."""
    folder = tmp_path_factory.mktemp("cifar10")
    images, labels = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 10
    for half in ("train", "test"):
        np.savez(folder / f"{half}.npz", images=images, labels=labels, class_names=np.array(NAMES))
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "--remove truck --remove cat --remove ship",
            "cat is the target and cannot be removed from the source; name one",
        ),
        ("--remove truck --remove ship", "name 3 different classes to remove, or none"),
        ("--remove truck --remove ship --remove ship", "name 3 different classes to remove, or none"),
        ("--remove truck --remove ship --remove lorry", "there is no class 'lorry'; name one of plane, car"),
        ("--target cat cat", "the target takes two different classes"),
        ("--remove truck --remove ship --remove frog", "there are 2 images of plane, and 400 are needed"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(
    arguments: str, said: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(main, ["--data", str(data), *arguments.split()])
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "home").exists()


def test_a_folder_without_the_data_is_a_usage_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--data", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds neither CIFAR10 as torchvision stores it nor train.npz and test.npz" in " ".join(done.output.split())


def test_a_result_of_other_classes_does_not_replace_that_of_the_page() -> None:
    assert result_name(Protocol()) == "transfer"
    assert result_name(Protocol(target=("truck", "car"))) == "transfer-truck-car"
    assert result_name(Protocol(removed=("frog", "ship"))) == "transfer-cat-dog-less-frog-less-ship"
