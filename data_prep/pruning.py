"""Pruned originals: which weights go, and the trainings before and after.

Masks are of the weights of convolutions, by name: 1 for what stays, 0 for what is pruned. Sources: Jia et al. (NeurIPS
2023, arXiv 2304.04934) and OPTML-Group/Unlearn-Sparse for the protocol; Ma et al. 2021 for OMP, Frankle and Carbin 2019
for IMP with rewinding, Tanaka et al. 2020 for SynFlow.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from data_prep.training import Build, Trainer, Weights, initial_net
from harness.errors import UsageError
from harness.tracks.declaration import Pruning

__all__ = ["convolutions", "magnitude_mask", "mask_of", "n_trainings", "synflow_mask", "train_pruned"]

SYNFLOW_STEPS = 100  # each prunes the same share of what is left
IMP_SHARE = 0.2  # of what is left, pruned in each round at most


def train_pruned(
    trainer: Trainer, pruning: Pruning, *, seeds: Sequence[int], on_epoch: Callable[[], None] = lambda: None
) -> list[Weights]:
    """Prune and train one model per seed, and return their weights, pruned ones at 0, in the order of the seeds."""
    trained = partial(trainer.train, seeds, on_epoch=on_epoch)

    if pruning.method == "synflow":
        shape, place = trainer.images.shape[1:], trainer.images.device
        nets = [initial_net(trainer.build, seed).to(place) for seed in seeds]
        return trained(masks=[synflow_mask(net, shape, pruning.sparsity) for net in nets])
    rewound = trained(epochs=pruning.rewind_epoch)
    names = convolutions(trainer.build())
    masks: list[Weights] | None = None
    rounds = n_rounds(pruning)
    for done in range(1, rounds + 1):
        start = None if masks is None else rewound
        dense = trained(initial=start, masks=masks, first_epoch=0 if start is None else pruning.rewind_epoch)
        sparsity = 1 - (1 - pruning.sparsity) ** (done / rounds)
        masks = [magnitude_mask(weights, names, sparsity) for weights in dense]
    return trained(initial=rewound, masks=masks, first_epoch=pruning.rewind_epoch)


def n_rounds(pruning: Pruning) -> int:
    """Return how many times trained weights are pruned: 14 for 95 % by IMP."""
    by_method = {"synflow": 0, "omp": 1, "imp": math.ceil(math.log(1 - pruning.sparsity) / math.log(1 - IMP_SHARE))}
    return by_method[pruning.method]


def n_trainings(pruning: Pruning | None) -> int:
    """Return how many trainings from the first to the last epoch an original takes, rewinding aside."""
    return 1 if pruning is None else 1 + n_rounds(pruning)


def magnitude_mask(weights: Weights, names: Sequence[str], sparsity: float) -> Weights:
    """Return the mask that prunes the share `sparsity` of the named weights together: those smallest by magnitude."""
    return _mask({name: weights[name].abs() for name in names}, sparsity)


def synflow_mask(net: nn.Module, shape: Sequence[int], sparsity: float) -> Weights:
    """Return SynFlow's mask of an untrained net for images of a shape (channels, height, width); it takes no data.

    Saliency is |weight x gradient| of the sum of outputs for an image of ones, all weights and statistics replaced by
    their magnitudes, so that no layer is pruned as a whole. In float32 that sum overflows for deep nets, which are
    pruned in float64. Raises UsageError for a net that cannot be, or that is too deep for either.
    """
    with contextlib.suppress(OverflowError):
        return _synflow_mask(net.eval(), shape, sparsity)
    try:
        wider = _synflow_mask(copy.deepcopy(net).double(), shape, sparsity)
    except (OverflowError, RuntimeError):  # the latter of a net that makes tensors of float32 itself
        raise UsageError('SynFlow cannot prune so deep a net, whose outputs overflow: take method = "omp"') from None
    return {name: part.float() for name, part in wider.items()}


def _synflow_mask(net: nn.Module, shape: Sequence[int], sparsity: float) -> Weights:
    """Return the mask as it is computed in the net's own type of numbers. Raises OverflowError."""
    state = {name: value.abs() if value.is_floating_point() else value for name, value in net.state_dict().items()}
    names = convolutions(net)
    mask = {name: torch.ones_like(state[name]) for name in names}
    ones = state[names[0]].new_ones(1, *shape)
    for step in range(1, SYNFLOW_STEPS + 1):
        weights = {name: (state[name] * mask[name]).requires_grad_() for name in names}
        output = torch.func.functional_call(net, state | weights, (ones,)).sum()
        gradients = torch.autograd.grad(output, list(weights.values()))
        saliency = {
            # What is pruned already comes first.
            name: torch.where(mask[name] > 0, (weight * gradient).abs().detach(), -1.0)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        if not all(bool(part.isfinite().all()) for part in saliency.values()):
            raise OverflowError("the sum of outputs is beyond all numbers")
        mask = _mask(saliency, 1 - (1 - sparsity) ** (step / SYNFLOW_STEPS))
    return mask


def mask_of(weights: Weights, build: Build) -> Weights:
    """Return the mask that a pruned model was trained under: where its weights of convolutions are not 0."""
    return {name: (weights[name] != 0).to(weights[name]) for name in convolutions(build())}


def convolutions(net: nn.Module) -> list[str]:
    """Return the names of the weights of all convolutions."""
    return [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]


def _mask(scores: Weights, sparsity: float) -> Weights:
    """Return 0 for the lowest scores, a share `sparsity` of them within one, and 1 for the others."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = torch.ones_like(flat)
    kept[flat.argsort(stable=True)[: round(sparsity * len(flat))]] = 0
    parts = kept.split([score.numel() for score in scores.values()])
    return {name: part.view_as(score) for (name, score), part in zip(scores.items(), parts, strict=True)}
