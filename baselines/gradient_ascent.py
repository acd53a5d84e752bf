"""Gradient ascent on the forget set: training backwards.

Source: "Model Sparsity Can Simplify Machine Unlearning" (Jia et al., NeurIPS 2023), method GA, and its official code
(OPTML-Group/Unlearn-Sparse, `unlearn/GA.py`): SGD with momentum 0.9 and weight decay 5e-4 on the negated loss of the
forget set, 5 epochs, learning rate 1e-4 (the authors' older script: 1e-3).

Steps: 1. ascend the loss of the forget set. The retain set is never read.
Deviations: BatchNorm's running statistics are kept (BN_MODE = "eval"), since those of the forget set alone would spoil
them; BN_MODE = "train" is the official code's way.
"""

import torch
from torch import nn

# As published.
EPOCHS = 5  # over the forget set
LEARNING_RATE = 1e-4  # constant
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Ours: the source says nothing, or something else.
BN_MODE = "eval"  # "train" in the source


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Ascend the loss of the forget set for a few epochs."""
    assert BN_MODE in ("eval", "train"), BN_MODE
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train(BN_MODE == "train")
    for _ in range(EPOCHS):
        for images, labels in forget_loader:
            if BN_MODE == "train" and len(labels) == 1:  # BatchNorm cannot train on a single example
                continue
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images), labels)
            (-loss).backward()
            optimizer.step()
    return net.eval()
