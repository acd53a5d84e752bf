"""Reset the last layers, then fine-tune on the retain set.

Source: the simplest of a family of 2023 challenge entries that re-draw some layers and train them again: the seventh
place resets the head, the sixth the head and the first layer. Here the head goes together with the stage before it,
where a memorized example leaves most of its trace.

Steps: 1. re-draw the weights of the last N_RESET top-level blocks of the net that have any. 2. Train the whole net on
the retain set with a cosine schedule.
"""

import torch
from torch import nn

# As published.
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Ours: the source says nothing, or something else.
N_RESET = 2  # of torchvision's ResNets: 1 is `fc`, 2 is `fc` and the last stage
EPOCHS = 8
LEARNING_RATE = 0.05


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Re-draw the last blocks, then train on the retain set."""
    blocks = [block for block in net.children() if any(True for _ in block.parameters())]
    for block in blocks[-N_RESET:]:
        reset(block)

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


def reset(block):
    """Draw the weights of all layers of a block anew, as PyTorch initialises them."""
    for layer in block.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
