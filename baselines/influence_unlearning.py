"""Influence unlearning: one Newton step to where training without the forget set would have ended.

Source: method IU of "Model Sparsity Can Simplify Machine Unlearning" (Jia et al., NeurIPS 2023) and its official code
(OPTML-Group/Unlearn-Sparse, `unlearn/Wfisher.py`); influence functions after Koh and Liang, ICML 2017.

Steps: 1. v = share of the forget set x (its mean gradient - the retain set's mean gradient): the gradient of the change
of the training loss. 2. weights + ALPHA * H^-1 v. H is the Hessian of the retain loss plus DAMPING times the identity;
the product comes from conjugate gradients, which need H only as products with vectors.
Deviations: H is the generalized Gauss-Newton matrix of N_SAMPLES retain examples, which is the Hessian for a net
linear in its weights and positive semidefinite for any. The official code announces WoodFisher (Singh and Alistarh,
NeurIPS 2020) but returns v minus a multiple of the first example's gradient, no inverse of any matrix: PRODUCT =
"official" does the same. DAMPING is the weight decay of the training, whose second derivative belongs to H, in place
of the official code's identity. BatchNorm's statistics are not touched.
"""

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

# As published.
ALPHA = 1.0  # length of the step
N_SAMPLES = 1000  # retain examples in H

# Ours: the source says nothing, or something else.
PRODUCT = "conjugate_gradient"  # or "official"
DAMPING = 5e-4  # the weight decay of the training; the official code has the identity, 1
N_ITERATIONS = 10  # of conjugate gradients, at most
TOLERANCE = 1e-6  # on the residual's norm, relative to v's
EXAMPLES_PER_PASS = 128


def unlearn(net, retain_loader, forget_loader, val_loader):
    """Take one step of influence functions."""
    net.eval()
    n_retain, n_forget = len(retain_loader.dataset), len(forget_loader.dataset)
    change = mean_gradient(net, forget_loader) - mean_gradient(net, retain_loader)
    vector = n_forget / (n_retain + n_forget) * change
    images, labels = take(retain_loader, N_SAMPLES)
    product = {"conjugate_gradient": inverse_hessian_product, "official": official_product}[PRODUCT]
    step = product(net, images, labels, vector)
    with torch.no_grad():
        vector_to_parameters(parameters_to_vector(net.parameters()) + ALPHA * step, net.parameters())
    return net


def mean_gradient(net, loader):
    """Return the gradient (n_weights,) of the mean loss over all examples of a loader."""
    net.zero_grad()
    for images, labels in loader:
        nn.functional.cross_entropy(net(images), labels, reduction="sum").backward()
    return flat(weights.grad for weights in net.parameters()) / len(loader.dataset)


def flat(tensors):
    """Return the entries of all tensors as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def take(loader, n):
    """Return images and labels of the first n examples a loader yields, or of all if there are fewer."""
    batches, n_taken = [], 0
    for images, labels in loader:
        batches.append((images, labels))
        n_taken += len(labels)
        if n_taken >= n:
            break
    return tuple(torch.cat(parts)[:n] for parts in zip(*batches, strict=True))


# ---- the inverse-Hessian product ----------------------------------------------------------------------------------


def inverse_hessian_product(net, images, labels, vector):
    """Return (H + DAMPING)^-1 vector by conjugate gradients, H the Gauss-Newton matrix of the mean loss.

    It does not depend on the labels.
    """
    solution = torch.zeros_like(vector)
    residual = direction = vector
    squared, target = residual.dot(residual), TOLERANCE**2 * vector.dot(vector)
    for _ in range(N_ITERATIONS):
        if squared <= target:
            break
        product = gauss_newton_product(net, images, direction) + DAMPING * direction
        length = squared / direction.dot(product)
        solution = solution + length * direction
        residual = residual - length * product
        previous, squared = squared, residual.dot(residual)
        direction = residual + squared / previous * direction
    return solution


def gauss_newton_product(net, images, vector):
    """Return J' A J vector, the mean over images: J the logits' derivative, A = diag(p) - p p' the loss's second."""
    parts = images.split(EXAMPLES_PER_PASS)
    return sum(summed_product(net, part, vector) for part in parts) / len(images)


def summed_product(net, images, vector):
    """Return J' A J vector, the sum over images."""
    weights = list(net.parameters())
    logits = net(images)
    probe = torch.zeros_like(logits, requires_grad=True)
    pulled = flat(torch.autograd.grad(logits, weights, probe, create_graph=True))  # J' probe, whose derivative is J'
    (moved,) = torch.autograd.grad(pulled.dot(vector), probe, retain_graph=True)  # J vector
    probabilities = logits.detach().softmax(dim=1)
    curved = probabilities * (moved - (probabilities * moved).sum(dim=1, keepdim=True))
    return flat(torch.autograd.grad(logits, weights, curved))


# ---- the official variant -----------------------------------------------------------------------------------------


def official_product(net, images, labels, vector):
    """Return what the official code computes: vector minus a multiple of the first example's gradient."""
    weights = {name: value.detach() for name, value in net.named_parameters()}

    def loss(weights, image, label):
        return nn.functional.cross_entropy(functional_call(net, weights, (image[None],)), label[None])

    def rows():
        gradients = vmap(grad(loss), in_dims=(None, 0, 0))
        for part, targets in zip(images.split(EXAMPLES_PER_PASS), labels.split(EXAMPLES_PER_PASS), strict=True):
            values = gradients(weights, part, targets).values()
            yield from torch.cat([value.flatten(1) for value in values], dim=1)

    gradients = rows()
    result, first = vector.clone(), next(gradients).clone()
    for gradient in gradients:
        overlap = first.dot(gradient)
        result -= result.dot(gradient) / (N_SAMPLES + overlap) * first
        first -= overlap / (N_SAMPLES + overlap) * first
    return result
