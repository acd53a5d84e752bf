"""Re-draw a few random tensors and learn the original's logits again on noisy retain images, four times over.

Source: eighth place of the 2023 NeurIPS challenge, Forget (J. Ahn et al.), algorithm 2; the authors' notebook (copy in
ArnabKarmakar1108/MachineUnlearners, `forget-set-free-approach-9th-on-private-lb.ipynb`) and write-up (Kaggle discussion
458715).

Steps, per cycle:
1. Forget: draw 6 of ResNet-18's tensors, with replacement and without those of the classifier and the projection
   shortcuts; weights (BatchNorm's too) become small noise, biases 0.
2. Remember: train on the retain set to match the original's logits on slightly noisy images. Labels are not used.
Deviations: 6 of 62 tensors is a ratio. The notebook's noise adds up in its cached images over epochs and runs, and its
original model is in the net's mode; here noise is fresh and the original in eval mode. The image noise is in grey
levels of 256, taken from the range of the retain set's inputs. A small track is read by the rule at the end of the
file.
"""

import copy
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

# As published.
CYCLE_EPOCHS = (2, 1, 1, 1)
DRAWN_FRACTION = 6 / 62  # draws per cycle, of the number of the net's tensors
REINIT_STD = 0.01
IMAGE_NOISE_STD = 0.1  # grey levels of 0..255 (notebook); 0.01 in the write-up's settings
LEARNING_RATE = 1e-3
EPOCH_FACTORS = (0.5, 1.0, 1.0, 1.0, 1.0)  # of the learning rate
BATCH_SIZE = 64
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# Ours: the source says nothing, or something else.
NOISE = "fresh"  # "accumulated": of standard deviation sqrt(k) times as large in epoch k, as in the notebook

# Adapted to small tracks and short limits.
EPOCH_PASSES = 1  # over a set in an epoch; more make up for the steps that sets smaller than the challenge's lack
EPOCH_IMAGES = 23_500  # of an epoch in the challenge, its retain set of faces
MAX_PASSES = 6  # over the retain set, in all, each a third longer for the original; 12 epochs are a tenth of 120
MAX_LEARNING_RATE = 0.02  # squared differences of logits diverge at rates that suit cross-entropy


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Forget by re-drawing tensors and remember by matching the original's logits, in cycles."""
    assert NOISE in ("fresh", "accumulated"), NOISE
    original = copy.deepcopy(net).eval()
    retain = epoch_loader(retain_loader, sum(CYCLE_EPOCHS), EPOCH_IMAGES)
    noise_std = IMAGE_NOISE_STD * grey_level(retain)
    learning_rate = scaled(LEARNING_RATE, retain, EPOCH_IMAGES)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    epoch = 0
    net.train()
    for cycle_epochs in CYCLE_EPOCHS:
        forget(net)
        for _ in range(cycle_epochs):
            optimizer.param_groups[0]["lr"] = learning_rate * EPOCH_FACTORS[epoch]
            epoch += 1
            remember(net, original, retain, optimizer, noise_std * (epoch**0.5 if NOISE == "accumulated" else 1.0))
    return net.eval()


@torch.no_grad()
def forget(net):
    """Draw some tensors anew: weights of small standard deviation, biases 0."""
    tensors = dict(net.named_parameters())
    linear = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    classifier = linear[-1] if linear else None
    pool = [name for name in tensors if "downsample" not in name and not name.startswith(f"{classifier}.")]
    if classifier is None or not pool:
        raise ValueError("this recipe re-draws tensors below the last linear layer, and the net has none")
    for name in random.choices(pool, k=max(1, round(DRAWN_FRACTION * len(tensors)))):
        tensors[name].normal_(0.0, REINIT_STD if "weight" in name else 0.0)


def remember(net, original, loader, optimizer, noise_std):
    """Train for an epoch on the squared difference of the logits from the original's, on noisy images."""
    for images, _ in loader:
        noisy = images + noise_std * torch.randn_like(images)
        with torch.no_grad():
            targets = original(noisy)
        optimizer.zero_grad()
        nn.functional.mse_loss(net(noisy), targets).backward()
        optimizer.step()


def grey_level(loader):
    """Return the step between two of 256 grey levels in units of the inputs, from the range of a batch."""
    images, _ = next(iter(loader))
    return (images.max() - images.min()) / 255


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
