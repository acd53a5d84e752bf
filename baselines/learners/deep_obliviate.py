"""DeepObliviate: train again from the block that lost an example, until its effect on later blocks levels off.

Source: "DeepObliviate: A Powerful Charm for Erasing Data Residual Memory in Deep Neural Networks" (He et al., arXiv
2105.06209). No code of the authors was found.

Steps of `train`: 1. cut the data into blocks, 2. train on one after the other, and keep the net after each.
Steps of `unlearn`: 1. put back the net from before the first block that loses examples. 2. Train on the blocks from
there on again, without them. 3. After each compare what the block changes with what it changed the first time: the l1
distance of the two is the residual memory. 4. Fit a x^-alpha + b to those from the last block that loses examples on,
x = 1, 2, ..., alpha being their exponent of detrended fluctuation analysis (DFA). 5. Stop where the slope of the fit is
below EPSILON. 6. Stitch: add what the later blocks changed the first time.

Approximate. With EPSILON = 0 all later blocks are trained again, and it is exact.
Deviations: the block and the batches of an example are hashes of a seed and its id, so that parts shrink and never
move. The source asks for one block that loses examples; here nothing stops before the last of several. Fewer than
DFA_VALUES values have their alpha from least squares too, and three are the fewest. Momentum is kept with each net.
Only parameters are stitched: statistics of BatchNorm are those after the last block, trained again or not.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import nn

# As published.
EPSILON = 0.1  # of l1 distance, from block to block; the other setting of the source is the smallest that stops

# Ours: the source says nothing, or something else.
DFA_VALUES = 15  # from so many on
MAX_ALPHA = 10.0  # where it is fitted
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Adapted to small tracks and short limits.
BLOCKS = 20
EPOCHS = 15  # over each block
BATCHES = 2  # in an epoch
LEARNING_RATE = 0.01


def train(net, train_loader, val_loader):
    """Train on one block after the other, and keep the net before the first and after each."""
    seed, optimizer = torch.randint(2**62, ()), fresh_optimizer(net)
    nets = [snapshot(net, optimizer)]
    for block in range(BLOCKS):
        train_block(net, optimizer, block, train_loader.dataset, int(seed))
        nets.append(snapshot(net, optimizer))
    return net, {"seed": seed} | {name: torch.stack([kept[name] for kept in nets]) for name in nets[0]}


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Train on the blocks from the first that loses examples on, until the residual memory levels off; stitch."""
    seed, optimizer = int(state["seed"]), fresh_optimizer(net)
    hit = parts(forget_loader.dataset.ids, BLOCKS, seed, "block")
    before, residuals = state["parameters"].clone(), []
    first, last = int(hit.min()), int(hit.max())
    put_back(net, optimizer, {name: state[name][first] for name in ("parameters", "velocity", "buffers")})
    for block in range(first, BLOCKS):
        train_block(net, optimizer, block, retain_loader.dataset, seed)
        for name, value in snapshot(net, optimizer).items():
            state[name][block + 1] = value
        if block >= last:
            residuals.append(residual_memory(before, state["parameters"], block))
            if len(residuals) >= 3 and abs(slope(residuals)) < EPSILON:
                break
    state["parameters"][BLOCKS] = stitched(before, state["parameters"], block)
    put_back(net, optimizer, {name: state[name][BLOCKS] for name in ("parameters", "buffers")})
    return net, state


def residual_memory(before, after, block):
    """Return by how much what a block changes differs from before; before, after: parameters (BLOCKS + 1, n)."""
    changed_before, changed = before[block + 1] - before[block], after[block + 1] - after[block]
    return float((changed_before - changed).double().abs().sum())


def stitched(before, after, block):
    """Return the parameters (n,) after a block, with what all later ones changed before."""
    if block == BLOCKS - 1:
        return after[BLOCKS]
    return before[BLOCKS] + (after[block + 1] - before[block + 1])  # just `before` if nothing was forgotten


# ---- where the residual memory levels off -------------------------------------------------------------------------


def slope(residuals):
    """Return the slope of a x^-alpha + b, fitted to values at x = 1, 2, ..., at the last of them."""
    alpha = dfa_exponent(residuals) if len(residuals) >= DFA_VALUES else fitted_alpha(residuals)
    a, _ = fit(residuals, alpha)
    return -a * alpha * len(residuals) ** (-alpha - 1)


def fit(values, alpha):
    """Return a and b of a x^-alpha + b, by least squares on values at x = 1, 2, ..."""
    return np.linalg.lstsq(powers(values, alpha), np.array(values), rcond=None)[0]


def powers(values, alpha):
    """Return x^-alpha and 1 (n, 2) for values at x = 1, 2, ..."""
    x = np.arange(1, len(values) + 1)
    return np.stack([x**-alpha, np.ones(len(x))], axis=1)


def fitted_alpha(values):
    """Return the exponent alpha whose fit is the closest."""

    def distance(alpha):
        return np.sum((powers(values, alpha) @ fit(values, alpha) - values) ** 2)

    return minimize_scalar(distance, bounds=(0, MAX_ALPHA), method="bounded", options={"xatol": 1e-10}).x


def dfa_exponent(values):
    """Return the exponent of detrended fluctuation analysis (Peng et al. 1994): that of fluctuation against window."""
    profile = np.cumsum(np.array(values) - np.mean(values))
    sizes = np.unique(np.geomspace(4, len(values) // 2, 20).astype(int))
    fluctuations = [fluctuation(profile, size) for size in sizes]
    return np.polyfit(np.log(sizes), np.log(np.maximum(fluctuations, np.finfo(float).tiny)), 1)[0]


def fluctuation(profile, size):
    """Return the root mean square of a profile about the lines that fit it in windows of a size."""
    windows = profile[: len(profile) // size * size].reshape(-1, size).T
    x = np.arange(size)
    gradient, offset = np.polyfit(x, windows, 1)
    return np.sqrt(np.mean((windows - np.outer(x, gradient) - offset) ** 2))


# ---- a block ------------------------------------------------------------------------------------------------------


def train_block(net, optimizer, block, dataset, seed):
    """Train a net on the examples of a data set that are in a block."""
    (rows,) = torch.where(parts(dataset.ids, BLOCKS, seed, "block") == block)
    rows = rows[dataset.ids[rows].argsort()]  # sums are rounded the same whatever order the data set is in
    device = next(net.parameters()).device
    ids, inputs, labels = dataset.ids[rows], dataset.inputs[rows].to(device), dataset.labels[rows].to(device)
    torch.manual_seed(int(generator(seed, "layers", block).integers(2**62)))  # for layers such as dropout
    net.train()
    for epoch in range(EPOCHS):
        batch_of = parts(ids, BATCHES, seed, "batch", block, epoch)
        for number in range(BATCHES):
            (batch,) = torch.where(batch_of == number)
            if len(batch) < 2:  # BatchNorm cannot train on a single example
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    net.eval()


def parts(ids, n_parts, seed, purpose, *places):
    """Return the part of each example (n,): a hash of its id, whatever other examples there are."""
    drawn = generator(seed, purpose, *places).random(max(ids.tolist(), default=0) + 1)
    return (n_parts * torch.from_numpy(drawn)[ids]).long()


def generator(seed, purpose, *places):
    """Return a source of random numbers, which are the same whenever they are drawn for the same purpose and place."""
    return np.random.default_rng([seed, *purpose.encode(), *places])


# ---- a net as vectors ---------------------------------------------------------------------------------------------


def fresh_optimizer(net):
    """Return an optimizer without momentum as yet."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for parameter in net.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def tensors_of(net, optimizer):
    """Return the tensors that are kept of a net and its optimizer, by name."""
    return {
        "parameters": list(net.parameters()),
        "velocity": [optimizer.state[parameter]["momentum_buffer"] for parameter in net.parameters()],
        "buffers": [buffer for buffer in net.buffers() if buffer.is_floating_point()],
    }


@torch.no_grad()
def snapshot(net, optimizer):
    """Return a net and its optimizer as vectors on the CPU, by name."""
    kept = tensors_of(net, optimizer)
    return {name: torch.cat([torch.zeros(0), *(tensor.flatten().cpu() for tensor in kept[name])]) for name in kept}


@torch.no_grad()
def put_back(net, optimizer, vectors):
    """Set a net and its optimizer to the vectors of a snapshot, or to some of them."""
    kept = tensors_of(net, optimizer)
    for name, vector in vectors.items():
        values = vector.split([tensor.numel() for tensor in kept[name]])
        for tensor, value in zip(kept[name], values, strict=True):
            tensor.copy_(value.view_as(tensor))
