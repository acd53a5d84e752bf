"""Influence removal: each batch that leaves the training set is answered by one step of influence functions.

Source: "Certifiable Machine Unlearning for Linear Models" (Mahadevan and Mathioudakis, 2021, arXiv 2106.15093) and its
public code (testc2/unlearning-experiments, `code/methods/remove.py`), after "Certified Data Removal from Machine
Learning Models" (Guo et al., ICML 2020).

The model is linear. Its loss L(w; D) is the sum over D of the cross-entropies, and LAMBDA |D| / 2 |w|^2. H(w; D) is the
Hessian of L.

Training: w = argmin L(w; D) + SIGMA b'w, b ~ N(0, I): a random direction hides what is left of the forgotten examples.
Unlearning: for each batch of the forget set, D' the examples that remain without it and without those before it:
w <- w + H(w; D')^-1 grad L(w; batch). At an optimum, b included, the gradient of the batch is minus that of D', so this
is a Newton step that does not read b; on a quadratic loss it ends at the optimum of D'. What a step leaves undone, and
what an original lacks of its optimum, is not made up for by later ones.
Deviations: the optimum is found by L-BFGS, not by SGD, since the steps presume it. The inputs are not divided by their
largest norm, which would depend on the forgotten examples. The public code's last batch takes retained examples out of
H where the batches do not divide the forget set; here it does not. Nothing is certified.
"""

import torch
from torch import nn

# As published.
BATCHES = 8  # of floor(m / 8) of the m forgotten examples, and one more of what is left; or 1, of all

# Ours: the source says nothing, or something else.
SIGMA = 0.1  # of b; the source has 0 to 100, on inputs of norm 1 at most
TOLERANCE = 1e-8  # on the largest entry of the gradient of the mean loss, where training ends
ITERATIONS = 2000  # of L-BFGS, at most

# Adapted to small tracks and short limits.
LAMBDA = 1e-3  # the weight decay of `digits-linear`; the source has 1e-4


def train(net, train_loader, val_loader):
    """Find the optimum of the loss with a random direction."""
    data = examples(net, train_loader)
    set_weights(net, optimum(data, tilt=SIGMA * torch.randn_like(weights_of(net))))
    return net


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Take a step for each batch that leaves."""
    retain, forget = examples(net, retain_loader), examples(net, forget_loader)
    set_weights(net, removed(weights_of(net), retain, forget))
    return net


def removed(weights, retain, forget):
    """Return weights (n_classes, n_features) without the forget set. A set is features (n, n_features), labels (n,)."""
    for remaining, batch in leaving(retain, forget):
        weights = weights + solution(hessian(weights, remaining), gradient(weights, batch))
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


# ---- the loss -----------------------------------------------------------------------------------------------------


def optimum(data, tilt):
    """Return the weights where the loss and their product with the tilt, of their shape, are least together."""
    features, labels = data
    weights = torch.zeros_like(tilt, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=ITERATIONS, tolerance_grad=TOLERANCE, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def mean_loss():
        optimizer.zero_grad()
        penalty = LAMBDA / 2 * weights.square().sum() + (tilt * weights).sum() / len(labels)
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
