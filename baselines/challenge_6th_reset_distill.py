"""Reset the first and the last layer, distil the original on the validation set, then train on the retain set.

Source: sixth place of the 2023 NeurIPS challenge, Algorithmic Amnesiacs; the organizers' slides and two copies of the
code (`munl/unlearning/kgltop6.py` in xcadet/deepunlearn, `app.py` in rrameshh/machineunlearn).

Steps:
1. Draw the first convolution and the last linear layer anew.
2. Warm up on the validation set: match the original's softened predictions (KL divergence).
3. Train on the retain set: cross-entropy of the labels plus two terms that match the original's softened predictions.
Deviations: the warm-up uses all classes, unless WARMUP_CLASSES says otherwise. A small track is read by the rule at the
end of the file.
"""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, Subset

# As published.
WARMUP_EPOCHS = 3
WARMUP_LEARNING_RATE = 9e-4
EPOCHS = 3
LEARNING_RATE = 1e-3  # cosine per epoch
BATCH_SIZE = 64
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
TEMPERATURE = 5.0

# Ours: the source says nothing, or something else.
WARMUP_CLASSES = None  # all; (0, 1) in the ranked entry, whose forget set held these classes only

# Adapted to small tracks and short limits.
EPOCH_PASSES = 1  # over a set in an epoch; more make up for the steps that sets smaller than the challenge's lack
WARMUP_EPOCH_IMAGES = 3_000  # of an epoch in the challenge, its validation set of faces
EPOCH_IMAGES = 23_500  # likewise, its retain set
MAX_PASSES = 6  # over both sets, in all, each a third longer for the original; 12 epochs are a tenth of 120
MAX_LEARNING_RATE = 0.1  # the starting kit's


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Reset the outer layers, distil on the validation set, then train on the retain set."""
    original = copy.deepcopy(net).eval()
    reset_first_and_last(net)
    epochs = WARMUP_EPOCHS + EPOCHS
    net.train()

    validation = epoch_loader(of_classes(val_loader, WARMUP_CLASSES), epochs, WARMUP_EPOCH_IMAGES)
    optimizer = sgd(net, scaled(WARMUP_LEARNING_RATE, validation, WARMUP_EPOCH_IMAGES))
    for _ in range(WARMUP_EPOCHS):
        for images, _ in validation:
            step(optimizer, divergence(net(images), predictions(original, images)))

    retain = epoch_loader(retain_loader, epochs, EPOCH_IMAGES)
    optimizer = sgd(net, scaled(LEARNING_RATE, retain, EPOCH_IMAGES))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    for _ in range(EPOCHS):
        for images, labels in retain:
            logits, targets = net(images), predictions(original, images)
            loss = nn.functional.cross_entropy(logits, labels)
            step(optimizer, loss + soft_cross_entropy(logits, targets) + divergence(logits, targets))
        schedule.step()
    return net.eval()


def reset_first_and_last(net):
    """Draw the first convolution and the last linear layer anew, as PyTorch initialises them."""
    convolutions, linear = ([one for one in net.modules() if isinstance(one, kind)] for kind in (nn.Conv2d, nn.Linear))
    if not convolutions or not linear:
        raise ValueError("this recipe re-draws a convolution and a linear layer, and the net lacks one")
    convolutions[0].reset_parameters()
    linear[-1].reset_parameters()


def of_classes(loader, classes):
    """Return a loader of the examples of some classes only; None: the loader as it is."""
    if classes is None:
        return loader
    kept = [index for index, (_, label) in enumerate(loader.dataset) if int(label) in classes]
    return DataLoader(Subset(loader.dataset, kept), loader.batch_size, collate_fn=loader.collate_fn)


@torch.no_grad()
def predictions(original, images):
    """Return the original's softened probabilities (n, n_classes)."""
    return (original(images) / TEMPERATURE).softmax(dim=1)


def divergence(logits, targets):
    """Return KL(targets || softened predictions), averaged over the batch; not scaled by the squared temperature."""
    return nn.functional.kl_div((logits / TEMPERATURE).log_softmax(dim=1), targets, reduction="batchmean")


def soft_cross_entropy(logits, targets):
    """Return the cross-entropy of softened predictions: the divergence plus the entropy of the targets."""
    return -(targets * (logits / TEMPERATURE).log_softmax(dim=1)).sum(dim=1).mean()


def sgd(net, learning_rate):
    """Return a new optimizer of the whole net."""
    return torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def step(optimizer, loss):
    """Make one update."""
    optimizer.zero_grad()
    loss.backward()
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
