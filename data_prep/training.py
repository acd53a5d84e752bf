"""Trains originals and retrained models: one alone, or many small ones stacked into a single network.

Small networks are bound by the overhead of each call, not by arithmetic: 32 of them stacked (`torch.func.vmap` over
stacked parameters) take about a third of the time per model and step. Every model of a stack has its own initial
weights and its own order of examples, both drawn from its own seed, the same as if it were trained alone.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from harness.declaration import Training
from harness.loaders import to_inputs
from harness.track import Track

__all__ = ["Build", "Weights", "initial_net", "train", "train_stack", "training_set"]

Build = Callable[[], nn.Module]
Weights = dict[str, Tensor]

CROP_PADDING = 4  # pixels, of the usual augmentation of small images: random crop and horizontal flip
STEP_FACTOR = 0.1  # of the learning rate at every milestone


def training_set(track: Track, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return inputs (n, channels, height, width) and labels (n,) of some of a track's sets, one after the other."""
    data, sets = track.declaration.data, [track.examples(name) for name in names]
    pixels = np.concatenate([examples.images for examples in sets])
    labels = np.concatenate([examples.labels for examples in sets])
    return to_inputs(pixels, scale=data.scale, mean=data.mean, std=data.std), torch.from_numpy(labels)


def train(
    build: Build,
    images: Tensor,
    labels: Tensor,
    recipe: Training,
    *,
    seed: int,
    initial: Weights | None = None,
    mask: Weights | None = None,
    first_epoch: int = 0,
    epochs: int | None = None,
    mixed: bool = False,
    on_epoch: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train one model alone and return it in eval mode; its device is that of the images.

    images: (n, channels, height, width) float32. labels: (n,) int64. initial, mask, first_epoch, epochs: as in
    `train_stack`, of one model. mixed: in bfloat16 where that keeps accuracy (weights stay float32), channels last:
    faster on a GPU.
    """
    net = initial_net(build, seed).to(images.device).train()
    if initial is not None:
        net.load_state_dict(initial)
    if mixed:
        net = net.to(memory_format=torch.channels_last)
    optimizer = _optimizer(list(net.parameters()), recipe)
    class_weights = _class_weights(labels, recipe)
    masked = [(net.get_parameter(name), values.to(images.device)) for name, values in (mask or {}).items()]
    _apply(masked)
    with _seeded(seed):
        for epoch in _epochs(recipe, len(images), [seed], first_epoch, epochs, images.device):
            optimizer.param_groups[0]["lr"] = epoch.learning_rate
            for step in epoch.steps:
                inputs = step.inputs(images)[0]
                if mixed:
                    inputs = inputs.contiguous(memory_format=torch.channels_last)
                with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
                    logits = net(inputs)
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits.float(), labels[step.rows[0]], class_weights).backward()
                optimizer.step()
                _apply(masked)
            on_epoch()
    return net.eval()


def train_stack(
    build: Build,
    images: Tensor,
    labels: Tensor,
    recipe: Training,
    *,
    seeds: Sequence[int],
    initial: Sequence[Weights] | None = None,
    masks: Sequence[Weights] | None = None,
    first_epoch: int = 0,
    epochs: int | None = None,
    mixed: bool = False,
    on_epoch: Callable[[], None] = lambda: None,
) -> list[Weights]:
    """Train one model per seed, all at once, and return their weights in the order of the seeds.

    Equal to `train` with each seed up to the rounding of the machine's arithmetic; a single one is trained by it.
    initial: weights to start from instead of the seeds' own. masks: 0 or 1 for every value of some parameters, which
    the training keeps at 0 where the mask is. first_epoch, epochs: train from the one epoch of the recipe up to the
    other, by default from the first to the last. mixed: as in `train`; models stacked stay float32, since it is not
    their arithmetic that takes the time.
    """
    if len(seeds) == 1:
        net = train(
            build,
            images,
            labels,
            recipe,
            seed=seeds[0],
            initial=initial[0] if initial else None,
            mask=masks[0] if masks else None,
            first_epoch=first_epoch,
            epochs=epochs,
            mixed=mixed,
            on_epoch=on_epoch,
        )
        return [{name: value.detach().contiguous() for name, value in net.state_dict().items()}]
    nets = [initial_net(build, seed).to(images.device) for seed in seeds]
    for net, weights in zip(nets, initial or [], strict=initial is not None):
        net.load_state_dict(weights)
    trained, buffers = stack_module_state(nets)
    masked = [
        (trained[name], torch.stack([mask[name] for mask in masks or ()]).to(images.device))
        for name in (masks[0] if masks else ())
    ]
    skeleton = initial_net(build, seeds[0]).to("meta").train()
    class_weights = _class_weights(labels, recipe)

    def loss(weights: Weights, running: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = functional_call(skeleton, (weights, running), (inputs,))
        return nn.functional.cross_entropy(logits, targets, class_weights)

    gradients = vmap(grad(loss), randomness="different")  # of dropout
    optimizer = _optimizer(list(trained.values()), recipe)
    _apply(masked)
    with _seeded(seeds[0]):
        for epoch in _epochs(recipe, len(images), seeds, first_epoch, epochs, images.device):
            optimizer.param_groups[0]["lr"] = epoch.learning_rate
            for step in epoch.steps:
                parameters = {name: value.detach() for name, value in trained.items()}
                for name, gradient in gradients(parameters, buffers, step.inputs(images), labels[step.rows]).items():
                    trained[name].grad = gradient
                optimizer.step()
                _apply(masked)
            on_epoch()
    everything = {name: value.detach() for name, value in (trained | buffers).items()}
    return [{name: stacked[row].clone() for name, stacked in everything.items()} for row in range(len(seeds))]


def initial_net(build: Build, seed: int) -> nn.Module:
    """Return a network whose initial weights depend on the seed alone, leaving the global random state as it was."""
    with _seeded(seed):
        return build()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let what draws from the global random state, initial weights and dropout, depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _optimizer(parameters: list[Tensor], recipe: Training) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; it treats every value alike, so that stacked parameters are as good as single."""
    fused = True if parameters[0].is_cuda else None  # one kernel for all parameters
    decay, momentum = recipe.weight_decay, recipe.momentum
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.learning_rate, weight_decay=decay, fused=fused)
    return torch.optim.SGD(parameters, lr=recipe.learning_rate, momentum=momentum, weight_decay=decay, fused=fused)


def _apply(masked: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Set to 0 what a mask prunes of each parameter."""
    for parameter, mask in masked:
        parameter.detach().mul_(mask)


def _class_weights(labels: Tensor, recipe: Training) -> Tensor | None:
    """Return weights (n_classes,) inverse to how often a class is there, if the recipe asks for them."""
    if not recipe.class_weights:
        return None
    counts = torch.bincount(labels)
    return torch.where(counts > 0, 1.0 / counts.clamp(min=1), 1.0)


# ---- what every step is trained on --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One step of all models: drawn on the CPU an epoch at a time, so that no step waits for the device."""

    rows: Tensor  # (n_models, batch_size) indices of examples
    shifts: Tensor | None  # (n_models, batch_size, 3) how each is augmented, if at all: as `_augmented` takes it

    def inputs(self, images: Tensor) -> Tensor:
        """Return the inputs (n_models, batch_size, channels, height, width)."""
        chosen = images[self.rows]
        if self.shifts is None:
            return chosen
        return _augmented(chosen.flatten(0, 1), self.shifts.flatten(0, 1)).view_as(chosen)


@dataclass(frozen=True)
class _Epoch:
    learning_rate: float
    steps: list[_Step]


def _epochs(
    recipe: Training, n: int, seeds: Sequence[int], first: int, last: int | None, device: torch.device
) -> Iterator[_Epoch]:
    """Yield the epochs of n examples, from the one up to the other; each model draws from its own seed alone."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for epoch in range(recipe.epochs if last is None else last):
        orders = torch.stack([torch.randperm(n, generator=generator) for generator in generators])
        shifts = torch.stack([_shifts(n, generator) for generator in generators]) if recipe.augment else None
        if epoch < first:
            continue
        rows = orders.to(device, non_blocking=True).split(recipe.batch_size, dim=1)
        moves = (
            [None] * len(rows)
            if shifts is None
            else shifts.to(device, non_blocking=True).split(recipe.batch_size, dim=1)
        )
        steps = [_Step(*step) for step in zip(rows, moves, strict=True) if step[0].shape[1] > 1]  # BatchNorm needs 2
        yield _Epoch(_learning_rate(recipe, epoch), steps)


def _shifts(n: int, generator: torch.Generator) -> Tensor:
    """Return random (n, 3) integers: how far down and to the right an image is cropped, and whether it is flipped."""
    moves = torch.randint(2 * CROP_PADDING + 1, (n, 2), generator=generator)
    return torch.cat([moves, torch.randint(2, (n, 1), generator=generator)], dim=1)


def _augmented(images: Tensor, shifts: Tensor) -> Tensor:
    """Return images (n, channels, height, width) each cropped from its padded self, some of them flipped."""
    n, channels, height, width = images.shape
    device = images.device
    down, right, flipped = shifts.split(1, dim=1)
    rows = (down + torch.arange(height, device=device))[:, None, :, None]
    columns = right + torch.arange(width, device=device)
    columns = torch.where(flipped == 1, columns.flip(1), columns)[:, None, None, :]
    padded = nn.functional.pad(images, (CROP_PADDING,) * 4)
    which = torch.arange(n, device=device)[:, None, None, None]
    return padded[which, torch.arange(channels, device=device)[None, :, None, None], rows, columns]


def _learning_rate(recipe: Training, epoch: int) -> float:
    if recipe.schedule == "step":
        return recipe.learning_rate * STEP_FACTOR ** sum(epoch >= milestone for milestone in recipe.milestones)
    return recipe.learning_rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
