"""Trains originals and retrained models: one alone, or many small ones stacked into a single network.

Small networks are bound by the overhead of each call, not by arithmetic: 32 of them stacked (`torch.func.vmap` over
stacked parameters) take about a third of the time per model and step. Every model of a stack has its own initial
weights and its own order of examples, both drawn from its own seed, the same as if it were trained alone.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from harness.track import Training

__all__ = ["train", "train_stack"]

Build = Callable[[], nn.Module]
Weights = dict[str, Tensor]


def train(
    build: Build,
    images: Tensor,
    labels: Tensor,
    recipe: Training,
    *,
    seed: int,
    epochs: int | None = None,
) -> nn.Module:
    """Train one model alone and return it in eval mode; its device is that of the images.

    images: (n, channels, height, width) float32. labels: (n,) int64. epochs: stop after so many, for timing.
    """
    net = _initial(build, seed).to(images.device).train()
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    for learning_rate, batches in _epochs(recipe, len(images), [seed], epochs):
        optimizer.param_groups[0]["lr"] = learning_rate
        for batch in batches:
            chosen = batch[0].to(images.device)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return net.eval()


def train_stack(
    build: Build,
    images: Tensor,
    labels: Tensor,
    recipe: Training,
    *,
    seeds: list[int],
    on_epoch: Callable[[], None] = lambda: None,
) -> list[Weights]:
    """Train one model per seed, all at once, and return their weights in the order of the seeds.

    Equal to `train` with each seed up to the rounding of the machine's arithmetic.
    """
    nets = [_initial(build, seed).to(images.device) for seed in seeds]
    trained, buffers = stack_module_state(nets)
    parameters = {name: stacked.detach() for name, stacked in trained.items()}
    skeleton = _initial(build, seeds[0]).to("meta").train()

    def loss(weights: Weights, running: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = functional_call(skeleton, (weights, running), (inputs,))
        return nn.functional.cross_entropy(logits, targets)

    gradients = vmap(grad(loss))
    values = list(parameters.values())
    momenta = [torch.zeros_like(value) for value in values]
    for learning_rate, batches in _epochs(recipe, len(images), seeds, None):
        for batch in batches:
            chosen = batch.to(images.device)
            steps = list(gradients(parameters, buffers, images[chosen], labels[chosen]).values())
            torch._foreach_add_(steps, values, alpha=recipe.weight_decay)
            torch._foreach_mul_(momenta, recipe.momentum)
            torch._foreach_add_(momenta, steps)
            torch._foreach_add_(values, momenta, alpha=-learning_rate)
        on_epoch()
    return [
        {name: stacked[row].clone() for name, stacked in (parameters | buffers).items()} for row in range(len(seeds))
    ]


def _initial(build: Build, seed: int) -> nn.Module:
    """Return a network whose initial weights depend on the seed alone, leaving the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _epochs(recipe: Training, n: int, seeds: list[int], epochs: int | None) -> Iterator[tuple[float, list[Tensor]]]:
    """Yield each epoch's learning rate (cosine, per epoch) and its batches of indices (n_models, batch_size)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for epoch in range(recipe.epochs if epochs is None else epochs):
        order = torch.stack([torch.randperm(n, generator=generator) for generator in generators])
        batches = [batch for batch in order.split(recipe.batch_size, dim=1) if batch.shape[1] > 1]  # BatchNorm needs 2
        yield recipe.learning_rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2, batches
