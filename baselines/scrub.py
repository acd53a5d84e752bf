"""SCRUB: a student that disagrees with the original model on the forget set and agrees with it on the retain set.

Source: "Towards Unbounded Machine Unlearning" (Kurmanji et al., NeurIPS 2023, arXiv 2302.09880) and its official code
(meghdadk/SCRUB, `MIA_experiments.ipynb`, the one for privacy: 5 epochs of SGD at 5e-4, a tenth of it after the third,
in the first 3 of them a max-step; batches of 16 forget and 32 retain examples).
The notebooks for whole classes have EPOCHS = 3, MAX_EPOCHS = 2, ALPHA = 0.001, GAMMA = 0.99.

Steps: 1. keep a copy of the net as the teacher. 2. Per epoch: a max-step, one pass over the forget set that ascends the
divergence of the student from the teacher (first MAX_EPOCHS epochs only), then a min-step, one pass over the retain set
that descends ALPHA x divergence + GAMMA x cross-entropy.
Deviations: the rewinding of SCRUB+R is left out, since it compares errors with those of a held-out set of the forget
set's own kind. BN_MODE = "eval" keeps BatchNorm's running statistics in max-steps; the official code does not (its nets
were trained with BatchNorm switched off), and here the min-steps that follow repair them.
"""

import copy

import torch
from torch import nn

# As published.
EPOCHS = 5
MAX_EPOCHS = 3  # of them, from the first on, with a max-step
LEARNING_RATE = 5e-4
DECAY_AFTER = 3  # epochs, then a tenth of the learning rate
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
ALPHA = 0.5  # weight of the divergence in a min-step
GAMMA = 1.0  # weight of the cross-entropy in a min-step
TEMPERATURE = 4.0  # of both distributions in the divergence
BN_MODE = "train"  # of max-steps


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Alternate max-steps and min-steps."""
    assert BN_MODE in ("eval", "train"), BN_MODE
    teacher = copy.deepcopy(net).eval().requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[DECAY_AFTER])
    for epoch in range(EPOCHS):
        if epoch < MAX_EPOCHS:
            net.train(BN_MODE == "train")
            for images, labels in forget_loader:
                if len(labels) == 1 and BN_MODE == "train":  # BatchNorm cannot train on a single example
                    continue
                step(optimizer, max_loss(net(images), teacher(images)))
        net.train()
        for images, labels in retain_loader:
            if len(labels) == 1:  # BatchNorm cannot train on a single example
                continue
            step(optimizer, min_loss(net(images), teacher(images), labels))
        schedule.step()
    return net.eval()


def max_loss(student, teacher):
    """Return the loss of a max-step: the negative divergence. Both are logits (n, n_classes)."""
    return -divergence(student, teacher)


def min_loss(student, teacher, labels):
    """Return the loss of a min-step. Logits are (n, n_classes), labels (n,)."""
    return ALPHA * divergence(student, teacher) + GAMMA * nn.functional.cross_entropy(student, labels)


def divergence(student, teacher):
    """Return KL(teacher || student) at TEMPERATURE, mean over examples, times its square as in distillation."""
    log_student = (student / TEMPERATURE).log_softmax(dim=1)
    log_teacher = (teacher / TEMPERATURE).log_softmax(dim=1)
    return nn.functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * TEMPERATURE**2


def step(optimizer, loss):
    """Take one step down a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
