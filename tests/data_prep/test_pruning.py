"""Pruned originals: as sparse as declared within one weight, trained under a mask that holds; retrained ones too."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from data_prep import pruning
from data_prep.prepare import prepare
from data_prep.pruning import convolutions, magnitude_mask, mask_of, synflow_mask, train_pruned
from data_prep.reference import Stack, train_models
from data_prep.training import Trainer, Weights, train_stack
from harness import models
from harness.errors import UsageError
from harness.tracks.declaration import Pruning, Training, read_declaration

RECIPE = Training(epochs=3, batch_size=8, learning_rate=0.05)


def build() -> nn.Module:
    return models.build("small_resnet", n_classes=3, channels=1, width=2)


IMAGES = torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) % 3


def zeros(weights: Weights) -> int:
    return sum(int((weights[name] == 0).sum()) for name in convolutions(build()))


def n_weights() -> int:
    return sum(net_weight.numel() for name, net_weight in build().state_dict().items() if name in convolutions(build()))


def test_only_convolutions_are_pruned() -> None:
    names = convolutions(build())
    assert "conv1.weight" in names
    assert "layer2.downsample.0.weight" in names
    assert not any("bn" in name or "fc" in name for name in names)


@pytest.mark.parametrize("sparsity", [0.5, 0.95, 0.999])
def test_a_magnitude_mask_prunes_the_smallest_of_all_layers_together(sparsity: float) -> None:
    weights = build().state_dict()
    mask = magnitude_mask(weights, convolutions(build()), sparsity)
    assert abs(sum(int((part == 0).sum()) for part in mask.values()) - sparsity * n_weights()) <= 0.5
    kept = min(float(weights[name].abs()[part > 0].min()) for name, part in mask.items() if part.any())
    gone = max(float(weights[name].abs()[part == 0].max()) for name, part in mask.items() if not part.all())
    assert gone <= kept


def test_synflow_needs_no_data_leaves_no_layer_empty_and_does_not_touch_the_net() -> None:
    net = models.build("small_resnet", n_classes=3, channels=1, width=8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    mask = synflow_mask(net, (1, 8, 8), 0.95)
    total = sum(part.numel() for part in mask.values())
    assert abs(sum(int((part == 0).sum()) for part in mask.values()) - 0.95 * total) <= 0.5
    assert all(part.any() for part in mask.values())
    by_magnitude = magnitude_mask(net.state_dict(), convolutions(net), 0.95)
    assert any(not torch.equal(mask[name], by_magnitude[name]) for name in mask)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def deep_net(n_layers: int) -> nn.Module:
    layers = [layer for _ in range(n_layers) for layer in (nn.Conv2d(24, 24, 3, padding=1), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(1, 24, 3), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 3))


def test_synflow_leaves_no_layer_of_a_deep_net_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "SYNFLOW_STEPS", 5)
    mask = synflow_mask(deep_net(60), (1, 6, 6), 0.9)
    assert {part.dtype for part in mask.values()} == {torch.float32}
    assert all(part.any() for part in mask.values())


class InFloat32(nn.Module):
    """A net that computes in float32 whatever it is given."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.net(images.float())
        return found


def test_a_net_whose_sums_are_beyond_all_numbers_is_refused() -> None:
    net = deep_net(10)
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1e30)
    with pytest.raises(UsageError, match='take method = "omp"'):
        synflow_mask(net, (1, 6, 6), 0.9)


def test_a_net_that_computes_in_float32_is_pruned_unless_it_is_too_deep_for_that() -> None:
    mask = synflow_mask(InFloat32(deep_net(3)), (1, 6, 6), 0.9)
    assert all(part.any() for part in mask.values())
    with pytest.raises(UsageError, match='take method = "omp"'):
        synflow_mask(InFloat32(deep_net(60)), (1, 6, 6), 0.9)


@pytest.mark.parametrize("method", ["omp", "synflow", "imp"])
def test_trained_originals_are_as_sparse_as_declared(method: str) -> None:
    declared = Pruning(method=method, sparsity=0.8, rewind_epoch=1)  # type: ignore[arg-type]
    epochs: list[None] = []
    trainer = Trainer(build, IMAGES, LABELS, RECIPE, n_models=2)
    trained = train_pruned(trainer, declared, seeds=[1, 2], on_epoch=lambda: epochs.append(None))
    for weights in trained:
        assert abs(zeros(weights) - 0.8 * n_weights()) <= 0.5
    assert any(not torch.equal(trained[0][name], trained[1][name]) for name in convolutions(build()))
    again = train_pruned(trainer, declared, seeds=[1, 2])
    assert all(torch.equal(again[0][name], value) for name, value in trained[0].items())
    assert len(epochs) >= pruning.n_trainings(declared) * (RECIPE.epochs - 1)


def test_a_mask_holds_through_a_training_whatever_the_optimizer() -> None:
    mask = magnitude_mask(build().state_dict(), convolutions(build()), 0.7)
    for optimizer in ("sgd", "adam"):
        recipe = RECIPE.model_copy(update={"optimizer": optimizer})
        (weights,) = train_stack(build, IMAGES, LABELS, recipe, seeds=[3], masks=[mask])
        found = mask_of(weights, build)
        assert all(torch.equal(found[name], part) for name, part in mask.items())


def test_a_pruned_track_has_sparse_originals_and_retrained_models_under_their_masks(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tiny_file.read_text().replace('name = "tiny"', 'name = "sparse"').replace("retrained = 16", "retrained = 4")
    text = text.replace("epochs = 8", "epochs = 2") + '[pruning]\nmethod = "omp"\nsparsity = 0.9\nrewind_epoch = 1\n'
    (tmp_path / "sparse.toml").write_text(text)
    file = tmp_path / "sparse.toml"
    progress: list[tuple[int, int]] = []
    track = prepare(
        read_declaration(file), file, tmp_path, jobs=1, on_progress=lambda *done: progress.append(done)
    ).track
    originals = [load_file(track.public / f"original-{index}.safetensors") for index in range(2)]
    names = [name for name in originals[0] if originals[0][name].ndim == 4]
    for weights in originals:
        pruned = sum(int((weights[name] == 0).sum()) for name in names)
        assert abs(pruned - 0.9 * sum(weights[name].numel() for name in names)) <= 0.5
    assert progress[-1][0] == progress[-1][1]
    stack = Stack("scoring", first=3, seeds=(7, 8))  # the fourth and the fifth of the pool
    retrained = train_models(track, stack)
    for weights, original in zip(retrained, (originals[1], originals[0]), strict=True):
        assert all(torch.equal(weights[name] != 0, original[name] != 0) for name in names)
