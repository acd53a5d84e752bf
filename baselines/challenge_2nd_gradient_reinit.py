"""Re-draw the convolution weights whose retain and forget gradients agree most, then retrain the others gently.

Source: second place of the 2023 NeurIPS challenge, [kookmin Univ] LD&BGW&KJH; the authors' write-up (Kaggle discussion
459200), the organizers' slides, and the port in xcadet/deepunlearn (`munl/unlearning/kgltop2.py`).

Steps:
1. Add up the gradients of the cross-entropy over a random part of the retain set as large as the forget set, and take
   off those over the forget set.
2. In every convolution re-draw the 30 % of weights with the smallest difference.
3. Train on the retain set; gradients of the convolution weights that were kept count a tenth.
Deviations: a small track is read by the rule at the end of the file.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, Subset

# As published.
REINIT_FRACTION = 0.3
REINIT_SCOPE = "layer"  # the port; "global": over all convolutions together, as the write-up's words can be read
KEPT_GRADIENT_FACTOR = 0.1
EPOCHS = 5
BATCH_SIZE = 64
LEARNING_RATE = 1e-3  # at its peak: it climbs linearly to the middle epoch and falls again
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Ours: the source says nothing, or something else.
COLLECT_MODE = "eval"  # of the net in step 1; "train" moves BatchNorm's statistics

# Adapted to small tracks and short limits.
EPOCH_PASSES = 1  # over a set in an epoch; more make up for the steps that sets smaller than the challenge's lack
EPOCH_IMAGES = 23_500  # of an epoch in the challenge, its retain set of faces
MAX_PASSES = 8  # over the retain set, in all; a tenth of a training of 120 epochs is 12
MAX_LEARNING_RATE = 0.1  # the starting kit's


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Re-draw the convolution weights that say least about the forget set, then train on the retain set."""
    assert REINIT_SCOPE in ("layer", "global"), REINIT_SCOPE
    assert COLLECT_MODE in ("eval", "train"), COLLECT_MODE
    kernels = [layer.weight for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    if not kernels:
        raise ValueError("this recipe re-draws convolutions, and the net has none")
    redrawn = least(gradient_differences(net, kernels, retain_loader, forget_loader))
    redraw(kernels, redrawn)
    gradient_factors = [torch.where(mask, 1.0, KEPT_GRADIENT_FACTOR) for mask in redrawn]

    retain = epoch_loader(retain_loader, EPOCHS, EPOCH_IMAGES)
    peak = scaled(LEARNING_RATE, retain, EPOCH_IMAGES)
    optimizer = torch.optim.SGD(net.parameters(), lr=peak, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: warm_up_and_decay(epoch + 1))
    net.train()
    for _ in range(EPOCHS):
        for images, labels in retain:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            for kernel, factor in zip(kernels, gradient_factors, strict=True):
                kernel.grad *= factor
            optimizer.step()
        schedule.step()
    return net.eval()


def gradient_differences(net, kernels, retain_loader, forget_loader):
    """Return per kernel: gradients of all retain batches minus those of all forget batches, as many of each."""
    n_compared = min(len(retain_loader.dataset), len(forget_loader.dataset))
    net.train(COLLECT_MODE == "train")
    net.zero_grad()
    for loader, sign in ((retain_loader, 1), (forget_loader, -1)):
        chosen = torch.randperm(len(loader.dataset))[:n_compared].tolist()
        # Batches of one size in both sets: a sum of batch means would be unbalanced otherwise.
        batches = DataLoader(Subset(loader.dataset, chosen), BATCH_SIZE, collate_fn=loader.collate_fn)
        for images, labels in batches:
            (sign * nn.functional.cross_entropy(net(images), labels)).backward()
    differences = [kernel.grad.clone() for kernel in kernels]
    net.zero_grad()
    return differences


def least(differences):
    """Return a mask per tensor: the REINIT_FRACTION of entries that are smallest in size."""
    if REINIT_SCOPE == "layer":
        return [smallest(difference) for difference in differences]
    together = smallest(torch.cat([difference.flatten() for difference in differences]))
    parts = together.split([difference.numel() for difference in differences])
    return [part.view_as(difference) for part, difference in zip(parts, differences, strict=True)]


def smallest(values):
    """Return a mask of round(REINIT_FRACTION x size) entries, those of smallest absolute value."""
    mask = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    n_chosen = round(REINIT_FRACTION * values.numel())
    mask[values.flatten().abs().topk(n_chosen, largest=False).indices] = True
    return mask.view_as(values)


@torch.no_grad()
def redraw(kernels, masks):
    """Replace the masked entries by new draws of Kaiming's normal initialisation (fan out)."""
    for kernel, mask in zip(kernels, masks, strict=True):
        fresh = nn.init.kaiming_normal_(torch.empty_like(kernel), mode="fan_out", nonlinearity="relu")
        kernel.copy_(torch.where(mask, fresh, kernel))


def warm_up_and_decay(epoch):
    """Return the factor of an epoch, counted from 1: 1/3, 2/3, 1, 2/3, 1/3 of five."""
    warm, total = (EPOCHS + 1) // 2, EPOCHS + 1
    return epoch / warm if epoch <= warm else (total - epoch) / (total - warm)


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
