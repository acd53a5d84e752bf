"""Flatten the forget set's predictions, then alternate a contrastive push with training on the retain set.

Source: first place of the 2023 NeurIPS challenge, fanchuan; the author's notebook (copy in
YoungheeGo/MachineUnlearning, `1st-place-solution.ipynb`) and write-up (Kaggle discussion 458721).

Steps:
1. One epoch over the forget set: minimise KL(uniform || prediction).
2. EPOCHS times: a forget round, which makes the logits of each forgotten example equally similar to those of all
   examples of a retain batch (contrastive loss on raw logits, plain dot product), then a retain round of cross-entropy.
Deviations: on a small track the retain batches are the track's own, and the learning rates grow by the missing images;
the rule is at the end of the file.
"""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader

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
    contrast = batches(retain_loader, RETAIN_BATCH_SIZE)
    retain = batches(retain_loader, retain_batch_size(retain_loader))
    forget_factor = missing(forget_loader, FORGET_EPOCH_IMAGES)
    retain_factor = missing(retain_loader, RETAIN_EPOCH_IMAGES) * retain.batch_size / RETAIN_BATCH_SIZE
    flatten_optimizer = sgd(net, FLATTEN_LEARNING_RATE * forget_factor)
    forget_optimizer = sgd(net, FORGET_LEARNING_RATE * forget_factor)
    retain_optimizer = sgd(net, RETAIN_LEARNING_RATE * retain_factor, weight_decay=RETAIN_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        forget_optimizer, T_max=EPOCHS * min(len(forget), len(contrast)), eta_min=FORGET_LEARNING_RATE_END
    )

    net.train()
    for images, _ in forget:
        step(flatten_optimizer, divergence_from_uniform(net(images)))
    for _ in range(EPOCHS):
        for (forgotten, _), (retained, _) in zip(forget, contrast, strict=False):  # ends with the shorter one
            forget_logits = net(forgotten)
            with torch.no_grad():
                retain_logits = net(retained)
            step(forget_optimizer, contrastive_loss(forget_logits, retain_logits))
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


def batches(loader, batch_size):
    """Return a loader of the same examples in other batches.

    A last batch of one example, which BatchNorm refuses, is left out.
    """
    return DataLoader(
        loader.dataset,
        batch_size,
        shuffle=True,
        drop_last=len(loader.dataset) % batch_size == 1,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )


# ---- on small tracks ----------------------------------------------------------------------------------------------
# The recipe was made for 23,500 faces to retain and 480 to forget, in batches of 64. Where a track has fewer images in
# smaller batches, retained images come in those, and learning rates make up for the images that an epoch lacks. Every
# other track gets the published batches and learning rates.


def is_small(loader, epoch_images):
    """Say whether a loader has both fewer images and smaller batches than in the challenge."""
    return len(loader.dataset) < epoch_images and loader.batch_size < FORGET_BATCH_SIZE


def retain_batch_size(loader):
    """Return the source's batch size; of a small retain set the track's."""
    return loader.batch_size if is_small(loader, RETAIN_EPOCH_IMAGES) else RETAIN_BATCH_SIZE


def missing(loader, epoch_images):
    """Return how many times as many images an epoch had in the challenge; 1 unless the set is small."""
    return epoch_images / len(loader.dataset) if is_small(loader, epoch_images) else 1.0
