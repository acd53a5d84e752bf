"""Random labels: train on everything, the forget set under labels drawn at random.

Source: method RL of the official code of "Model Sparsity Can Simplify Machine Unlearning" (OPTML-Group/Unlearn-Sparse,
`unlearn/RL.py`, removed in January 2023 and inherited by follow-ups such as SalUn): 10 epochs of SGD at 0.01.

Steps: 1. draw a label for each forget example, uniformly over all classes. 2. Shuffle these examples and the retain set
together and train on them. 3. Begin again with new labels.
Deviations: an epoch is as many steps as one over the retain set alone, so that the method costs what fine-tuning does.
The source may draw the true label, with probability 1 / number of classes; EXCLUDE_TRUE_LABEL draws from the others.
"""

import torch
from torch import nn

# As published.
EPOCHS = 10  # counted in steps over the retain set
LEARNING_RATE = 0.01  # constant
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
EXCLUDE_TRUE_LABEL = False


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Train on the retain set and the relabelled forget set."""
    n_classes = count_classes(net, forget_loader)
    batches = relabelled_batches(retain_loader, forget_loader, n_classes)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    net.train()
    for _, (images, labels) in zip(range(EPOCHS * len(retain_loader)), batches, strict=False):
        if len(labels) == 1:  # BatchNorm cannot train on a single example
            continue
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval()


def relabelled_batches(retain_loader, forget_loader, n_classes):
    """Yield shuffled batches of both sets, again and again, each time with new labels for the forget set."""
    retain_images, retain_labels = everything(retain_loader)
    forget_images, true_labels = everything(forget_loader)
    images = torch.cat([retain_images, forget_images])
    while True:
        labels = torch.cat([retain_labels, draw_labels(true_labels, n_classes)])
        for chosen in torch.randperm(len(images)).to(images.device).split(retain_loader.batch_size):
            yield images[chosen], labels[chosen]


def everything(loader):
    """Return all examples of a loader as two tensors: images (n, channels, height, width) and labels (n,)."""
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def count_classes(net, loader):
    """Return the number of the net's outputs."""
    images, _ = next(iter(loader))
    with torch.no_grad():
        return net.eval()(images).shape[1]


def draw_labels(true_labels, n_classes):
    """Return random labels (n,), uniform over all classes or over all but the true one."""
    if EXCLUDE_TRUE_LABEL:
        return (true_labels + torch.randint(1, n_classes, true_labels.shape, device=true_labels.device)) % n_classes
    return torch.randint(n_classes, true_labels.shape, device=true_labels.device)
