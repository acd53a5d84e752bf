"""Prune 99 % of the weights, draw them anew, and train with a penalty on entropies that differ from the original's.

Source: fourth place of the 2023 NeurIPS challenge, Sebastian Oleszko; the author's write-up (Kaggle discussion 459148),
the organizers' slides, and the port in xcadet/deepunlearn (`munl/unlearning/kgltop4.py`).

Steps:
1. Prune: the 99 % smallest weights and biases of all convolutions and linear layers together.
2. Draw the pruned weights anew as PyTorch initialises them; pruned biases stay 0.
3. Train on the retain set: cross-entropy with class weights, plus the squared difference of the prediction's entropy
   from the original model's.
4. Round the net to half precision and back.
Deviations: a small track is read by the rule at the end of the file.
"""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

# As published.
PRUNED_FRACTION = 0.99
ENTROPY_COEFFICIENT = 1.0  # entropies are in nats, up to log n_classes: the penalty grows with the number of classes
CLASS_WEIGHT_POWER = -0.1  # of the number of retained examples of a class
EPOCHS = 3.2
BATCH_SIZE = 64
LEARNING_RATE = 5e-4
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
HALF_PRECISION = True  # rounds the result, as stored in the challenge

# Adapted to small tracks and short limits.
EPOCH_PASSES = 1  # over a set in an epoch; more make up for the steps that sets smaller than the challenge's lack
EPOCH_IMAGES = 23_500  # of an epoch in the challenge, its retain set of faces
MAX_PASSES = 6  # over the retain set, in all, each a third longer for the original; 12 epochs are a tenth of 120
MAX_LEARNING_RATE = 0.1  # the starting kit's


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Prune and re-draw most weights, then train with the entropy penalty."""
    original = copy.deepcopy(net).eval()
    prune_and_redraw(net)

    retain = epoch_loader(retain_loader, EPOCHS, EPOCH_IMAGES)
    weights = class_weights(net, retain_loader)
    learning_rate = scaled(LEARNING_RATE, retain, EPOCH_IMAGES)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    for images, labels in first_batches(retain, int(EPOCHS * len(retain)) + 1):  # the source makes one more
        with torch.no_grad():
            target_entropies = entropies(original(images))
        logits = net(images)
        loss = nn.functional.cross_entropy(logits, labels, weight=weights)
        loss = loss + ENTROPY_COEFFICIENT * nn.functional.mse_loss(entropies(logits), target_entropies)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if HALF_PRECISION:
        round_to_half(net)
    return net.eval()


@torch.no_grad()
def prune_and_redraw(net):
    """Draw the smallest PRUNED_FRACTION of all convolution and linear weights anew; biases among them become 0."""
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    tensors = [tensor for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None]
    sizes = torch.cat([tensor.abs().flatten() for tensor in tensors])
    is_pruned = torch.zeros_like(sizes, dtype=torch.bool)
    is_pruned[sizes.topk(round(PRUNED_FRACTION * len(sizes)), largest=False).indices] = True
    masks = is_pruned.split([tensor.numel() for tensor in tensors])
    for tensor, mask in zip(tensors, masks, strict=True):
        # A weight is (outputs, inputs, ...), of bound 1 / sqrt(inputs x kernel size); a bias has one dimension.
        bound = 0.0 if tensor.dim() == 1 else tensor[0].numel() ** -0.5
        fresh = torch.empty_like(tensor).uniform_(-bound, bound)
        tensor.copy_(torch.where(mask.view_as(tensor), fresh, tensor))


@torch.no_grad()
def round_to_half(net):
    """Round all values to half precision; those beyond its range (65504), as running variances may be, stay."""
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            rounded = tensor.half().float()
            tensor.copy_(torch.where(rounded.isfinite(), rounded, tensor))


def entropies(logits):
    """Return the entropy of each prediction (n,), in nats."""
    log_probabilities = logits.log_softmax(dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def class_weights(net, loader):
    """Return a weight per class (n_classes,): its number of retained examples to the power of CLASS_WEIGHT_POWER."""
    with torch.no_grad():
        n_classes = net(next(iter(loader))[0]).shape[1]
    counts = torch.cat([labels for _, labels in loader]).bincount(minlength=n_classes)
    return counts.clamp(min=1) ** CLASS_WEIGHT_POWER  # a class without examples needs any finite weight


def first_batches(loader, n_batches):
    """Yield n_batches batches, going over the loader as often as it takes."""
    while True:
        for batch in loader:
            if n_batches == 0:
                return
            n_batches -= 1
            yield batch


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
