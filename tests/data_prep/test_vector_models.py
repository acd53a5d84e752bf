"""Models of vectors: linear, mlp, and forests, which are scikit-learn's as arrays and are fitted at once."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from sklearn.datasets import load_digits

from data_prep.draft import lay_out
from data_prep.forests import as_weights, fit_forest, fit_forests
from data_prep.reference import plan_stacks, train_models
from data_prep.training import initial_net, train, train_stack, training_set
from data_prep.ways import Way, largest_stack, timed_way
from harness import models
from harness.models import Forest
from harness.runs.calibration import calibrate
from harness.runs.measure import build_model
from harness.tracks.declaration import Training, read_declaration
from harness.tracks.track import ORIGINALS, Track, load_track
from harness.tracks.tuning_track import tuning_declaration, write_tuning_source

Harness = Callable[..., Result]

DECLARED = """
name = "vectors"
title = "a model of vectors"

[data]
source = "sklearn:breast_cancer"
mean = [0.5]
std = [0.29]

[split]
train = 120
val = 40

[forget]
kind = "random"
count = 12

[model]
{model}

[training]
{training}

[reference]
originals = 2
retrained = 4

[limits]
seconds = 20

[evaluation]
runs = 2
"""
BY_STEPS = "epochs = 4\nbatch_size = 30\nlearning_rate = 0.05"
MODELS = {
    "linear": ('name = "linear"', BY_STEPS),
    "features": ('name = "linear"\nfeatures = 40', BY_STEPS),
    "mlp": ('name = "mlp"\nhidden = [8, 4]', BY_STEPS),
    "forest": ('name = "forest"\ntrees = 5\ndepth = 3', "batch_size = 30"),
}


def declared(folder: Path, model: str, training: str = BY_STEPS) -> Path:
    """Write a declaration, and return its file."""
    file = folder / "vectors.toml"
    file.write_text(DECLARED.format(model=model, training=training))
    return file


def draft_of(folder: Path, kind: str) -> Track:
    """Return the draft of a track with one of the MODELS."""
    file = declared(folder, *MODELS[kind])
    return lay_out(read_declaration(file), file, folder / "draft", cache=folder)


# ---- what they compute ----------------------------------------------------------------------------------------------


def test_a_linear_model_has_one_layer_and_the_same_features_in_every_net() -> None:
    build = partial(models.build, "linear", n_classes=3, channels=1)
    plain = initial_net(lambda: build(options={"inputs": 6}), 0)
    assert {name: tuple(value.shape) for name, value in plain.named_parameters()} == {
        "fc.weight": (3, 6),
        "fc.bias": (3,),
    }
    one, other = (initial_net(lambda: build(options={"inputs": 6, "features": 50}), seed) for seed in (0, 1))
    assert isinstance(one, models.Linear)
    assert isinstance(other, models.Linear)
    assert torch.equal(one.frequencies, other.frequencies)
    assert torch.equal(one.phases, other.phases)
    assert not torch.equal(one.fc.weight, other.fc.weight)
    assert one(torch.randn(2, 1, 3, 2)).shape == (2, 3)


def test_the_random_features_stand_for_a_gaussian_kernel() -> None:
    net = models.Linear(n_classes=1, inputs=10, features=20_000)
    net.fc = torch.nn.Identity()  # type: ignore[assignment]
    values = torch.randn(2, 10, generator=torch.Generator().manual_seed(1))
    features = net(values)
    kernel = torch.exp(-(values[0] - values[1]).square().sum() / 10 / 2)
    assert features[0] @ features[1] == pytest.approx(kernel.item(), abs=0.03)


@pytest.mark.parametrize(("depth", "left_out"), [(2, None), (8, None), (8, 3)])
def test_a_forest_as_arrays_predicts_what_scikit_learns_does(depth: int, left_out: int | None) -> None:
    digits = load_digits()
    chosen = np.flatnonzero(digits.target != left_out)[:400]
    images = torch.tensor(digits.images[:, None] / 16 - 0.3, dtype=torch.float32)
    net = Forest(n_classes=10, inputs=64, trees=12, depth=depth)
    forest = fit_forest(net, images[chosen], torch.tensor(digits.target[chosen]), seed=7)
    assert sum(tree.tree_.node_count for tree in forest.estimators_) > 12 * 2**depth / 8  # not a stump each
    net.load_state_dict(as_weights(forest, net))
    expected = np.zeros((len(images), 10))
    expected[:, forest.classes_] = forest.predict_proba(images.flatten(1).numpy())
    found = net(images).exp() - 1e-6
    assert np.allclose(found, expected, atol=2e-6)
    assert torch.isfinite(net(images)).all()


def test_values_that_are_next_to_each_other_go_to_the_same_sides_as_in_scikit_learn() -> None:
    values = [np.float32(1)]
    for _ in range(40):
        values.append(np.nextafter(values[-1], np.float32(2)))
    images, labels = torch.tensor(values)[:, None], torch.arange(41) // 3 % 2
    net = Forest(n_classes=2, inputs=1, trees=8, depth=6)
    forest = fit_forest(net, images, labels, seed=0)
    net.load_state_dict(as_weights(forest, net))
    assert np.allclose(net(images).exp(), forest.predict_proba(images.numpy()), atol=2e-6)


def test_a_forest_depends_on_its_seed_alone() -> None:
    images, labels = torch.randn(60, 1, 3, 2), torch.arange(60) % 3
    build = partial(models.build, "forest", n_classes=3, channels=1, options={"inputs": 6, "trees": 4, "depth": 3})
    first = fit_forests(build, images, labels, [5, 6])
    np.random.default_rng()
    torch.manual_seed(9)
    again = fit_forests(build, images, labels, [6, 5 + 2**40])
    assert all(torch.equal(first[1][name], again[0][name]) for name in first[1])
    assert not torch.equal(first[0]["feature"], first[1]["feature"])


def test_a_new_forest_finds_all_classes_as_likely_and_odd_numbers_are_no_error() -> None:
    net = Forest(n_classes=4, inputs=6, trees=3, depth=2)
    images = torch.randn(5, 1, 3, 2)
    assert torch.allclose(net(images).exp(), torch.full((5, 4), 0.25), atol=1e-5)
    net.value[:] = 0.25
    for odd in (1e30, -1e30, 6.4, -7.2, float("nan"), float("inf")):
        net.feature[:] = odd
        assert torch.isfinite(net(images)).all()


# ---- how they are trained -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "features", "mlp"])
def test_models_trained_by_steps_are_stacked(kind: str, tmp_path: Path) -> None:
    track = draft_of(tmp_path, kind)
    assert largest_stack(track) == 32
    build, some = partial(build_model, track), training_set(track, ("retain",))
    recipe = Training(epochs=2, batch_size=30, learning_rate=0.05)
    for seed, weights in zip((0, 1), train_stack(build, *some, recipe, seeds=(0, 1)), strict=True):
        for name, value in train(build, *some, recipe, seed=seed).state_dict().items():
            assert torch.allclose(weights[name], value, atol=1e-5)


def test_forests_are_fitted_one_at_a_time_on_what_their_kind_of_model_is_to_see(tmp_path: Path) -> None:
    track = draft_of(tmp_path, "forest")
    way = timed_way(track, 1, "cpu")
    assert way == Way(1)
    stacks = plan_stacks(track, 1, present={}, way=way)
    assert [len(stack.seeds) for stack in stacks] == [1] * 10
    sets = {kind: training_set(track, names) for kind, names in (("retain", ["retain"]), ("all", ["retain", "forget"]))}
    for stack in (stacks[0], next(stack for stack in stacks if stack.kind == ORIGINALS)):
        some = sets["all" if stack.kind == ORIGINALS else "retain"]
        (expected,) = fit_forests(partial(build_model, track), *some, stack.seeds)
        (found,) = train_models(track, stack)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", ["forest", "mlp"])
def test_the_tuning_track_has_the_same_model(kind: str, tmp_path: Path) -> None:
    draft = draft_of(tmp_path, kind)
    track = replace(draft, manifest=draft.manifest.model_copy(update={"public_hash": "ab" * 32}))
    (folder := tmp_path / "tuning").mkdir()
    file = write_tuning_source(track, folder)
    assert read_declaration(file) == tuning_declaration(track)
    tuning = lay_out(read_declaration(file), file, folder / "draft", cache=folder)
    assert tuning.model_options == track.model_options
    assert tuning.examples("retain").images.shape[1:] == (30, 1, 1)


# ---- through the command line ---------------------------------------------------------------------------------------

FINE_TUNING = """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for images, labels in retain_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
"""
EMPTY_TREES = """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    images, labels = next(iter(forget_loader))
    assert net(images).exp().sum(1).allclose(torch.ones(len(labels)), atol=1e-3)
    net.feature[0] = -1
    net.value[0, 0] = torch.tensor([0.4, 0.6])
    return net
"""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("forest", marks=pytest.mark.long),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("linear", "features", "mlp")),
    ],
)
def test_a_track_is_prepared_grown_estimated_and_submissions_are_evaluated_on_it(
    kind: str, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "own-home"
    monkeypatch.setenv("HARNESS_HOME", str(home))
    file = declared(tmp_path, *MODELS[kind])
    assert harness("prepare", file, "--jobs", 1).exit_code == 0
    assert harness("prepare", file, "--retrained", 5, "--jobs", 1).exit_code == 0
    estimated = harness("prepare", file, "--estimate", "--jobs", 1)
    assert estimated.exit_code == 0, estimated.output
    assert ("epochs within it" in estimated.output) == (kind != "forest")
    track = load_track(home / "tracks" / "vectors")
    assert len(track.retrained("ceiling")) == 5
    assert "a table of 30 columns" in (page := (track.folder / "track.html").read_text())
    assert {"mlp": "mlp; hidden 8, 4", "forest": "forest; trees 5; depth 3"}.get(kind, "linear") in page
    submission = tmp_path / "foo.py"
    submission.write_text(EMPTY_TREES if kind == "forest" else FINE_TUNING)
    result = harness("evaluate", submission, "--track", file, "--runs", 2)
    assert result.exit_code == 0, result.output
    assert calibrate(track, home, device="cpu", threads=1, jobs=1).training_seconds > 0


@pytest.mark.parametrize(
    ("model", "training", "problem"),
    [
        ('name = "mlp"', BY_STEPS, "model: 'mlp' needs hidden = ..."),
        ('name = "mlp"\nhidden = []', BY_STEPS, "model: 'mlp' needs hidden = ..."),
        ('name = "mlp"\nhidden = [8, 0]', BY_STEPS, "model.hidden.1: Input should be greater than 0"),
        ('name = "mlp"\nhidden = [8]\ntrees = 3', BY_STEPS, "model: 'mlp' takes no trees; only forest does"),
        ('name = "linear"\nhidden = [8]', BY_STEPS, "model: 'linear' takes no hidden; only mlp does"),
        ('name = "small_resnet"\nfeatures = 8', BY_STEPS, "model: 'small_resnet' takes no features; only linear does"),
        ('name = "linear"\nwidth = 8', BY_STEPS, "model: 'linear' takes no width; only small_resnet does"),
        ('name = "net.py:build"\nwidth = 8', BY_STEPS, "model: 'net.py:build' takes no width; only small_resnet does"),
        ('name = "net.py:build"\nhidden = [8]', BY_STEPS, "model: 'net.py:build' takes no hidden; only mlp does"),
        ('name = "forest"\ntrees = 3', "batch_size = 8", "model: 'forest' needs depth = ..."),
        ('name = "forest"\ntrees = 3\ndepth = 40', "batch_size = 8", "model.depth: Input should be less than or equal"),
        (MODELS["forest"][0], BY_STEPS, "a forest is fitted by scikit-learn at once; the section has batch_size alone"),
        (MODELS["linear"][0], "batch_size = 8", "training.epochs: Field required"),
        (MODELS["linear"][0], f"{BY_STEPS}\naugment = true", "training.augment crops and flips images"),
        (
            f"{MODELS['forest'][0]}\n[pruning]\nmethod = 'omp'\nsparsity = 0.5\nrewind_epoch = 0",
            "batch_size = 8",
            "the model has no convolutions",
        ),
    ],
)
def test_a_wrong_key_is_a_usage_error(
    model: str, training: str, problem: str, harness: Harness, tmp_path: Path
) -> None:
    result = harness("prepare", declared(tmp_path, model, training))
    assert result.exit_code == 2
    assert problem in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_forest_needs_a_limit_in_seconds(harness: Harness, tmp_path: Path) -> None:
    file = declared(tmp_path, *MODELS["forest"])
    file.write_text(file.read_text().replace("seconds = 20", "threads = 1"))
    result = harness("prepare", file)
    assert result.exit_code == 2
    assert "limits.seconds: a forest is fitted faster than a process starts" in " ".join(result.output.split())


def test_what_other_tracks_say_to_a_run_and_are_named_by_is_as_it_was(tiny: Track) -> None:
    assert tiny.declaration.model.model_dump() == {"name": "small_resnet", "width": 4}
    assert not {"label", "categorical"} & tiny.declaration.data.model_dump().keys()
    assert "inputs" not in tiny.manifest.model_dump()
    assert '"options"' not in (tiny.public / "task.json").read_text()
