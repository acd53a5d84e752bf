"""SISA: nets trained apart on shards of the data, slice by slice, so that few trainings saw what is to be forgotten.

Source: "Machine Unlearning" (Bourtoule et al., IEEE S&P 2021) and its code (cleverhans-lab/machine-unlearning):
sharded, isolated, sliced, aggregated.

Steps of `train`, for each shard: 1. train a net on its first slice, 2. then on the first two, and so on, until it is
trained on all of them. The weights before each of these stages are kept.
Steps of `unlearn`, for each shard that loses examples: 1. put back the weights from before the stage in which the first
of them came in. 2. Train that stage and the later ones again, without them. Other shards stay as they are.
The model's output is the mean of the nets' probabilities, one of the two rules of the paper; the default of its code is
the other, a majority of their votes.

Exact, for requests that do not depend on the models: what comes out is what training without the examples makes.
Deviations: the code cuts the data by position, and without some examples it would cut elsewhere. Here the shard, the
slice and the batches of an example are hashes of a seed and its id, so that parts shrink and never move. The code
looks for deleted examples in whole slices only, and so misses those after the last one. All nets start from the same
weights. As in the code, each stage has a new optimizer.
"""

import copy

import numpy as np
import torch
from torch import nn

# Ours: the source says nothing, or something else.
MOMENTUM = 0.9  # the source has none
WEIGHT_DECAY = 5e-4  # the source has none

# Adapted to small tracks and short limits.
SHARDS = 8
SLICES = 4  # in a shard; the source's code has 1
EPOCHS = 40  # of a shard, in all stages together; the source has 20
BATCHES = 1  # in an epoch, for each slice that is trained on; the source has batches of 16
LEARNING_RATE = 0.02  # the source has 0.001


def train(net, train_loader, val_loader):
    """Train a net for each shard, and keep the weights before each stage."""
    state = {"seed": torch.randint(2**62, ())}
    nets = [copy.deepcopy(net) for _ in range(SHARDS)]
    for shard, member in enumerate(nets):
        train_stages(0, member, shard, train_loader.dataset, state)
    return nets, state


def unlearn(nets, retain_loader, forget_loader, val_loader, state):
    """Train the shards that lose examples again, from the first stage that saw one of them."""
    shards, slices = places(forget_loader.dataset.ids, state)
    for shard, net in enumerate(nets):
        hit = slices[shards == shard]
        if len(hit):
            first = int(hit.min())
            net.load_state_dict({name: state[f"{shard}.{first}.{name}"] for name in net.state_dict()})
            train_stages(first, net, shard, retain_loader.dataset, state)
    return nets, state


def train_stages(first, net, shard, dataset, state):
    """Train the net of a shard from a stage on; the weights before each stage go into the state."""
    shards, slices = places(dataset.ids, state)
    for stage in range(first, SLICES):
        state |= {f"{shard}.{stage}.{name}": value.clone() for name, value in net.state_dict().items()}
        (rows,) = torch.where((shards == shard) & (slices <= stage))
        train_stage(net, shard, stage, dataset, rows, state)


def train_stage(net, shard, stage, dataset, rows, state):
    """Train a net on some rows of the data set, for the epochs of a stage."""
    device = next(net.parameters()).device
    rows = rows[dataset.ids[rows].argsort()]  # sums are rounded the same whatever order the data set is in
    ids, inputs, labels = dataset.ids[rows], dataset.inputs[rows].to(device), dataset.labels[rows].to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    torch.manual_seed(int(generator(state, "layers", shard, stage).integers(2**62)))  # for layers such as dropout
    net.train()
    for epoch in range(epochs(stage)):
        batch_of = parts(ids, BATCHES * (stage + 1), state, "batch", stage, epoch)
        for number in range(BATCHES * (stage + 1)):
            (batch,) = torch.where(batch_of == number)
            if len(batch) < 2:  # BatchNorm cannot train on a single example
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    net.eval()


def epochs(stage):
    """Return the epochs of a stage; all stages together make as many passes over the examples as EPOCHS over all."""
    share = 2 * EPOCHS / (SLICES + 1)
    n_epochs = int((stage + 1) * share) - int(stage * share)
    if n_epochs == 0:
        raise ValueError(f"no epoch is left for stage {stage} of {SLICES}: set EPOCHS to more than {EPOCHS}")
    return n_epochs


# ---- parts that shrink and never move -----------------------------------------------------------------------------


def places(ids, state):
    """Return the shard and the slice of each example, (n,) both."""
    return parts(ids, SHARDS, state, "shard"), parts(ids, SLICES, state, "slice")


def parts(ids, n_parts, state, purpose, *places):
    """Return the part of each example (n,): a hash of its id, whatever other examples there are."""
    drawn = generator(state, purpose, *places).random(max(ids.tolist(), default=0) + 1)
    return (n_parts * torch.from_numpy(drawn)[ids]).long()


def generator(state, purpose, *places):
    """Return a source of random numbers, which are the same whenever they are drawn for the same purpose and place."""
    return np.random.default_rng([int(state["seed"]), *purpose.encode(), *places])
