"""Certified removal: a Newton step for each example to forget, hidden by a random tilt of the training loss.

Source: "Certified Data Removal from Machine Learning Models" (Guo, Goldstein, Hannun and van der Maaten, ICML 2020) and
its official code (facebookresearch/certified-removal, `test_removal.py`).

Made for a linear classifier, as on `digits-linear`.
Training: for each class against the rest, minimise the sum of logistic losses + PENALTY n / 2 |w|^2 + b'w, b drawn once
from N(0, STD^2). Unlearning: examples leave one by one, each by w + H^-1 (its gradient), H the Hessian of what is left.
That leaves a gradient which is not zero, the residual. Its norm is bounded by 1/4 |X|_2 |step| |X step|; the bounds of
all requests and classes add up, with the residual of the optimiser, and b hides them as long as the sum is within a
budget. When it is spent, training starts again.

What CERTIFICATE rests on: rows of norm at most 1; Theorem 3 of the paper, by which residuals of norm up to
STD epsilon / c in sum are hidden with delta = 1.5 exp(-c^2 / 2), epsilon at most 1; and its data-dependent bound, which
is twice what Taylor's formula gives, and more, as 1/4 bounds a third derivative that is at most 0.097. The proof takes
the residual for a constant shift of b. It depends on b, and the change of volume that this brings is left out there and
here. A training after the budget is spent keeps its b: then what is published is the optimum for one b and some
residual within the budget, always. Pixels are centred by the val set, which is never forgotten. Requests may not depend
on what was published.
Deviations: the spectral norm |X|_2 from an eigenvalue solver, as 20 power iterations of the official code only bound it
from below; Newton's method in place of L-BFGS, in float64.
"""

import math

import torch
from torch import nn

# As published.
CERTIFICATE = (1.0, 1e-4)  # epsilon and delta
PENALTY = 0.1  # lambda: the largest of the source's grid, 1e-4 to 1e-1
STD = 1.0  # of b; the source's grid is 0.01 to 100

# Ours: the source says nothing, or something else.
TOLERANCE = 1e-10  # of the optimiser, on the norm of the gradient
MAX_STEPS = 100  # of the optimiser

# Adapted to small tracks and short limits.
ROW_NORM = 8.0  # of centred pixels with a 1 for the bias; a longer row is shortened


def train(net, train_loader, val_loader):
    """Minimise the tilted loss; keep b, and what the optimiser has spent of the budget."""
    rows = rows_of(train_loader.dataset, val_loader)
    signs = signs_of(train_loader.dataset, net)
    b = STD * torch.randn(signs.shape[1], rows.shape[1], dtype=torch.float64)
    weights = minimize(rows, signs, b)
    publish(net, weights, val_loader)
    return net, {"weights": weights, "b": b, "spent": residual(weights, rows, signs, b)}


def unlearn(net, retain_loader, forget_loader, val_loader, state):
    """Take a Newton step for each example that leaves; train again where the budget is spent."""
    sets = forget_loader.dataset, retain_loader.dataset
    rows = torch.cat([rows_of(each, val_loader) for each in sets])
    signs = torch.cat([signs_of(each, net) for each in sets])
    weights, b, spent = state["weights"], state["b"], state["spent"]
    for gone in range(1, len(forget_loader.dataset) + 1):  # the first so many examples
        left = rows[gone:]
        step = newton_step(weights, left, gradient(weights, rows[gone - 1 : gone], signs[gone - 1 : gone]))
        weights, spent = weights + step, spent + residual_bound(step, left)
        if spent > budget():
            weights = minimize(left, signs[gone:], b)
            spent = residual(weights, left, signs[gone:], b)
    publish(net, weights, val_loader)
    return net, {"weights": weights, "b": b, "spent": spent}


# ---- the loss: one row of weights for each class ------------------------------------------------------------------


def gradient(weights, rows, signs):
    """Return the gradient (n_classes, n_columns) of the sum over examples of loss and penalty, without b."""
    slopes = signs * first_derivative(signs * (rows @ weights.T))
    return slopes.T @ rows + PENALTY * len(rows) * weights


def hessian(weights, rows):
    """Return the Hessian of each class, (n_classes, n_columns, n_columns)."""
    curvatures = second_derivative(rows @ weights.T)  # the same for both signs
    penalty = PENALTY * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype)
    return torch.stack([rows.T @ (curvature[:, None] * rows) for curvature in curvatures.T]) + penalty


def first_derivative(margins):
    """Return that of the logistic loss log(1 + exp(-margin))."""
    return -torch.sigmoid(-margins)


def second_derivative(margins):
    """Return that of the logistic loss, which is even."""
    return torch.sigmoid(margins) * torch.sigmoid(-margins)


def newton_step(weights, rows, gradients):
    """Return H^-1 gradients, class by class, H the Hessian on these rows."""
    return torch.linalg.solve(hessian(weights, rows), gradients)


def minimize(rows, signs, b):
    """Return the weights at which the tilted loss is least, by Newton's method from zero.

    Raises ArithmeticError if the gradient does not vanish.
    """
    weights = torch.zeros_like(b)
    for _ in range(MAX_STEPS):
        if residual(weights, rows, signs, b) <= TOLERANCE:
            return weights
        weights = weights - newton_step(weights, rows, gradient(weights, rows, signs) + b)
    raise ArithmeticError(f"Newton's method has not converged in {MAX_STEPS} steps: raise PENALTY or TOLERANCE")


# ---- the budget ---------------------------------------------------------------------------------------------------


def residual(weights, rows, signs, b):
    """Return the norm of the gradient of the tilted loss, summed over classes."""
    return (gradient(weights, rows, signs) + b).norm(dim=1).sum()


def residual_bound(step, rows):
    """Return a bound of what a Newton step adds to the residual, summed over classes."""
    spectral_norm = torch.linalg.eigvalsh(rows.T @ rows)[-1].sqrt()
    return (spectral_norm / 4 * step.norm(dim=1) * (rows @ step.T).norm(dim=0)).sum()


def budget():
    """Return what b hides, less what the training it is compared with may itself be off its optimum."""
    epsilon, delta = CERTIFICATE
    assert epsilon <= 1, CERTIFICATE
    return STD * epsilon / math.sqrt(2 * math.log(1.5 / delta)) - TOLERANCE


# ---- a linear classifier as rows and weights ----------------------------------------------------------------------


def rows_of(dataset, val_loader):
    """Return centred pixels and a 1, over ROW_NORM, (n, 1 + n_pixels) float64; no row is longer than 1."""
    pixels = dataset.inputs.flatten(1).double()
    ones = torch.ones(len(pixels), 1, dtype=torch.float64)
    rows = torch.cat([pixels - centre(val_loader), ones], dim=1) / ROW_NORM
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1)


def signs_of(dataset, net):
    """Return 1 for the class of an example and -1 for all others, (n, n_classes) float64."""
    return 2 * nn.functional.one_hot(dataset.labels, linear_layer(net).out_features).double() - 1


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
def publish(net, weights, val_loader):
    """Give the net the layer with which it makes of pixels what the weights make of rows."""
    layer, weight = linear_layer(net), weights[:, :-1] / ROW_NORM
    layer.weight.copy_(weight)
    layer.bias.copy_(weights[:, -1] / ROW_NORM - weight @ centre(val_loader))
