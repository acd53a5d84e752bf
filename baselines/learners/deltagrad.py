"""DeltaGrad: the training again without the forgotten examples, most gradients estimated from those of the first time.

Source: "DeltaGrad: Rapid Retraining of Machine Learning Models" (Wu, Dobriban and Davidson, ICML 2020) and its official
code (wuyinjun-1993/DeltaGrad, `src/main_delete.py`).

Training: plain SGD. The weights w_i and the gradient g_i of every step i are kept, WEIGHT_DECAY's part included.
Unlearning: the same steps from w_0, over the same batches without the forgotten examples. With u_i the weights on this
path, B examples in the batch, r of them forgotten:
1. In the first BURN_IN steps and in every PERIOD-th after them, the gradient of the other B - r is computed. A pair is
s = u_i - w_i and y = (gradient of all B at u_i) - g_i; the newest PAIRS of them stand for the Hessian, as in L-BFGS.
2. In the others the gradient of all B at u_i is taken to be g_i + H (u_i - w_i), H the compact form of L-BFGS, and only
that of the r forgotten ones is computed: the step is (B x the first - r x the second) / (B - r).
3. A batch of which nothing remains is no step.
Deviations: an example is put into its batch by a hash of seed, epoch and position, so that a training without the
forgotten examples has the same batches without them. Pairs without positive curvature are left out, and a step before
there is any pair is computed. All in float64.
For nets whose gradient is a mean over examples: no BatchNorm, no dropout. The paper's guarantee is for strongly convex
losses and few forgotten examples. The state takes 16 bytes for each step and weight.
"""

from collections import deque

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

# As published.
PERIOD = 5  # T0
BURN_IN = 20  # j0
PAIRS = 2  # m
LEAST_CURVATURE = 1e-3  # of the part of H that no pair speaks of

# Adapted to small tracks and short limits.
EPOCHS = 500
BATCHES = 1  # in an epoch; the source has 3 or 4 of 16,384, on which gradients differ less than on a few hundred
LEARNING_RATE = 0.2
WEIGHT_DECAY = 1e-3


def train(net, train_loader, val_loader):
    """Train by plain SGD, and keep every step."""
    net, seed = prepared(net), torch.randint(2**62, ())
    weights = parameters_to_vector(net.parameters()).detach().clone()
    steps = []
    for images, labels in batches(net, train_loader, seed):
        slope = gradient(net, weights, images, labels) if len(labels) else torch.zeros_like(weights)
        steps.append((weights, slope))
        weights = weights - LEARNING_RATE * slope
    vector_to_parameters(weights, net.parameters())
    return net, {"seed": seed} | kept(steps)


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Replay the training."""
    net = prepared(net)
    weights, path = replayed(net, retain_loader, forget_loader, state)
    vector_to_parameters(weights, net.parameters())
    return net, {"seed": state["seed"]} | path  # for what is to be forgotten next


def replayed(net, retain_loader, forget_loader, state):
    """Return the weights (n_weights,) at the end of a training without the forget set, and its steps by `kept`."""
    device = next(net.parameters()).device
    old = zip(state["weights"].to(device), state["gradients"].to(device), strict=True)
    remaining, gone = (batches(net, loader, state["seed"]) for loader in (retain_loader, forget_loader))
    weights, pairs, steps = state["weights"][0].to(device), deque(maxlen=PAIRS), []
    for step, ((old_weights, old_slope), retain, forget) in enumerate(zip(old, remaining, gone, strict=True)):
        n_retain, n_forget = len(retain[1]), len(forget[1])
        if n_retain == 0:
            steps.append((weights, torch.zeros_like(weights)))
            continue
        moved = weights - old_weights
        slope_of_forget = gradient(net, weights, *forget) if n_forget else torch.zeros_like(weights)
        if is_exact(step) or not pairs:
            slope = gradient(net, weights, *retain)
            slope_of_all = (n_retain * slope + n_forget * slope_of_forget) / (n_retain + n_forget)
            remember(pairs, moved, slope_of_all - old_slope)
        else:
            slope_of_all = old_slope + hessian_product(pairs, moved)
            slope = ((n_retain + n_forget) * slope_of_all - n_forget * slope_of_forget) / n_retain
        steps.append((weights, slope))
        weights = weights - LEARNING_RATE * slope
    return weights, kept(steps)


def kept(steps):
    """Return the weights and gradients of all steps, each (n_steps, n_weights), by name."""
    visited, slopes = (torch.stack(parts) for parts in zip(*steps, strict=True))
    return {"weights": visited, "gradients": slopes}


def is_exact(step):
    """Return whether the gradient of a step is computed."""
    return step < BURN_IN or (step - BURN_IN) % PERIOD == 0


# ---- the Hessian --------------------------------------------------------------------------------------------------


def remember(pairs, moved, change):
    """Add a pair: how far the weights are apart, and how much the gradients of the same examples differ."""
    if moved.dot(change) > 0:
        pairs.append((moved, change))


def hessian_product(pairs, vector):
    """Return H vector, H the compact form of BFGS (Byrd, Nocedal and Schnabel 1994, theorem 2.3)."""
    s, y = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    products = s @ y.T
    sigma = max(products[-1, -1] / s[-1].dot(s[-1]), LEAST_CURVATURE)
    lower = products.tril(-1)
    middle = torch.cat(
        [
            torch.cat([-products.diag().diag(), lower.T], dim=1),
            torch.cat([lower, sigma * s @ s.T], dim=1),
        ]
    )
    outer = torch.cat([y, sigma * s])
    return sigma * vector - outer.T @ torch.linalg.solve(middle, outer @ vector)


# ---- gradients and batches ----------------------------------------------------------------------------------------


def prepared(net):
    """Return the net in float64. Raises ValueError for one whose gradient is not a mean over examples."""
    unfit = nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd
    if any(isinstance(module, unfit) for module in net.modules()):
        raise ValueError("DeltaGrad adds and subtracts gradients of single examples: no BatchNorm, no dropout")
    return net.double()


def gradient(net, weights, images, labels):
    """Return the gradient (n_weights,) of the mean loss over some examples, with the weight decay's part."""
    vector_to_parameters(weights, net.parameters())
    loss = nn.functional.cross_entropy(net(images), labels)
    slopes = torch.autograd.grad(loss, list(net.parameters()))
    return parameters_to_vector(slopes) + WEIGHT_DECAY * weights


def batches(net, loader, seed):
    """Yield images and labels of every step, of those examples of its batch that the loader has, by their position."""
    data, device = loader.dataset, next(net.parameters()).device
    order = data.ids.argsort()
    images, labels = data.inputs[order].double().to(device), data.labels[order].to(device)
    for epoch in range(EPOCHS):
        batch_of = hashed(int(seed), epoch, data.ids[order].numpy()) % BATCHES
        for batch in range(BATCHES):
            rows = torch.from_numpy(np.flatnonzero(batch_of == batch)).to(device)
            yield images[rows], labels[rows]


def hashed(seed, epoch, ids):
    """Return a hash (n,) uint64 of seed, epoch and each id."""
    return mixed(mixed(mixed(np.array([seed])) + np.uint64(epoch)) + ids.astype(np.uint64))


def mixed(values):
    """Return a permutation of 64-bit integers that looks random: that of splitmix64 (Steele et al. 2014)."""
    values = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
