"""Fine-tuning on the retain set: the organizers' baseline.

Source: the 2023 challenge's starting kit, `unlearning-CIFAR10.ipynb` (unlearning-challenge/starting-kit): 5 epochs of
SGD with learning rate 0.1, momentum 0.9, weight decay 5e-4 and a cosine schedule. The Kaggle starter notebook does the
same for 1 epoch at 0.001 (`--set EPOCHS=1 --set LEARNING_RATE=0.001`). Method FT of the sparsity paper, 10 epochs at a
constant 0.01, is `l1_sparse.py` with GAMMA = 0.

Steps: 1. train on the retain set as usual. Forgetting is left to the net, which drifts from what it no longer sees.
"""

import torch
from torch import nn

# As published.
EPOCHS = 5  # over the retain set
LEARNING_RATE = 0.1  # at the start; cosine per epoch
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Train on the retain set for a few epochs."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for _ in range(EPOCHS):
        for images, labels in retain_loader:
            if len(labels) == 1:  # BatchNorm cannot train on a single example
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
        schedule.step()
    return net.eval()
