"""Sparsity-aware unlearning (l1-sparse): fine-tune on the retain set under an l1 penalty that fades out.

Source: "Model Sparsity Can Simplify Machine Unlearning" (Jia et al., NeurIPS 2023), method l1-sparse, and its official
code (OPTML-Group/Unlearn-Sparse, `unlearn/FT.py`, `FT_l1`): 10 epochs of SGD at 0.01 on loss + gamma * ||weights||_1,
the norm taken over all parameters, gamma 1e-4 (the authors' script). Of the three schedules for gamma the paper finds
the linearly decaying one best.

Steps: 1. set gamma for the epoch. 2. Train on the retain set, the penalty's subgradient gamma * sign(weight) added to
the gradient.
Deviations: the official code reaches the constant schedule through a special case only; here it is a choice.
The penalty pulls weights towards zero and, as SGD takes no proximal step, leaves none exactly there.
GAMMA = 0 is method FT of the same paper, bit for bit.
"""

import torch
from torch import nn

# As published.
EPOCHS = 10  # over the retain set
LEARNING_RATE = 0.01  # constant
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
GAMMA = 1e-4  # weight of the l1 norm; the official argument's default, 0.2, crushes any net
SCHEDULE = "decaying"  # "decaying", "growing" or "constant"
EPOCHS_WITHOUT_PENALTY = 0  # at the end


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Train on the retain set under the penalty's schedule."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    for gamma in gammas():
        for images, labels in retain_loader:
            if len(labels) == 1:  # BatchNorm cannot train on a single example
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            add_l1_gradient(net, gamma)
            optimizer.step()
    return net.eval()


def gammas():
    """Return the penalty of each epoch; E is the number of epochs that have one.

    decaying: GAMMA * (1, 1 - 1/E, ..., 1/E); growing: GAMMA * (0, 1/E, ..., 1 - 1/E); constant: GAMMA.
    """
    penalized = EPOCHS - EPOCHS_WITHOUT_PENALTY
    share = {
        "decaying": lambda epoch: 1 - epoch / penalized,
        "growing": lambda epoch: epoch / penalized,
        "constant": lambda epoch: 1.0,
    }[SCHEDULE]
    return [GAMMA * share(epoch) for epoch in range(penalized)] + [0.0] * EPOCHS_WITHOUT_PENALTY


def add_l1_gradient(net, gamma):
    """Add the gradient of gamma times the l1 norm of all parameters."""
    if gamma > 0:
        weights = list(net.parameters())
        signs = torch._foreach_sign([weight.detach() for weight in weights])
        torch._foreach_add_([weight.grad for weight in weights], signs, alpha=gamma)
