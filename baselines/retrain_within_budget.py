"""Retrain from scratch for as long as the time limit allows.

Source: Retrain, the reference of every unlearning paper (method `retrain` of OPTML-Group/Unlearn-Sparse: 160 epochs of
SGD from 0.1 with momentum 0.9, weight decay 5e-4), cut short.

Steps: 1. draw all weights anew. 2. Train on the retain set with a cosine schedule that ends when the budget does, or
after EPOCHS if that comes first. The forget set is never read.
Deviations: the schedule is a cosine, as short trainings have it, in place of steps at epochs 91 and 136. How many
epochs fit is measured while training, so the result depends on the clock and a repeated run differs a little.
This is the only baseline that reads the limit.
"""

import math
import os
import time

import torch
from torch import nn

# As published.
EPOCHS = 160  # over the retain set, at most
LEARNING_RATE = 0.1  # at the start; cosine per epoch
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Adapted to small tracks and short limits.
STARTED = time.monotonic()  # the file is read after the clock has started
BUDGET = 0.8  # share of the limit to be used; the rest is for starting, returning the weights, and bad luck


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Train the net from scratch within the time limit."""
    deadline = STARTED + BUDGET * float(os.environ["UNLEARN_TIME_LIMIT_SECONDS"])
    reinitialize(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    epoch, left = 0, EPOCHS
    while left > 0:
        progress = epoch / (epoch + left)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * progress)) / 2
        seconds = train_epoch(net, retain_loader, optimizer, deadline)
        epoch += 1
        left = min(EPOCHS - epoch, int((deadline - time.monotonic()) / seconds))
    return net.eval()


def train_epoch(net, loader, optimizer, deadline):
    """Train for one epoch, or until the deadline, and return the seconds it took."""
    started = time.monotonic()
    for images, labels in loader:
        if len(labels) == 1:  # BatchNorm cannot train on a single example
            continue
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the GPU, so that the clock tells the truth
        if time.monotonic() > deadline:
            break
    return time.monotonic() - started


def reinitialize(net):
    """Draw the weights of all layers anew: convolutions as torchvision's ResNets do, the rest as PyTorch does."""
    for layer in net.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
