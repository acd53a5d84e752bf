"""The eight recipes of 2023, step by step beside plain rewritings of what their authors published.

A recipe runs from its defaults on colour images in batches of 64, in float64. Its rewriting is given the recorded
batches and the values that were drawn at random, and nothing else: before every call of the net and at the end, all
weights and buffers of both have to be equal. So losses, learning rates, momentum, weight decay, modes and the order of
phases are those of the rewriting. Drawn values are compared with the distribution they should have.
"""

import copy
import functools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from harness.loaders import Images
from harness.models import Block
from tests.baselines.baseline_module import load_baseline, load_edited
from tests.baselines.recorded import Recording, Velocity, recorded

N_CLASSES = 7
LOWEST, HIGHEST = -1.7, 2.3  # of the inputs; every image has both
GREY_LEVEL = (HIGHEST - LOWEST) / 255


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def seed(value: int) -> None:
    torch.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


class Miniature(nn.Module):
    """ResNet-18 with a sixteenth of its channels, for images of 8x8 pixels; its 62 tensors have torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(4, 4), Block(4, 4))
        self.layer2 = nn.Sequential(Block(4, 8, stride=2), Block(8, 8))
        self.layer3 = nn.Sequential(Block(8, 16, stride=2), Block(16, 16))
        self.layer4 = nn.Sequential(Block(16, 32, stride=2), Block(32, 32))
        self.fc = nn.Linear(32, N_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.bn1(self.conv1(images)).relu()
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits


@functools.cache
def trained() -> nn.Module:
    """Return a net that knows most of its images."""
    seed(1)
    net, examples = Miniature(), images(200)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(examples.inputs), examples.labels).backward()
        optimizer.step()
    return net.eval()


def images(count: int) -> Images:
    """Return random colour images of 8x8 pixels, of all classes but the last, some classes larger than others."""
    labels = (torch.arange(count) ** 2 % 11).clamp(max=N_CLASSES - 2)
    patterns = torch.rand(N_CLASSES, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs = LOWEST + (HIGHEST - LOWEST) * (0.6 * torch.rand(count, 3, 8, 8) + 0.4 * patterns[labels])
    inputs[:, 0, 0, 0], inputs[:, 0, 0, 1] = LOWEST, HIGHEST
    return Images(inputs, labels)


def run(baseline: Any, *, retain: int, batch_size: int) -> Recording:
    """Record a run on two batches each of the retain, the forget and the val set."""
    original = copy.deepcopy(trained())
    seed(0)
    sets = {"retain": images(retain), "forget": images(70), "val": images(80)}
    return recorded(baseline.unlearn, original, sets, batch_size)


# ---- formulas and draws ----------------------------------------------------------------------------------------------


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log p of the label of each example (n,)."""
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return -probabilities[range(len(labels)), labels].log()


def entropies(logits: Tensor) -> Tensor:
    """Return the entropy of each prediction (n,), in nats."""
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return -(probabilities * probabilities.log()).sum(dim=1)


def cosine(rate: float, epoch: int, epochs: int) -> float:
    """Return a learning rate that falls from its first value to 0 along half a cosine."""
    return rate * (1 + math.cos(math.pi * epoch / epochs)) / 2


def assert_normal(values: Tensor, std: float) -> None:
    """Check that values (n,) are like draws of a normal distribution around 0."""
    spread, n = values.std().item() / std, values.numel()
    assert abs(spread - 1) < 4 / math.sqrt(2 * n), spread
    assert scipy.stats.kstest(values.flatten() / std, "norm").pvalue > 1e-3


def assert_uniform(values: Tensor, bound: float) -> None:
    """Check that values (n,) are like draws between -bound and bound."""
    assert scipy.stats.kstest(values.flatten() / bound, "uniform", (-1, 2)).pvalue > 1e-3


def assert_default(layer: nn.Module) -> None:
    """Check that a convolution or a linear layer is as PyTorch first draws it."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    for values in layer.parameters():
        assert_uniform(values.detach(), 1 / math.sqrt(layer.weight[0].numel()))


def convolutions(net: nn.Module) -> list[str]:
    return [f"{name}.weight" for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)]


# ---- the eight -------------------------------------------------------------------------------------------------------


def first(recording: Recording) -> None:
    (own,) = recording.followers(1)
    flatten, forget, retain = Velocity(), Velocity(), Velocity()
    for seen in own.one_pass("forget"):
        log_probabilities = own.net(seen.images).log_softmax(dim=1)
        uniform = torch.full_like(log_probabilities, 1 / N_CLASSES)
        divergence = (uniform * (uniform.log() - log_probabilities)).sum(dim=1).mean()
        own.descend(divergence, flatten, 5e-3, decay=0)
    step, n_steps = 0, 8 * 2
    for _ in range(8):
        compared = own.one_pass("retain", 256, gradient=False)
        for seen in own.one_pass("forget"):
            forgotten = own.net(seen.images)
            with torch.no_grad():
                retained = own.net(next(compared).images)
            similarities = torch.stack([(row * retained).sum(dim=1) / 1.15 for row in forgotten])
            shares = similarities.exp() / similarities.exp().sum(dim=1, keepdim=True)
            own.descend(-shares.log().mean(), forget, 1e-6 + cosine(3e-4 - 1e-6, step, n_steps), decay=0)
            step += 1
        for seen in own.one_pass("retain", 256):
            loss = cross_entropies(own.net(seen.images), seen.labels).mean()
            own.descend(loss, retain, 1e-3 * 256 / 64, decay=1e-2)
    own.end()


def second(recording: Recording) -> None:
    (own,) = recording.followers(1)
    kernels = convolutions(own.net)
    assert len(kernels) == 17 + 3
    values = dict(own.net.named_parameters())
    differences = {name: torch.zeros_like(values[name]) for name in kernels}
    n_forget = len(own.sets["forget"])
    for name, sign in (("retain", 1), ("forget", -1)):
        for seen in own.one_pass(name, count=n_forget, training=False):
            loss = cross_entropies(own.net(seen.images), seen.labels).mean()
            for kernel, gradient in zip(kernels, torch.autograd.grad(loss, [values[k] for k in kernels]), strict=True):
                differences[kernel] += sign * gradient

    factors = {}
    for kernel, (old, new) in own.redrawn(kernels).items():
        is_redrawn, sizes = new != old, differences[kernel].abs()
        assert is_redrawn.sum() == round(0.3 * old.numel())
        # Where an image is a single pixel, the rim of a kernel has no gradient at all, and ties are broken somehow.
        assert sizes[is_redrawn].max() <= sizes[~is_redrawn].min()
        fan_out = old.shape[0] * old.shape[2] * old.shape[3]
        assert_normal(new[is_redrawn], math.sqrt(2 / fan_out))
        factors[kernel] = is_redrawn + 0.1 * ~is_redrawn

    velocity = Velocity()
    for rate in (1e-3 / 3, 2e-3 / 3, 1e-3, 2e-3 / 3, 1e-3 / 3):
        for seen in own.one_pass("retain"):
            loss = cross_entropies(own.net(seen.images), seen.labels).mean()
            own.descend(loss, velocity, rate, factors=factors)
    own.end()


def third(recording: Recording) -> None:
    (own,) = recording.followers(1)
    labels = own.sets["retain"].labels.tolist()
    # scikit-learn's "balanced": of the classes that are there
    weights = {label: len(labels) / (len(set(labels)) * labels.count(label)) for label in set(labels)}
    velocity = Velocity()
    for epoch in range(4):
        if epoch in (0, 3):
            ((old, new),) = own.redrawn(["conv1.weight"]).values()
            assert_normal(new - old, 0.6 if epoch == 0 else 0.005)
        for seen in own.one_pass("retain"):
            mean_weight = sum(weights[label] for label in seen.labels.tolist()) / len(seen.labels)
            loss = cross_entropies(own.net(seen.images), seen.labels).mean() * mean_weight
            own.descend(loss, velocity, cosine(7e-4, epoch, 4))
    own.end()


def fourth(recording: Recording) -> None:
    (own,), original = recording.followers(1), recording.teacher()
    layers = {name: layer for name, layer in own.net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    names = [f"{layer}.{name}" for layer in layers for name, _ in layers[layer].named_parameters()]
    pairs = own.redrawn(names)
    sizes = torch.cat([old.abs().flatten() for old, _ in pairs.values()]).sort().values
    n_pruned = round(0.99 * len(sizes))
    for name, (old, new) in pairs.items():
        is_pruned = old.abs() < sizes[n_pruned]
        assert torch.equal(new != old, is_pruned)
        if name.endswith("bias"):
            assert torch.equal(new[is_pruned], torch.zeros(int(is_pruned.sum())))
        else:
            assert_uniform(new[is_pruned], 1 / math.sqrt(old[0].numel()))

    labels = own.sets["retain"].labels.tolist()
    weights = torch.tensor([max(labels.count(label), 1) ** -0.1 for label in range(N_CLASSES)])
    velocity, n_updates = Velocity(), 0
    while n_updates <= int(3.2 * 2):  # as many and one more
        for seen in own.one_pass("retain"):
            logits = own.net(seen.images)
            weight = weights[seen.labels]
            loss = (weight * cross_entropies(logits, seen.labels)).sum() / weight.sum()
            loss = loss + (entropies(logits) - entropies(original(seen.images))).square().mean()
            own.descend(loss, velocity, 5e-4)
            n_updates += 1
            if n_updates > int(3.2 * 2):
                break
    for value in own.net.state_dict().values():
        value.copy_(value.to(torch.float16))
    own.end()


def fifth(recording: Recording) -> None:
    (own,) = recording.followers(1)
    with torch.no_grad():
        for layer in own.net.modules():
            if isinstance(layer, nn.Conv2d):
                for kernel in layer.weight.flatten(0, 1):
                    kernel.copy_(kernel.T.clone())
    velocity = Velocity()
    for epoch in range(3):
        for seen in own.one_pass("retain"):
            own.descend(cross_entropies(own.net(seen.images), seen.labels).mean(), velocity, cosine(1e-3, epoch, 3))
    own.end()


def fifth_b(recording: Recording) -> None:
    """The part of which only the idea is published: beside what the file says, with another rate and threshold."""
    tuned, fresh, own = recording.followers(3)
    drawn = fresh.calls[0].state
    fresh.net.load_state_dict(drawn)
    for layer in fresh.net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert_default(layer)
    assert all((drawn[f"bn1.{name}"] == value).all() for name, value in (("weight", 1), ("bias", 0)))
    for follower, epochs in ((tuned, 1), (fresh, 2)):
        velocity = Velocity()
        for _ in range(epochs):
            for seen in follower.one_pass("retain"):
                follower.descend(cross_entropies(follower.net(seen.images), seen.labels).mean(), velocity, RATE_B)
        follower.end()

    forget, original = own.sets["forget"], recording.teacher()
    before, after, guess = (net.eval()(forget.inputs).argmax(dim=1) for net in (original, tuned.net, fresh.net))
    is_sure = entropies(fresh.net(forget.inputs)) < THRESHOLD_B * math.log(N_CLASSES)
    pseudo = [(i, after[i].item()) for i in range(70) if before[i] == forget.labels[i] != after[i]]
    pseudo += [(i, guess[i].item()) for i in range(70) if is_sure[i] and guess[i] != forget.labels[i]]
    assert 5 < is_sure.sum() < 65
    labels, velocity = dict(pseudo), Velocity()
    assert labels.items() == set(pseudo)  # no image has two pseudo-labels, so that it tells its own
    for _ in range(3):
        retained, dealt = set[int](), list[int]()
        for size in (64, 36):
            call = own.next_call()
            ours, theirs = call.images[:size], call.images[size:]
            indices, extra = own.indices("retain", ours), own.indices("forget", theirs) if len(theirs) else []
            retained.update(indices)
            dealt += extra
            assert labels.keys() >= set(extra)
            targets = [*own.sets["retain"].labels[indices].tolist(), *(labels[i] for i in extra)]
            own.descend(cross_entropies(own.net(call.images), torch.tensor(targets)).mean(), velocity, RATE_B)
        assert len(retained) == 100
        assert sorted(dealt) == sorted(i for i, _ in pseudo)
    own.end()


def sixth(recording: Recording) -> None:
    (own,), teacher = recording.followers(1), recording.teacher()
    outer = {"conv1.weight", "fc.weight", "fc.bias"}
    own.redrawn(outer)
    assert_default(own.net.get_submodule("conv1"))
    assert_default(own.net.get_submodule("fc"))

    def softened(logits: Tensor) -> Tensor:
        return (logits / 5).exp() / (logits / 5).exp().sum(dim=1, keepdim=True)

    velocity = Velocity()
    for _ in range(3):
        for seen in own.one_pass("val"):
            student, targets = softened(own.net(seen.images)), softened(teacher(seen.images))
            own.descend((targets * (targets.log() - student.log())).sum(dim=1).mean(), velocity, 9e-4)
    velocity = Velocity()
    for epoch in range(3):
        for seen in own.one_pass("retain"):
            logits, targets = own.net(seen.images), softened(teacher(seen.images))
            student = softened(logits)
            soft = -(targets * student.log()).sum(dim=1).mean()
            divergence = (targets * (targets.log() - student.log())).sum(dim=1).mean()
            hard = cross_entropies(logits, seen.labels).mean()
            own.descend(soft + hard + divergence, velocity, cosine(1e-3, epoch, 3))
    own.end()


def seventh(recording: Recording) -> None:
    (own,) = recording.followers(1)
    own.redrawn(["fc.weight", "fc.bias"])
    assert_default(own.net.get_submodule("fc"))
    names = {name for name, _ in own.net.named_parameters()}
    normalisation = {name for name in names if "bn" in name}
    assert (len(names), len(normalisation)) == (62, 34)
    noise_std = 0.04 * 24 * initial_std(own.net)
    chosen: list[set[str]] = []
    disturbed: list[Tensor] = []
    for epoch, rate in enumerate([2e-4] * 8 + [1e-3]):
        trained = own.calls[0].trainable
        if epoch < 5:
            assert trained >= normalisation
            selected = trained - normalisation
            assert len(selected) == 9
            noisy = own.differing()
            assert len(noisy) <= (6 if epoch else 0)
            assert noisy <= selected.difference(*chosen)
            disturbed += [(new - old).flatten() for old, new in own.redrawn(noisy).values()]
            chosen.append(selected)
        else:
            assert trained == names
        velocity = Velocity()
        for seen in own.one_pass("retain"):
            loss = cross_entropies(own.net(seen.images), seen.labels).mean()
            own.descend(loss, velocity, rate, trained=trained)
    assert len(disturbed) > 4
    assert_normal(torch.cat(disturbed), noise_std)
    own.end()


def initial_std(net: nn.Module) -> float:
    """Return the median over a net's kernels of the deviation that torchvision draws them with."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    deviations = [math.sqrt(2 / (layer.weight.shape[0] * layer.weight[0, 0].numel())) for layer in layers]
    return float(np.median([*deviations, math.sqrt(2 / N_CLASSES)]))


def eighth(recording: Recording) -> None:
    (own,), teacher = recording.followers(1), recording.teacher()
    pool = {name for name, _ in own.net.named_parameters() if "downsample" not in name and "fc" not in name}
    assert len(pool) == 51
    velocity: Velocity = {}
    weights, noise = [], []
    for cycle in ([5e-4, 1e-3], [1e-3], [1e-3], [1e-3]):
        names = own.differing()
        assert 1 <= len(names) <= 6
        assert names <= pool
        for name, (_, new) in own.redrawn(names).items():
            if name.endswith("weight"):
                weights.append(new.flatten())
            else:
                assert torch.equal(new, torch.zeros_like(new))
        for rate in cycle:
            for seen in own.one_pass("retain"):
                noise.append((seen.images - seen.stored).flatten())
                own.descend((own.net(seen.images) - teacher(seen.images)).square().mean(), velocity, rate)
    assert_normal(torch.cat(weights), 0.01)
    assert_normal(torch.cat(noise), 0.1 * GREY_LEVEL)
    own.end()


RATE_B, THRESHOLD_B = 0.05, 0.9917  # a net of two short epochs is sure of nothing
RECIPES: dict[str, tuple[str, Callable[[Recording], None], dict[str, Any]]] = {
    "1st": ("challenge_1st_contrastive", first, {}),
    "2nd": ("challenge_2nd_gradient_reinit", second, {}),
    "3rd": ("challenge_3rd_stem_noise", third, {}),
    "4th": ("challenge_4th_prune_entropy", fourth, {}),
    "5th a": ("challenge_5th_transpose_or_pseudo_labels", fifth, {"TRANSPOSED_SHARE": 1}),
    "5th b": (
        "challenge_5th_transpose_or_pseudo_labels",
        fifth_b,
        {"TRANSPOSED_SHARE": 0, "LEARNING_RATE": RATE_B, "ENTROPY_THRESHOLD": THRESHOLD_B},
    ),
    "6th": ("challenge_6th_reset_distill", sixth, {}),
    "7th": ("challenge_7th_noise_injection", seventh, {}),
    "8th": ("challenge_8th_reinit_distill", eighth, {}),
}


def follow(recipe: str, baseline: Any, batch_size: int = 64) -> None:
    """Run a recipe and its rewriting beside it. Raises AssertionError where they part."""
    _, rewriting, _ = RECIPES[recipe]
    rewriting(run(baseline, retain=300 if recipe == "1st" else 100, batch_size=batch_size))


def test_the_miniature_has_the_tensors_of_resnet18() -> None:
    shapes = [{name: value.dim() for name, value in net.state_dict().items()} for net in (Miniature(), resnet18())]
    assert shapes[0] == shapes[1]
    assert len(list(Miniature().parameters())) == 62


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_does_what_its_authors_published(recipe: str) -> None:
    file, _, constants = RECIPES[recipe]
    follow(recipe, load_baseline(file, **constants))


@pytest.mark.parametrize("recipe", ["1st", "6th"])  # the others have the rule of the sixth
def test_a_track_in_larger_batches_is_read_in_the_published_ones(recipe: str) -> None:
    file, _, constants = RECIPES[recipe]
    follow(recipe, load_baseline(file, **constants), batch_size=128)


WRONG = [
    ("1st", "TEMPERATURE = 1.15", "TEMPERATURE = 1.0"),
    ("1st", "            schedule.step()", "            pass"),
    ("2nd", "largest=False", "largest=True"),
    ("2nd", "kernel.grad *= factor", "pass"),
    ("2nd", "(forget_loader, -1)", "(forget_loader, 1)"),
    ("2nd", "warm_up_and_decay(epoch + 1)", "warm_up_and_decay(epoch + 2)"),
    ("3rd", "LEARNING_RATE = 7e-4", "LEARNING_RATE = 14e-4"),
    ("3rd", "epoch == EPOCHS - 2", "epoch == EPOCHS - 3"),
    ("3rd", "T_max=EPOCHS", "T_max=EPOCHS + 1"),
    ("3rd", "(counts > 0).sum()", "n_classes"),
    ("4th", "largest=False", "largest=True"),
    ("4th", "int(EPOCHS * len(retain)) + 1", "int(EPOCHS * len(retain))"),
    ("4th", "nn.functional.mse_loss", "nn.functional.l1_loss"),
    ("5th a", "transpose(2, 3)", "flip(2, 3)"),
    ("5th a", "cosine=True", "cosine=False"),
    ("5th b", "before == truth", "before != truth"),
    ("5th b", "is_sure & (guess", "~is_sure & (guess"),
    ("6th", "copy.deepcopy(net).eval()", "copy.deepcopy(net).train()"),
    ("6th", "WARMUP_EPOCHS = 3", "WARMUP_EPOCHS = 2"),
    ("6th", "loss + soft_cross_entropy(logits, targets) + ", "loss + "),
    ("7th", "if epoch > 0:", "if epoch > -1:"),
    ("7th", "chosen_before.update(selected)", "pass"),
    ("7th", "FINE_LEARNING_RATES[epoch]", "FINE_LEARNING_RATES[epoch + 1]"),
    ("8th", "nn.functional.mse_loss", "nn.functional.l1_loss"),
    ("8th", "EPOCH_FACTORS[epoch]", "EPOCH_FACTORS[epoch - 1]"),
]


@pytest.mark.parametrize(("recipe", "right", "wrong"), WRONG)
def test_a_recipe_gone_wrong_is_noticed(recipe: str, right: str, wrong: str) -> None:
    file, _, constants = RECIPES[recipe]
    baseline = load_edited(file, right, wrong, **constants)
    with pytest.raises(AssertionError):
        follow(recipe, baseline)
