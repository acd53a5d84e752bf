"""Fisher removal: for each batch that leaves the training set, a Newton step on what remains, and noise.

Source: "Certifiable Machine Unlearning for Linear Models" (Mahadevan and Mathioudakis, 2021, arXiv 2106.15093) and its
public code (testc2/unlearning-experiments, `code/methods/scrub.py`), after "Eternal Sunshine of the Spotless Net"
(Golatkar et al., CVPR 2020).

The model is linear. Its loss L(w; D) is the sum over D of the cross-entropies, and LAMBDA |D| / 2 |w|^2. H(w; D) is the
Hessian of L, which for this loss is the Fisher information as well. b ~ N(0, I), drawn anew each time.

Training: 1. w = argmin L(w; D). 2. w + SIGMA H(w; D)^(-1/4) b is published.
Unlearning: for each batch of the forget set, D' the examples that remain without it and without those before it:
w <- w - H(w; D')^-1 grad L(w; D') + SIGMA H(w; D')^(-1/4) b. On a quadratic loss this ends at the optimum of D' from
wherever it started, so nothing has to be kept of the training.
Deviations: the optimum is found by L-BFGS, not by SGD: what is published then differs from that of other seeds in its
noise alone. The inputs are not divided by their largest norm, which would depend on the forgotten examples. Three
things of the public code are not taken over: the original without noise; one direction of noise for all batches; a last
batch that takes retained examples with it where the batches do not divide the forget set.
"""

import torch
from torch import nn

# As published.
BATCHES = 8  # of floor(m / 8) of the m forgotten examples, and one more of what is left; or 1, of all

# Ours: the source says nothing, or something else.
SIGMA = 0.03  # of the noise; the source has 0 to 100, on inputs of norm 1 at most
TOLERANCE = 1e-8  # on the largest entry of the gradient of the mean loss, where training ends
ITERATIONS = 2000  # of L-BFGS, at most

# Adapted to small tracks and short limits.
LAMBDA = 1e-3  # the weight decay of `digits-linear`; the source has 1e-4


def train(net, train_loader, val_loader):
    """Find the optimum, and publish it with noise."""
    data = examples(net, train_loader)
    weights = optimum(data, n_classes=len(weights_of(net)))
    set_weights(net, weights + noise(hessian(weights, data), weights))
    return net


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Take a step for each batch that leaves."""
    retain, forget = examples(net, retain_loader), examples(net, forget_loader)
    set_weights(net, removed(weights_of(net), retain, forget))
    return net


def removed(weights, retain, forget):
    """Return weights (n_classes, n_features) without the forget set. A set is features (n, n_features), labels (n,)."""
    for remaining, _ in leaving(retain, forget):
        curvature = hessian(weights, remaining)
        weights = weights - solution(curvature, gradient(weights, remaining)) + noise(curvature, weights)
    return weights


def leaving(retain, forget):
    """Yield, for each batch of the forget set, what remains once it has left, and the batch."""
    features, labels = (torch.cat(parts) for parts in zip(forget, retain, strict=True))
    n_forget = len(forget[1])
    size = max(n_forget // BATCHES, 1)
    for start in range(0, n_forget, size):
        stop = min(start + size, n_forget)
        yield (features[stop:], labels[stop:]), (features[start:stop], labels[start:stop])


def solution(curvature, vector):
    """Return curvature^-1 vector; the vector and what is returned have the shape of the weights."""
    return torch.cholesky_solve(vector.reshape(-1, 1), torch.linalg.cholesky(curvature)).view_as(vector)


def noise(curvature, weights):
    """Return SIGMA curvature^(-1/4) b in the shape of the weights."""
    if SIGMA == 0:
        return torch.zeros_like(weights)
    values, vectors = torch.linalg.eigh(curvature.float())  # exact enough for noise, in half the time
    drawn = vectors.T @ torch.randn(len(values)).to(values)
    return SIGMA * (vectors @ (values**-0.25 * drawn)).view_as(weights).to(weights)


# ---- the loss -----------------------------------------------------------------------------------------------------


def optimum(data, n_classes):
    """Return the weights where the loss is least."""
    features, labels = data
    weights = features.new_zeros(n_classes, features.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=ITERATIONS, tolerance_grad=TOLERANCE, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def mean_loss():
        optimizer.zero_grad()
        penalty = LAMBDA / 2 * weights.square().sum()
        loss = nn.functional.cross_entropy(features @ weights.T, labels) + penalty
        loss.backward()
        return loss

    optimizer.step(mean_loss)
    return weights.detach()


def gradient(weights, data):
    """Return the gradient of the loss, in the shape of the weights."""
    features, labels = data
    errors = (features @ weights.T).softmax(dim=1) - nn.functional.one_hot(labels, len(weights))
    return errors.T @ features + LAMBDA * len(labels) * weights


def hessian(weights, data):
    """Return the Hessian of the loss (n_weights, n_weights); it does not depend on the labels."""
    features, labels = data
    p = (features @ weights.T).softmax(dim=1)
    same_class = torch.block_diag(*[features.T @ (share[:, None] * features) for share in p.T])
    products = (p[:, :, None] * features[:, None, :]).flatten(1)
    return same_class - products.T @ products + LAMBDA * len(labels) * torch.eye(weights.numel()).to(weights)


# ---- the net ------------------------------------------------------------------------------------------------------


def layer_of(net):
    """Return the layer that all weights of a linear model are in. Raises ValueError for any other net."""
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if len(layers) != 1 or len(list(layers[0].parameters())) != len(list(net.parameters())):
        raise ValueError("this method is made for linear models: all weights in one nn.Linear")
    return layers[0]


def examples(net, loader):
    """Return the inputs of the layer with a 1 for the bias (n, n_features) float64, and the labels (n,)."""
    layer, reached = layer_of(net), []
    device = layer.weight.device
    handle = layer.register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0]))
    with torch.no_grad():
        net(loader.dataset.inputs.to(device))
    handle.remove()
    features = nn.functional.pad(reached[0].double(), (0, 1), value=1.0)
    return features, loader.dataset.labels.to(device)


def weights_of(net):
    """Return matrix and biases of the layer as one matrix (n_classes, n_features) float64."""
    layer = layer_of(net)
    return torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().double()


def set_weights(net, weights):
    """Set matrix and biases of the layer."""
    layer = layer_of(net)
    with torch.no_grad():
        layer.weight.copy_(weights[:, :-1])
        layer.bias.copy_(weights[:, -1])
