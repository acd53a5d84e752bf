"""Selective synaptic dampening (SSD): shrink the weights that matter far more to the forget set than to all data.

Source: "Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening" (Foster et al., AAAI 2024,
arXiv 2308.07707) and its official code (if-loops/selective-synaptic-dampening, `ssd.py`).

Steps: 1. importance of a weight = diagonal Fisher information, the mean square of its gradient, once over the retain
set and once over the forget set. 2. Where importance(forget) > SELECTION x importance(retain), multiply the weight by
DAMPENING x importance(retain) / importance(forget), at most by 1. No training, and nothing random: runs from the same
original model differ by rounding only.
Deviations: the paper compares with the whole training set (COMPARED_WITH = "all"), of which the forget set is a part.
If it is a share p of it, no weight can be more than 1 / p times as important, so that with p = 0.1 or more (0.13 on
`digits`) the paper's SELECTION of 10 never selects any. For small p the two are the same. Squares are of single
examples' gradients, as the paper defines the information; the official code squares the mean gradient of a batch of 128
(GRADIENTS_OF = "batches": the loaders' own).
"""

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

# As published.
SELECTION = 10.0  # alpha: how many times as important to the forget set a weight has to be
DAMPENING = 1.0  # lambda
GRADIENTS_OF = "examples"  # the paper; "batches": the official code

# Ours: the source says nothing, or something else.
COMPARED_WITH = "retain"  # "all" in the paper
CHUNK = 32  # examples whose gradients are held at once


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Dampen the weights of the forget set."""
    assert COMPARED_WITH in ("retain", "all"), COMPARED_WITH
    assert GRADIENTS_OF in ("examples", "batches"), GRADIENTS_OF
    net.eval()
    reference, n_reference = squared_gradients(net, retain_loader)
    forget, n_forget = squared_gradients(net, forget_loader)
    if COMPARED_WITH == "all":
        reference = {name: reference[name] + forget[name] for name in reference}
        n_reference += n_forget
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.mul_(factors(reference[name] / n_reference, forget[name] / n_forget))
    return net


def factors(reference, forget):
    """Return what to multiply weights with, given their importance to the reference set and to the forget set."""
    chosen = forget > SELECTION * reference
    return torch.where(chosen, (DAMPENING * reference / forget).clamp(max=1), torch.ones_like(forget))


def squared_gradients(net, loader):
    """Return the sum of squared gradients by parameter, and how many there are."""
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    buffers = dict(net.named_buffers())

    def loss(weights, images, labels):
        return nn.functional.cross_entropy(functional_call(net, (weights, buffers), (images,)), labels)

    gradients_of_each = vmap(grad(loss), in_dims=(None, 0, 0))
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = 0
    for images, labels in loader:
        dim = 0 if GRADIENTS_OF == "batches" else 1  # one group of all examples, or groups of one
        images, labels = images.unsqueeze(dim), labels.unsqueeze(dim)
        for chunk in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
            for name, gradient in gradients_of_each(weights, *chunk).items():
                sums[name] += gradient.square().sum(dim=0)
        count += len(labels)  # groups
    return sums, count
