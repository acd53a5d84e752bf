"""Reset the classifier, train random tensors with noise added to some of them, then fine-tune everything.

Source: seventh place of the 2023 NeurIPS challenge, Jiaxi Sun; the author's write-up (Kaggle discussion 459095, the
strategy only), the organizers' slides, and the port in xcadet/deepunlearn (`munl/unlearning/kgltop7.py`, the numbers).

Steps:
1. Draw the classifier anew.
2. SELECTIVE_EPOCHS times: choose 9 of ResNet-18's 28 tensors that are not BatchNorm's, and train these and BatchNorm's
   only. From the second epoch on, pick 6 of the 9 and add noise to those of them that no earlier epoch chose.
3. FINE_EPOCHS times: train everything.
Deviations: BatchNorm's tensors are those with "bn" in their name, as in the source (which leaves out those of
projection shortcuts); in a net without such names, those of all BatchNorm layers. 9 of 28 is a ratio, and the noise is
scaled as the net's initial weights are to those of ResNet-18. A small track is read by the rule at the end of the file.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

# As published.
SELECTED_FRACTION = 9 / 28  # of the tensors that are not BatchNorm's
NOISY_FRACTION = 0.7  # of the selected
NOISE_STD = 0.04  # on ResNet-18
SELECTIVE_EPOCHS = 5  # the first without noise
SELECTIVE_LEARNING_RATE = 2e-4
FIRST_EPOCH = "selected"  # the port; "all": the first epoch trains the entire net, as the write-up says
FINE_EPOCHS = 4
FINE_LEARNING_RATES = (2e-4, 2e-4, 2e-4, 1e-3, 1e-3, 1e-4)  # one per epoch; the source uses the first four
BATCH_SIZE = 64
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Ours: the source says nothing, or something else.
RESNET18_INITIAL_STD = 1 / 24  # median over ResNet-18's kernels as torchvision draws them

# Adapted to small tracks and short limits.
EPOCH_PASSES = 1  # over a set in an epoch; more make up for the steps that sets smaller than the challenge's lack
EPOCH_IMAGES = 23_500  # of an epoch in the challenge, its retain set of faces
MAX_PASSES = 8  # over the retain set, in all; a tenth of a training of 120 epochs is 12
MAX_LEARNING_RATE = 0.1  # the starting kit's


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Reset the classifier, train random tensors with noise, then everything."""
    assert FIRST_EPOCH in ("selected", "all"), FIRST_EPOCH
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError("this recipe re-draws the last linear layer, and the net has none")
    linear[-1].reset_parameters()

    retain = epoch_loader(retain_loader, SELECTIVE_EPOCHS + FINE_EPOCHS, EPOCH_IMAGES)
    tensors = dict(net.named_parameters())
    normalisation = normalisation_names(net)
    candidates = [name for name in tensors if name not in normalisation]
    noise_std = NOISE_STD * initial_std(net) / RESNET18_INITIAL_STD
    chosen_before = set()
    net.train()
    for epoch in range(SELECTIVE_EPOCHS):
        selected = choose(candidates, round(SELECTED_FRACTION * len(candidates)))
        if epoch > 0:
            noisy = choose(selected, int(NOISY_FRACTION * len(selected)))
            add_noise([tensors[name] for name in noisy if name not in chosen_before], noise_std)
        chosen_before.update(selected)
        trainable = tensors if epoch == 0 and FIRST_EPOCH == "all" else normalisation.union(selected)
        train(net, retain, scaled(SELECTIVE_LEARNING_RATE, retain, EPOCH_IMAGES), trainable)
    for epoch in range(FINE_EPOCHS):
        train(net, retain, scaled(FINE_LEARNING_RATES[epoch], retain, EPOCH_IMAGES), trainable=tensors)
    return net.eval()


def normalisation_names(net):
    """Return the names of the tensors that are trained in every epoch."""
    by_name = {name for name, _ in net.named_parameters() if "bn" in name}
    return by_name or {
        f"{prefix}.{name}"
        for prefix, layer in net.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for name, _ in layer.named_parameters()
    }


def initial_std(net):
    """Return the median over the net's weights of the deviation they are first drawn with (Kaiming, fan out)."""
    fans_out = [tensor.shape[0] * tensor[0, 0].numel() for tensor in net.parameters() if tensor.dim() > 1]
    return float(np.median([math.sqrt(2 / fan_out) for fan_out in fans_out]))


def choose(names, count):
    """Return `count` of the names, drawn without replacement."""
    return np.random.choice(names, count, replace=False).tolist()


@torch.no_grad()
def add_noise(tensors, std):
    """Add Gaussian noise to tensors."""
    for tensor in tensors:
        tensor += std * torch.randn_like(tensor)


def train(net, loader, learning_rate, trainable):
    """Train the tensors of some names for an epoch, with an optimizer of its own; the others keep still."""
    for name, tensor in net.named_parameters():
        tensor.requires_grad_(name in trainable)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for images, labels in loader:
        optimizer.zero_grad()  # to None: weight decay passes over tensors without a gradient
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()


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
