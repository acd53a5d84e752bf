"""A submission to start from: copy this file, change `unlearn`, and type

    harness check submissions/my_method.py
    harness evaluate submissions/my_method.py

The contract is one page: harness/contract.py. As it stands this fine-tunes on the retain set for a few epochs.
"""

import torch
from torch import nn

# Constants in capitals can be set from the command line: harness evaluate submissions/template.py --set EPOCHS=3
EPOCHS = 4
LEARNING_RATE = 0.1


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Make `net` forget the examples of `forget_loader`; return it, or None if it was changed in place."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()  # it arrives in eval mode
    for _ in range(EPOCHS):
        for images, labels in retain_loader:
            if len(labels) == 1:  # BatchNorm cannot train on a single example
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
        schedule.step()
    return net.eval()
