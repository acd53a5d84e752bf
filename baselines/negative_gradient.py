"""Negative gradient with a retain term (NegGrad+): descend on the retain set while ascending on the forget set.

Source: "Towards Unbounded Machine Unlearning" (Kurmanji et al., NeurIPS 2023), baseline NegGrad, and its official code
(meghdadk/SCRUB, `MIA_experiments.ipynb`): 5 epochs of plain SGD at 0.01, retain batches of 32 against forget batches
of 16, weight of the retain term 0.9999.

Steps: 1. go through the retain set, and round and round the forget set beside it. 2. For each pair of batches descend
RETAIN_WEIGHT * loss(retain) - (1 - RETAIN_WEIGHT) * loss(forget).
Deviations: batches are those of the track's loaders.
"""

import torch
from torch import nn

# As published.
EPOCHS = 5  # over the retain set
LEARNING_RATE = 0.01  # constant
MOMENTUM = 0.0
WEIGHT_DECAY = 0.0
RETAIN_WEIGHT = 0.9999  # share of the retain term in the loss; 1 is fine-tuning


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Descend the loss of the retain set and ascend that of the forget set, batch by batch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    forget_batches = endless(forget_loader)
    net.train()
    for _ in range(EPOCHS):
        for retain_images, retain_labels in retain_loader:
            forget_images, forget_labels = next(forget_batches)
            if min(len(retain_labels), len(forget_labels)) == 1:  # BatchNorm cannot train on a single example
                continue
            optimizer.zero_grad()
            retain_loss = nn.functional.cross_entropy(net(retain_images), retain_labels)
            forget_loss = nn.functional.cross_entropy(net(forget_images), forget_labels)
            (RETAIN_WEIGHT * retain_loss - (1 - RETAIN_WEIGHT) * forget_loss).backward()
            optimizer.step()
    return net.eval()


def endless(loader):
    """Yield the batches of a loader again and again, shuffled anew each time."""
    while True:
        yield from loader
