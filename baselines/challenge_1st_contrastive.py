"""Flatten the forget set's predictions, then alternate a contrastive push with training on the retain set.

Source: first place of the 2023 NeurIPS challenge, fanchuan; the author's notebook (copy in
YoungheeGo/MachineUnlearning, `1st-place-solution.ipynb`) and write-up (Kaggle discussion 458721).

Steps:
1. One epoch over the forget set: minimise KL(uniform || prediction).
2. EPOCHS times: a forget round, which makes the logits of each forgotten example equally similar to those of all
   examples of a retain batch (contrastive loss on raw logits, plain dot product), then a retain round of cross-entropy.
Deviations: a forget set of more than a fifth of the training set is read to its end, where the source stops at the end
of the retain set. On a small track the retain batches are the track's own if those are smaller, and the learning rates
grow by the missing images.
"""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

# As published.
EPOCHS = 8  # of step 2
FORGET_BATCH_SIZE = 64
RETAIN_BATCH_SIZE = 256
FLATTEN_LEARNING_RATE = 5e-3  # step 1
FORGET_LEARNING_RATE = 3e-4  # step 2, cosine per update
FORGET_LEARNING_RATE_END = 1e-6
RETAIN_LEARNING_RATE = 1e-3 * 256 / 64  # step 2, constant
RETAIN_WEIGHT_DECAY = 1e-2  # none on the forget set
MOMENTUM = 0.9
TEMPERATURE = 1.15

# Adapted to small tracks and short limits.
FORGET_EPOCH_IMAGES = 480  # of an epoch in the challenge, its forget set of faces
RETAIN_EPOCH_IMAGES = 23_500  # likewise, its retain set
MAX_LEARNING_RATE = 0.1  # the starting kit's


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Flatten the predictions on the forget set, then alternate forget and retain rounds."""
    forget = batches(forget_loader, FORGET_BATCH_SIZE)
    contrast = batches(retain_loader, RETAIN_BATCH_SIZE, n_drawn=len(forget) * RETAIN_BATCH_SIZE)
    retain = batches(retain_loader, retain_batch_size(retain_loader))
    forget_factor = max(1.0, FORGET_EPOCH_IMAGES / len(forget.dataset))
    retain_factor = max(1.0, RETAIN_EPOCH_IMAGES / len(retain.dataset)) * retain.batch_size / RETAIN_BATCH_SIZE
    flatten_optimizer = sgd(net, FLATTEN_LEARNING_RATE * forget_factor)
    forget_optimizer = sgd(net, FORGET_LEARNING_RATE * forget_factor)
    retain_optimizer = sgd(net, RETAIN_LEARNING_RATE * retain_factor, weight_decay=RETAIN_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        forget_optimizer, T_max=EPOCHS * len(forget), eta_min=FORGET_LEARNING_RATE_END
    )

    net.train()
    for images, _ in forget:
        step(flatten_optimizer, divergence_from_uniform(net(images)))
    for _ in range(EPOCHS):
        for (forgotten, _), (retained, _) in zip(forget, contrast, strict=True):
            with torch.no_grad():
                retained_logits = net(retained)
            step(forget_optimizer, contrastive_loss(net(forgotten), retained_logits))
            schedule.step()
        for images, labels in retain:
            step(retain_optimizer, nn.functional.cross_entropy(net(images), labels))
    return net.eval()


def divergence_from_uniform(logits):
    """Return KL(uniform || softmax(logits)) in nats, averaged over the batch."""
    return -math.log(logits.shape[1]) - logits.log_softmax(dim=1).mean()


def contrastive_loss(forget_logits, retain_logits):
    """Return the mean of -log softmax over retained examples of the similarities; least where all are equal.

    forget_logits: (n_forget, n_classes); retain_logits: (n_retain, n_classes).
    """
    similarities = forget_logits @ retain_logits.T / TEMPERATURE
    return -similarities.log_softmax(dim=1).mean()


def sgd(net, learning_rate, weight_decay=0.0):
    """Return an optimizer of the whole net."""
    learning_rate = min(MAX_LEARNING_RATE, learning_rate)
    return torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=weight_decay)


def step(optimizer, loss):
    """Make one update."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def batches(loader, batch_size, n_drawn=None):
    """Return a loader of the same examples in other batches, which ends after n_drawn examples (default: all once).

    A last batch of one example, which BatchNorm refuses, is left out.
    """
    n_drawn = n_drawn or len(loader.dataset)
    return DataLoader(
        loader.dataset,
        batch_size,
        sampler=RandomSampler(loader.dataset, num_samples=n_drawn),
        drop_last=n_drawn % batch_size == 1,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )


# ---- on small tracks ----------------------------------------------------------------------------------------------


def retain_batch_size(loader):
    """Return the source's batch size; of a small retain set the track's, if smaller."""
    is_small = len(loader.dataset) < RETAIN_EPOCH_IMAGES
    return min(loader.batch_size, RETAIN_BATCH_SIZE) if is_small else RETAIN_BATCH_SIZE
