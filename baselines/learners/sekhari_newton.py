"""Newton unlearning from a stored Hessian: one step to where training without the forget set would end, and noise.

Source: "Remember What You Want to Forget: Algorithms for Machine Unlearning" (Sekhari, Acharya, Kamath and Suresh,
NeurIPS 2021), Algorithm 1 for strongly convex losses.

Made for a linear classifier, as on `digits-linear`.
Training: w, the minimum of the mean loss, and the Hessian there. What is published is w plus Gaussian noise; w and the
Hessian are kept. Unlearning reads no example but those that leave, all at once: their Hessians are taken out of the
stored one, their gradients make one Newton step, and what is published gets fresh noise.

What CERTIFICATE rests on: rows of norm at most 1, so that each example's loss, cross-entropy plus PENALTY / 2 |w|^2, is
PENALTY-strongly convex, has a gradient of norm at most `lipschitz` at a minimum, and a Hessian whose Lipschitz constant
is `hessian_lipschitz`. Then unlearning ends within the published `distance` of retraining; a quarter of it would do,
which leaves room for the optimiser. Both sides add the same noise, so it cannot depend on how many examples there are
or leave: hence CAPACITY and N_LEFT. Epsilon is at most 1. Pixels are centred by the val set, never forgotten. The
request may not depend on what was published.
The distance grows with CAPACITY^2 / (PENALTY^3 N_LEFT^2). On a small track only a PENALTY far above the curvature of
the data makes the noise smaller than the weights; what is learned then is little more than the mean of each class.
Deviations: training adds the noise; the source compares with what its unlearning makes of a training and no request.
"""

import math

import torch
from torch import nn

# Ours: the source says nothing, or something else.
CERTIFICATE = (1.0, 5e-6)  # epsilon and delta
TOLERANCE = 1e-10  # of the optimiser, on the norm of the gradient
MAX_STEPS = 100  # of the optimiser

# Adapted to small tracks and short limits.
PENALTY = 30.0  # lambda
CAPACITY = 64  # m: examples that leave, at most
N_LEFT = 416  # n: examples that are left, at least
ROW_NORM = 6.0  # of centred pixels with a 1 for the bias; a longer row is shortened


def train(net, train_loader, val_loader):
    """Minimise the mean loss; publish with noise, keep the minimum and its Hessian."""
    rows = rows_of(train_loader.dataset, val_loader)
    w = minimize(rows, targets_of(train_loader.dataset, net))
    publish(net, w + noise(w.shape), val_loader)
    nothing = {"m": torch.tensor(0), "m_hessian": torch.zeros(w.numel(), w.numel(), dtype=w.dtype), "m_gradient": 0 * w}
    return net, {"w": w, "hessian": hessian(w, rows), **nothing}


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Take one Newton step, from statistics and the examples that leave; publish with noise."""
    rows, targets = rows_of(forget_loader.dataset, val_loader), targets_of(forget_loader.dataset, net)
    w, m, n_left = state["w"], int(state["m"]) + len(rows), len(retain_loader.dataset)
    if m > CAPACITY or n_left < N_LEFT:
        raise ValueError(f"{m} leave, {n_left} are left; CERTIFICATE is for at most {CAPACITY} and at least {N_LEFT}")
    m_hessian = state["m_hessian"] + len(rows) * hessian(w, rows)
    m_gradient = state["m_gradient"] + len(rows) * gradient(w, rows, targets)
    left = ((n_left + m) * state["hessian"] - m_hessian) / n_left
    stepped = w + torch.linalg.solve(left, m_gradient.flatten()).view_as(w) / n_left
    publish(net, stepped + noise(w.shape), val_loader)
    return net, state | {"m": torch.tensor(m), "m_hessian": m_hessian, "m_gradient": m_gradient}


# ---- the loss -----------------------------------------------------------------------------------------------------


def gradient(w, rows, targets):
    """Return the gradient (n_classes, n_columns) of the mean over examples of cross-entropy plus penalty."""
    errors = (rows @ w.T).softmax(dim=1) - targets
    return errors.T @ rows / len(rows) + PENALTY * w


def hessian(w, rows):
    """Return the Hessian of the mean loss in the weights, class after class: a square of n_classes n_columns."""
    probabilities = (rows @ w.T).softmax(dim=1)
    parts = (probabilities[:, :, None] * rows[:, None, :]).flatten(1)  # p_k x of each example
    own = torch.block_diag(*[rows.T @ (p[:, None] * rows) for p in probabilities.T])
    return (own - parts.T @ parts) / len(rows) + PENALTY * torch.eye(w.numel(), dtype=w.dtype)


def minimize(rows, targets):
    """Return the weights at which the mean loss is least, by Newton's method from zero.

    Raises ArithmeticError if the gradient does not vanish.
    """
    w = torch.zeros(targets.shape[1], rows.shape[1], dtype=torch.float64)
    for _ in range(MAX_STEPS):
        slope = gradient(w, rows, targets)
        if slope.norm() <= TOLERANCE:
            return w
        w = w - torch.linalg.solve(hessian(w, rows), slope.flatten()).view_as(w)
    raise ArithmeticError(f"Newton's method has not converged in {MAX_STEPS} steps: raise PENALTY or TOLERANCE")


# ---- what the guarantee needs -------------------------------------------------------------------------------------


def lipschitz():
    """Return the bound of an example's gradient at a minimum: sqrt 2 for cross-entropy, and no more for the penalty.

    At a minimum the penalty's gradient is minus the mean of the others'.
    """
    return 2 * math.sqrt(2)


def hessian_lipschitz():
    """Return the Lipschitz constant of the Hessian of cross-entropy on a row of norm 1.

    Along h, |h| = 1, its derivative is the third central moment of h_k under the probabilities. These values lie within
    sqrt 2, and the third moment on an interval of length a is at most a^3 / (6 sqrt 3).
    """
    return math.sqrt(2) ** 3 / (6 * math.sqrt(3))


def distance():
    """Return gamma, which bounds how far from retraining unlearning ends."""
    return 2 * hessian_lipschitz() * CAPACITY**2 * lipschitz() ** 2 / (PENALTY**3 * N_LEFT**2)


def noise_scale():
    """Return the standard deviation of the noise on each weight."""
    epsilon, delta = CERTIFICATE
    assert epsilon <= 1, CERTIFICATE
    return distance() / epsilon * math.sqrt(2 * math.log(1.25 / delta))


def noise(shape):
    """Return fresh noise."""
    return noise_scale() * torch.randn(shape, dtype=torch.float64)


# ---- a linear classifier as rows and weights ----------------------------------------------------------------------


def rows_of(dataset, val_loader):
    """Return centred pixels and a 1, over ROW_NORM, (n, 1 + n_pixels) float64; no row is longer than 1."""
    pixels = dataset.inputs.flatten(1).double()
    ones = torch.ones(len(pixels), 1, dtype=torch.float64)
    rows = torch.cat([pixels - centre(val_loader), ones], dim=1) / ROW_NORM
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)


def targets_of(dataset, net):
    """Return the labels as rows with a single 1, (n, n_classes) float64."""
    return nn.functional.one_hot(dataset.labels, linear_layer(net).out_features).double()


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
def publish(net, w, val_loader):
    """Give the net the weights with which it makes of pixels what w makes of rows."""
    layer, weight = linear_layer(net), w[:, :-1] / ROW_NORM
    layer.weight.copy_(weight)
    layer.bias.copy_(w[:, -1] / ROW_NORM - weight @ centre(val_loader))
