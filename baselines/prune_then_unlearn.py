"""Prune the net's convolutions, train the rest on the retain set, unlearn under the masks.

Source: "Model Sparsity Can Simplify Machine Unlearning" (Jia et al., NeurIPS 2023, arXiv 2304.04934), "prune first,
then unlearn", and its official code (OPTML-Group/Unlearn-Sparse: `pruner/`, `main_imp.py`, `main_synflow.py`,
`unlearn/`). SynFlow is from "Pruning neural networks without any data by iteratively conserving synaptic flow" (Tanaka
et al., NeurIPS 2020, arXiv 2006.05467).

Steps: 1. PRUNER chooses the 1 - SPARSITY of the weights of all convolutions that stay; linear layers and BatchNorm stay
whole.
   "omp", one-shot magnitude pruning, the paper's choice: the largest weights of all layers together.
   "random", a control: weights drawn at random.
   "synflow": those with the largest share in the synaptic flow, found in ITERATIONS prunings of equal rate.
   "imp", iterative magnitude pruning: rounds of pruning the smallest weights and of training. Each round prunes an
   equal share of what is left, at most PRUNE_RATE, and gets an equal part of the steps of step 2.
2. Train on the retain set under the masks. 3. What UNLEARNER adds: nothing ("finetune"), a penalty on absolute weights
in step 2 that falls by epoch or round ("l1"), ascent of the forget set's loss ("gradient_ascent"), or noise where the
diagonal Fisher information of the retain set is small ("fisher"). Pruned weights stay zero.
Deviations: in the paper the original model is pruned and trained under its masks before anybody asks to forget: "omp"
rewinds to an early epoch, "imp" does so in every round, "random" and "synflow" prune at initialization. Here the net
comes trained and dense, so there is nothing to rewind to, and it trains under the masks on the retain set only. With
"random" the same share of every layer is kept: if weights were drawn from all layers together, as in the official code,
a small first layer might lose all of its own. Tracks with a `[pruning]` section follow the paper's protocol: there the
masks that "omp" finds are the track's own, and EPOCHS = 0 leaves the unlearner alone.
The information is of single examples with a label drawn from the model, alpha as in Golatkar et al. 2020 for such; the
official code squares means over 32 examples with alpha 3e-8, gives surviving weights the mean variance of pruned ones,
and has rules of its own for the last layer.
"""

import copy
import math
from itertools import islice

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

# As published.
PRUNER = "omp"  # or "random", "synflow", "imp"
UNLEARNER = "finetune"  # or "gradient_ascent", "l1", "fisher"
SPARSITY = 0.95  # share of all convolution weights that is pruned
ITERATIONS = 100  # "synflow": prunings, of equal rate
PRUNE_RATE = 0.2  # "imp": share of the remaining weights a round prunes, at most
LEARNING_RATE = 0.01
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
L1_GAMMA = 1e-4  # "l1": weight of the sum of absolute weights at first, falling linearly
ASCENT_EPOCHS = 5  # "gradient_ascent": over the forget set
ASCENT_LEARNING_RATE = 1e-4
FISHER_ALPHA = 1e-6  # "fisher": variance of the noise is this over the Fisher information; Golatkar et al.
FISHER_MAX = 1e3  # largest value of 1 / Fisher information

# Ours: the source says nothing, or something else.
CHUNK = 32  # "fisher": examples whose gradients are held at once

# Adapted to small tracks and short limits.
EPOCHS = 8  # over the retain set; 10 in the source, which leaves no time for pruning in 10 % of 120 epochs


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Prune and train on the retain set, then unlearn; pruned weights stay zero."""
    if PRUNER not in ("omp", "random", "synflow", "imp"):
        raise ValueError(f"no pruner is called {PRUNER!r}")
    if UNLEARNER not in ("finetune", "gradient_ascent", "l1", "fisher"):
        raise ValueError(f"no unlearner is called {UNLEARNER!r}")

    masks = prune_in_rounds(net, retain_loader) if PRUNER == "imp" else prune_and_train(net, retain_loader)
    net.eval()
    if UNLEARNER == "gradient_ascent":
        ascend(net, masks, forget_loader)
    elif UNLEARNER == "fisher":
        add_fisher_noise(net, masks, retain_loader)
    return net


def prune_and_train(net, retain_loader):
    """Prune once, train on the retain set, and return the masks."""
    if PRUNER == "omp":
        masks = magnitude_masks(net, 1 - SPARSITY)
    elif PRUNER == "random":
        masks = random_masks(net)
    else:
        masks = synflow_masks(net, retain_loader.dataset[0][0])
    apply_masks(net, masks)
    optimizer = sgd(net, LEARNING_RATE)
    for epoch in range(EPOCHS):
        train(net, masks, optimizer, retain_loader, penalty=L1_GAMMA * (1 - epoch / EPOCHS))
    return masks


def prune_in_rounds(net, retain_loader):
    """Prune the smallest weights of all layers together, train, and again; return the last masks."""
    rounds = math.ceil(math.log(1 - SPARSITY) / math.log(1 - PRUNE_RATE))
    total = EPOCHS * len(retain_loader)  # steps, shared out over the rounds
    optimizer = sgd(net, LEARNING_RATE)
    batches = endless(retain_loader)
    for done in range(rounds):
        masks = magnitude_masks(net, (1 - SPARSITY) ** ((done + 1) / rounds))
        apply_masks(net, masks)
        steps = total * (done + 1) // rounds - total * done // rounds
        train(net, masks, optimizer, islice(batches, steps), penalty=L1_GAMMA * (1 - done / rounds))
    return masks


# ---- masks --------------------------------------------------------------------------------------------------------


def convolution_weights(net):
    """Return the weights that can be pruned: those of all convolutions."""
    return [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]


@torch.no_grad()
def apply_masks(net, masks):
    """Set pruned weights to zero."""
    for weight, mask in zip(convolution_weights(net), masks, strict=True):
        weight.mul_(mask)


def highest(scores, share):
    """Return masks in the shapes of the scores: 1 at the given share of all of them, the highest, 0 elsewhere."""
    flat = torch.cat([score.flatten() for score in scores])
    mask = torch.zeros_like(flat)
    mask[flat.topk(round(share * len(flat))).indices] = 1
    parts = mask.split([score.numel() for score in scores])
    return [part.view_as(score) for part, score in zip(parts, scores, strict=True)]


def magnitude_masks(net, share):
    """Return masks that leave a share of the weights, the largest of all layers together."""
    return highest([weight.detach().abs() for weight in convolution_weights(net)], share)


def random_masks(net):
    """Return masks that leave weights drawn at random, the same share of every layer up to one weight."""
    scores = []
    for weight in convolution_weights(net):
        ranks = torch.randperm(weight.numel(), device=weight.device) + torch.rand(1, device=weight.device)
        scores.append((ranks / weight.numel()).view_as(weight))
    return highest(scores, 1 - SPARSITY)


def synflow_masks(net, image):
    """Return masks that leave the weights of the largest share in the synaptic flow. image: (channels, height, width).

    The flow is the sum of the outputs for an input of ones, with every weight, bias and statistic replaced by its
    absolute value. In float64: products over many layers leave the range of float32.
    """
    flow = copy.deepcopy(net).double().eval()
    for value in flow.state_dict().values():
        value.abs_()
    weights = convolution_weights(flow)
    ones = torch.ones(1, *image.shape, dtype=torch.float64, device=weights[0].device)
    for iteration in range(1, ITERATIONS + 1):
        gradients = torch.autograd.grad(flow(ones).sum(), weights)
        scores = [(weight * gradient).detach() for weight, gradient in zip(weights, gradients, strict=True)]
        masks = highest(scores, (1 - SPARSITY) ** (iteration / ITERATIONS))
        apply_masks(flow, masks)
    return [mask.to(weight.dtype) for mask, weight in zip(masks, convolution_weights(net), strict=True)]


# ---- training and unlearning under the masks ----------------------------------------------------------------------


def train(net, masks, optimizer, batches, penalty):
    """Train what is left on some batches, with a penalty on its size if UNLEARNER is "l1"."""
    net.train()
    for images, labels in batches:
        if len(labels) == 1:  # BatchNorm cannot train on a single example
            continue
        loss = nn.functional.cross_entropy(net(images), labels)
        if UNLEARNER == "l1":
            loss = loss + penalty * sum(weight.abs().sum() for weight in net.parameters())
        step(optimizer, loss, net, masks)


def ascend(net, masks, forget_loader):
    """Ascend the loss of the forget set, with BatchNorm's running statistics kept."""
    optimizer = sgd(net, ASCENT_LEARNING_RATE)
    for _ in range(ASCENT_EPOCHS):
        for images, labels in forget_loader:
            step(optimizer, -nn.functional.cross_entropy(net(images), labels), net, masks)


def add_fisher_noise(net, masks, retain_loader):
    """Add noise to the weights, the more the less the retain set depends on them."""
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    buffers = dict(net.named_buffers())

    def loss(weights, image, label):
        logits = functional_call(net, (weights, buffers), (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    gradients_of_each = vmap(grad(loss), in_dims=(None, 0, 0))
    information = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = 0
    for images, _ in retain_loader:
        drawn = net(images).softmax(dim=1).multinomial(1)[:, 0]
        for chunk in zip(images.split(CHUNK), drawn.split(CHUNK), strict=True):
            for name, gradient in gradients_of_each(weights, *chunk).items():
                information[name] += gradient.square().sum(dim=0)
        count += len(images)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            variance = FISHER_ALPHA * (count / information[name]).clamp(max=FISHER_MAX)
            weight.add_(variance.sqrt() * torch.randn_like(weight))
    apply_masks(net, masks)


def sgd(net, learning_rate):
    """Return a new optimizer of the whole net."""
    return torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def step(optimizer, loss, net, masks):
    """Take one step down a loss under the masks."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    apply_masks(net, masks)


def endless(loader):
    """Yield the loader's batches, epoch after epoch."""
    while True:
        yield from loader
