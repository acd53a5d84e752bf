"""Drown the first convolution in noise, then repair the net on the retain set.

Source: third place of the 2023 NeurIPS challenge, Seif Eddine Achour; the author's write-up (Kaggle discussion
459334), the organizers' slides, and the port in xcadet/deepunlearn (`munl/unlearning/kgltop3.py`).

Steps:
1. Add Gaussian noise of standard deviation 0.6 to the weights of the first convolution.
2. Train on the retain set with class-weighted cross-entropy; before the last epoch add noise of 0.005.
Deviations: balanced class weights instead of the faces' own (as in the port). In a net without BatchNorm, which would
absorb the scale, the noise is relative to the weights. A small track is read by the rule at the end of the file.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

# As published.
NOISE_STD = 0.6
LAST_NOISE_STD = 0.005
NOISY_LAYERS = "first"  # the port; "all": every convolution, as the write-up's words can be read
WEIGHTING = "batch"  # the port: mean loss x mean weight of the batch; "sample": the weighted mean of the losses
EPOCHS = 4
BATCH_SIZE = 64
LEARNING_RATE = 7e-4  # cosine per epoch
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Ours: the source says nothing, or something else.
CLASS_WEIGHTS = "balanced"  # as in the port; "faces": the author's, 1 for the first class and 0.05 for the others
STEM_STD = 0.025  # of the weights of the challenge's first convolution as torchvision draws them

# Adapted to small tracks and short limits.
EPOCH_PASSES = 1  # over a set in an epoch; more make up for the steps that sets smaller than the challenge's lack
EPOCH_IMAGES = 23_500  # of an epoch in the challenge, its retain set of faces
MAX_PASSES = 8  # over the retain set, in all; a tenth of a training of 120 epochs is 12
MAX_LEARNING_RATE = 0.1  # the starting kit's


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Add noise to the first convolution, then train on the retain set."""
    assert NOISY_LAYERS in ("first", "all"), NOISY_LAYERS
    assert CLASS_WEIGHTS in ("balanced", "faces"), CLASS_WEIGHTS
    assert WEIGHTING in ("batch", "sample"), WEIGHTING
    retain = epoch_loader(retain_loader, EPOCHS, EPOCH_IMAGES)
    weights = class_weights(net, retain_loader)

    add_noise(net, NOISE_STD)
    learning_rate = scaled(LEARNING_RATE, retain, EPOCH_IMAGES)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for epoch in range(EPOCHS):
        for images, labels in retain:
            optimizer.zero_grad()
            weighted_loss(net(images), labels, weights).backward()
            optimizer.step()
        if epoch == EPOCHS - 2:
            add_noise(net, LAST_NOISE_STD)
        schedule.step()
    return net.eval()


@torch.no_grad()
def add_noise(net, std):
    """Add Gaussian noise to the weights of the first convolution, or of all."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    if not layers:
        raise ValueError("this recipe adds noise to convolutions, and the net has none")
    is_normalised = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules())
    for layer in layers if NOISY_LAYERS == "all" else layers[:1]:
        unit = 1.0 if is_normalised else layer.weight.std() / STEM_STD
        layer.weight += std * unit * torch.randn_like(layer.weight)


def class_weights(net, loader):
    """Return a weight per class (n_classes,): n / (classes present x n_c) of the retain set, 1 for absent classes."""
    with torch.no_grad():
        n_classes = net(next(iter(loader))[0]).shape[1]
    labels = torch.cat([labels for _, labels in loader])
    if CLASS_WEIGHTS == "faces":
        weights = torch.full((n_classes,), 0.05, device=labels.device)
        weights[0] = 1.0
        return weights
    counts = labels.bincount(minlength=n_classes)
    return torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts.clamp(min=1)), 1.0)


def weighted_loss(logits, labels, weights):
    """Return the class-weighted cross-entropy of a batch."""
    if WEIGHTING == "sample":
        return nn.functional.cross_entropy(logits, labels, weight=weights)
    return nn.functional.cross_entropy(logits, labels) * weights[labels].mean()


# ---- on small tracks (the same in every file) ---------------------------------------------------------------------
# The recipes were made for 23,500 faces in batches of 64. A track of fewer images in smaller batches is read in those,
# several times an epoch and MAX_PASSES times in all, and the learning rate makes up for the images that an epoch still
# lacks. Every other track gets the published batches, passes and learning rates.


def epoch_loader(loader, epochs, epoch_images):
    """Return a loader of the same examples in the source's batches; a small set is drawn several times an epoch.

    epochs: how many the loader is for. epoch_images: images of an epoch in the challenge; a set with fewer, in smaller
    batches, is small. A last batch of one example, which BatchNorm refuses, is left out.
    """
    n_drawn, batch_size = int(EPOCH_PASSES * len(loader.dataset)), BATCH_SIZE
    if len(loader.dataset) < epoch_images and loader.batch_size < BATCH_SIZE:
        n_drawn = max(n_drawn, min(epoch_images, int(len(loader.dataset) * MAX_PASSES / epochs)))
        batch_size = loader.batch_size
    return DataLoader(
        loader.dataset,
        batch_size,
        sampler=RandomSampler(loader.dataset, num_samples=n_drawn),
        drop_last=n_drawn % batch_size == 1,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )


def scaled(learning_rate, loader, epoch_images):
    """Return a learning rate as published, or for the smaller batches of an epoch loader and the images it lacks."""
    if loader.batch_size == BATCH_SIZE:
        return learning_rate
    missing = max(1.0, epoch_images / len(loader.sampler))
    return min(MAX_LEARNING_RATE, learning_rate * missing * loader.batch_size / BATCH_SIZE)
