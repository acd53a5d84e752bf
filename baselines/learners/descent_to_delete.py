"""Descent-to-Delete: for each example to forget, a few more steps of gradient descent without it, and noise.

Source: "Descent-to-Delete: Gradient-Based Methods for Machine Unlearning" (Neel, Roth and Sharifi-Malvajerdi, ALT 2021)
and the code of ChrisWaites/descent-to-delete; the scales of the noise as in Graph-COM/Langevin_unlearning.

Made for a linear classifier, as on `digits-linear`.
Training: projected gradient descent on the mean loss until it is as near to the optimum as requests will leave it.
What is published is theta plus Gaussian noise.
Unlearning: examples leave one by one. Request i is STEPS steps of the same descent, from where the last one ended, on
what is left, and fresh noise.
GUARANTEE = "output": theta without noise stays secret, and only what is published is hidden. "perfect": there is no
secret; each request starts from what the last one published, takes some more steps, and so hides the state as well.

What CERTIFICATE rests on: rows of norm at most 1, so that each example's loss, cross-entropy plus
PENALTY / 2 |theta|^2, is PENALTY-strongly convex, (1/2 + PENALTY)-smooth, and Lipschitz on a ball that holds every
optimum; and `steady_error`, which bounds how far from the optimum training and every request end. Half of it would do
where examples only leave, and the noise covers twice the distance of two such errors: the published constants are kept.
In "perfect" half of delta is for the tails of the noise that requests start from.
The noise is the same with and without the forgotten examples, hence N_LEFT in place of their number. Pixels are centred
by the val set, which is never forgotten. Requests may not depend on what was published.
Deviations: several classes, by the softmax; the sources have two.
"""

import math

import torch
from torch import nn

# As published.
STEPS = 25  # for each example to forget
PENALTY = 0.05

# Ours: the source says nothing, or something else.
CERTIFICATE = (1.0, 5e-6)  # epsilon and delta; the source has 5, and 1 / n^2, which is about this
GUARANTEE = "output"  # or "perfect"

# Adapted to small tracks and short limits.
N_LEFT = 416  # examples left after the last request, at least
ROW_NORM = 6.0  # of centred pixels with a 1 for the bias; a longer row is shortened


def train(net, train_loader, val_loader):
    """Descend from zero; publish with noise, keep what the next request starts from."""
    assert GUARANTEE in ("output", "perfect"), GUARANTEE
    rows = rows_of(train_loader.dataset, val_loader)
    targets = targets_of(train_loader.dataset, net)
    theta = torch.zeros(len(targets), rows.shape[1], dtype=torch.float64)
    theta = descend(theta, rows, targets, steps=training_steps(theta.shape))
    published = theta + noise(theta.shape)
    publish(net, published, val_loader)
    return net, {"theta": published if GUARANTEE == "perfect" else theta}


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Descend a little for each example that leaves; publish with noise."""
    assert GUARANTEE in ("output", "perfect"), GUARANTEE
    if len(retain_loader.dataset) < N_LEFT:
        raise ValueError(f"{len(retain_loader.dataset)} examples are left, CERTIFICATE is for at least {N_LEFT}")
    sets = forget_loader.dataset, retain_loader.dataset
    rows = torch.cat([rows_of(each, val_loader) for each in sets])
    targets = torch.cat([targets_of(each, net) for each in sets], dim=1)
    theta = state["theta"]
    for request in range(1, len(forget_loader.dataset) + 1):  # the first so many examples are gone
        theta = descend(theta, rows[request:], targets[:, request:], steps=request_steps(request, theta.shape))
        published = theta + noise(theta.shape)
        if GUARANTEE == "perfect":
            theta = published
    publish(net, published, val_loader)
    return net, {"theta": theta}


# ---- projected gradient descent -----------------------------------------------------------------------------------


def descend(theta, rows, targets, *, steps):
    """Return theta (n_classes, n_columns) after steps of the length that contracts most, each back into the ball."""
    length = 2 / (0.5 + 2 * PENALTY)  # 2 / (smoothness + strong convexity)
    for _ in range(steps):
        theta = project(theta - length * gradient(theta, rows, targets))
    return theta


def gradient(theta, rows, targets):
    """Return the gradient of the mean over examples of cross-entropy plus PENALTY / 2 |theta|^2."""
    errors = (theta @ rows.T).softmax(dim=0) - targets
    return errors @ rows / len(rows) + PENALTY * theta


def project(theta):
    """Return the nearest point of the ball."""
    limit = radius(len(theta))
    return theta * (limit / max(limit, float(theta.norm())))


# ---- what the guarantee needs -------------------------------------------------------------------------------------


def radius(n_classes):
    """Return the radius of the ball: the loss is log n_classes at zero, and no less at |theta| = radius."""
    return math.sqrt(2 * math.log(n_classes) / PENALTY)


def contraction():
    """Return the factor by which one step brings theta nearer to the optimum: (M - m) / (M + m), M = 1/2 + m."""
    return 0.5 / (0.5 + 2 * PENALTY)


def steady_error(shape):
    """Return how far from the optimum theta may be after any number of requests, for theta of this shape."""
    lipschitz = math.sqrt(2) + PENALTY * radius(shape[0])
    left_over = contraction() ** base_steps(shape)
    return 2 * lipschitz * left_over / (PENALTY * N_LEFT * (1 - left_over))


def training_steps(shape):
    """Return the steps that bring zero, which is at most a radius from the optimum, within the steady error."""
    return math.ceil(math.log(steady_error(shape) / radius(shape[0])) / math.log(contraction()))


def base_steps(shape):
    """Return the steps of a request that the scale of the noise counts on; "perfect" asks for some at least."""
    if GUARANTEE == "output":
        return STEPS
    epsilon, delta = CERTIFICATE
    log = 2 * math.log(2 / delta)
    least = math.sqrt(2 * shape.numel()) / (1 - contraction()) / (math.sqrt(log + epsilon) - math.sqrt(log))
    return max(STEPS, math.ceil(-math.log(least) / math.log(contraction())))


def request_steps(request, shape):
    """Return the steps of a request, from 1 on; in "perfect" they make up for the noise that it starts from."""
    if GUARANTEE == "output":
        return STEPS
    more = math.log(math.log(4 * shape.numel() * request / CERTIFICATE[1]))
    return base_steps(shape) + math.ceil(-more / math.log(contraction()))


def noise_scale(shape):
    """Return the standard deviation of the noise on each weight."""
    epsilon, delta = CERTIFICATE
    if GUARANTEE == "output":
        log = math.log(1 / delta)
        return 2 * math.sqrt(2) * steady_error(shape) / (math.sqrt(log + epsilon) - math.sqrt(log))
    log = 2 * math.log(2 / delta)
    return 4 * steady_error(shape) / (math.sqrt(log + 3 * epsilon) - math.sqrt(log + 2 * epsilon))


def noise(shape):
    """Return fresh noise."""
    return noise_scale(shape) * torch.randn(shape, dtype=torch.float64)


# ---- a linear classifier as rows and theta ------------------------------------------------------------------------


def rows_of(dataset, val_loader):
    """Return centred pixels and a 1, over ROW_NORM, (n, 1 + n_pixels) float64; no row is longer than 1."""
    pixels = dataset.inputs.flatten(1).double()
    ones = torch.ones(len(pixels), 1, dtype=torch.float64)
    rows = torch.cat([pixels - centre(val_loader), ones], dim=1) / ROW_NORM
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)


def targets_of(dataset, net):
    """Return the labels as columns with a single 1, (n_classes, n) float64: classes first, as is faster for softmax."""
    return nn.functional.one_hot(dataset.labels, linear_layer(net).out_features).T.double().contiguous()


def centre(val_loader):
    """Return the mean image of the val set, (n_pixels,)."""
    return val_loader.dataset.inputs.flatten(1).double().mean(dim=0)


def linear_layer(net):
    """Return the one layer of the net."""
    layers = [layer for layer in net.modules() if next(layer.parameters(recurse=False), None) is not None]
    if [type(layer) for layer in layers] != [nn.Linear] or next(net.buffers(), None) is not None:
        raise ValueError("this method is for a linear classifier of the pixels, as on the track digits-linear")
    return layers[0]


@torch.no_grad()
def publish(net, theta, val_loader):
    """Give the net the weights with which it makes of pixels what theta makes of rows."""
    layer, weight = linear_layer(net), theta[:, :-1] / ROW_NORM
    layer.weight.copy_(weight)
    layer.bias.copy_(theta[:, -1] / ROW_NORM - weight @ centre(val_loader))
