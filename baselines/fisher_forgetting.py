"""Fisher forgetting: noise on every weight, the less the retain set needs the weight the more.

Source: "Eternal Sunshine of the Spotless Net" (Golatkar et al., CVPR 2020) and its official code
(AdityaGolatkar/SelectiveForgetting, `Forgetting.ipynb`); method FF of "Model Sparsity Can Simplify Machine Unlearning"
(Jia et al., NeurIPS 2023; OPTML-Group/Unlearn-Sparse, `unlearn/fisher.py`).

Steps: 1. F, the diagonal of the Fisher information on the retain set: the mean over examples and labels, weighted by
the model's probabilities, of the squared gradient of the loss. 2. Noise variance ALPHA / (F + DAMPING), with upper
limits, averaged over the inputs of each unit; larger for the head and for vectors (BatchNorm, biases). 3. If the forget
set is one whole class, the head's row of this class is cleared. 4. Add Gaussian noise of this variance, once.
Deviations: one label per example, drawn from the model, instead of all labels: as right on average, and one backward
pass instead of one per class (LABELS = "all" is the sources' way, and beyond 10 % of the training time on `cifar10`).
The head is found by its place and not by its shape, the whole class by looking at the labels and not by the number of
forget examples (the second source's test by number also clears the last class in random forgetting). A weight that is
exactly zero counts as pruned and stays zero. BatchNorm's statistics are not touched.
ALPHA is that of Kurmanji et al.'s copy of the first source (meghdadk/SCRUB, `large_scale_unlearning.ipynb`). The second
source squares the mean gradient of 32 examples (GROUP_SIZE = 32), which is about 32 times smaller than the mean of
squares, with an ALPHA of 3e-8.
"""

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

# As published.
ALPHA = 1e-7  # variance = ALPHA / F; the first source has 1e-6 for a narrow net without BatchNorm
GROUP_SIZE = 1  # examples whose mean gradient is squared
DAMPING = 1e-8
MAX_INVERSE = 1e3  # upper limit of 1 / F
MAX_INVERSE_HEAD = 1e2
HEAD_FACTOR = 10  # of the variance in the head
VECTOR_FACTOR = 10  # of the variance in other one-dimensional parameters
FORGOTTEN_VARIANCE = 1e-4  # of a cleared row, before HEAD_FACTOR

# Ours: the source says nothing, or something else.
EXAMPLES_PER_PASS = 64  # gradients of so many examples at once ...
PASS_GB = 2.0  # ... and no more than fit in here

# Adapted to small tracks and short limits.
LABELS = "drawn"  # "drawn": one label per example, from the model; "all": every label, weighted by its probability


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Add noise to the weights."""
    assert LABELS in ("drawn", "all"), LABELS
    net.eval()
    fisher = fisher_diagonal(net, retain_loader)
    forgotten = forgotten_class(retain_loader, forget_loader)
    head = {id(weights) for weights in last_layer(net).parameters()}
    for name, weights in net.named_parameters():
        in_head = id(weights) in head
        kept = weights.detach() != 0 if weights.ndim > 1 else torch.ones_like(weights, dtype=torch.bool)
        variance = noise_variance(fisher[name], kept, in_head=in_head)
        with torch.no_grad():
            if in_head and forgotten is not None:
                weights[forgotten], variance[forgotten] = 0.0, FORGOTTEN_VARIANCE * HEAD_FACTOR
            weights += kept * variance.sqrt() * torch.randn_like(weights)
    return net


# ---- the diagonal -------------------------------------------------------------------------------------------------


def fisher_diagonal(net, loader):
    """Return the diagonal of the Fisher information of each parameter, by name; the net is in eval mode."""
    weights = {name: value.detach() for name, value in net.named_parameters()}
    buffers = dict(net.named_buffers())

    def loss(weights, images, labels):
        return nn.functional.cross_entropy(functional_call(net, (weights, buffers), (images,)), labels)

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in weights.items()}
    n_groups = 0
    device, n_weights = next(net.parameters()).device, sum(value.numel() for value in weights.values())
    for images in groups(loader, device, n_weights=n_weights):
        with torch.no_grad():
            probabilities = net(images.flatten(0, 1)).softmax(dim=1).unflatten(0, images.shape[:2])
        for labels, share in weighted_labels(probabilities):
            for name, gradient in gradients(weights, images, labels).items():
                total[name] += torch.einsum("g,g...->...", share, gradient.square())
        n_groups += len(images)
    return {name: value / n_groups for name, value in total.items()}


def groups(loader, device, *, n_weights):
    """Yield images (n_groups, group, channels, height, width) on the device, each example of the loader once.

    A batch's remainder makes a smaller group. n_weights bounds the number of groups whose gradients are held at once.
    """
    at_once = max(1, min(EXAMPLES_PER_PASS // GROUP_SIZE, int(PASS_GB * 1e9 / (8 * n_weights))))
    examples = torch.utils.data.DataLoader(loader.dataset, batch_size=at_once * GROUP_SIZE, shuffle=True)
    for images, _ in examples:
        whole = len(images) - len(images) % GROUP_SIZE
        for part, size in ((images[:whole], GROUP_SIZE), (images[whole:], len(images) - whole)):
            if len(part):
                yield part.to(device).unflatten(0, (-1, size))


def weighted_labels(probabilities):
    """Yield labels (n_groups, group) and weights (n_groups,) whose sum over the pairs is one expectation.

    probabilities: (n_groups, group, n_classes) of the model.
    """
    n_groups, group, n_classes = probabilities.shape
    if LABELS == "drawn":
        drawn = torch.multinomial(probabilities.flatten(0, 1), 1).view(n_groups, group)
        yield drawn, torch.ones_like(probabilities[:, 0, 0])
    else:
        for label in range(n_classes):
            yield torch.full_like(probabilities[..., 0], label, dtype=torch.long), probabilities[..., label].mean(dim=1)


# ---- the noise ----------------------------------------------------------------------------------------------------


def noise_variance(fisher, kept, *, in_head):
    """Return the variance of the noise of one parameter; kept marks the weights that are not pruned."""
    inverse = (1 / (fisher + DAMPING)).clamp(max=MAX_INVERSE_HEAD if in_head else MAX_INVERSE)
    if fisher.ndim > 1:  # the mean over the inputs of a unit
        n_kept = kept.sum(dim=1, keepdim=True).clamp(min=1)
        inverse = ((inverse * kept).sum(dim=1, keepdim=True) / n_kept).expand_as(fisher)
    factor = HEAD_FACTOR if in_head else VECTOR_FACTOR if fisher.ndim == 1 else 1
    return ALPHA * factor * inverse


def last_layer(net):
    """Return the net's head: its last linear layer, or its last convolution where there is none."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    return (layers or [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)])[-1]


def forgotten_class(retain_loader, forget_loader):
    """Return the class that the forget set is all of, or None if it is something else."""
    forget_classes = {label for _, labels in forget_loader for label in labels.tolist()}
    retain_classes = {label for _, labels in retain_loader for label in labels.tolist()}
    is_whole_class = len(forget_classes) == 1 and forget_classes.isdisjoint(retain_classes)
    return forget_classes.pop() if is_whole_class else None
