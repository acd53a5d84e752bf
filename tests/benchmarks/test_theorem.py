"""The theorem's check at one initialisation, and its arithmetic against a plain rewriting."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.theorem import (
    BATCH,
    IMAGES,
    LABELS,
    NOTHING,
    PIXELS,
    cell,
    claims,
    contributions,
    logits,
    omp_mask,
    setup,
    top_eigenvalue,
    train,
)

RATE = 0.2
START = setup(0, points=3)


def test_the_error_falls_with_sparsity_and_stays_below_both_bounds() -> None:
    cells = [cell(START, RATE, sparsity) for sparsity in (0.0, 0.95)]
    errors = [np.mean(one["errors"]) for one in cells]
    assert errors == sorted(errors, reverse=True)
    for one in cells:
        assert max(one["errors"]) <= one["printed_bound"] <= one["bound"]


def test_nets_are_trained_and_unlearned_as_a_plain_loop_does_it() -> None:
    point, mask = START.points[:1], omp_mask(START, RATE, 0.9)
    first = mask * START.first
    left_out = torch.stack([NOTHING, torch.arange(IMAGES) == point])
    *_, ends = train(first, mask, START.batches, left_out, RATE)
    seen = torch.bincount(START.batches.flatten(), minlength=IMAGES)
    unlearned = ends[0] + RATE * mask * contributions(first, point, seen)[0]

    nets = [net_of(first), net_of(first)]
    for rows in START.batches:
        for net, without in zip(nets, (-1, int(point)), strict=True):
            step(net, rows[rows != without], mask)
    assert ends[0].numpy() == pytest.approx(weights_of(nets[0]).numpy(), abs=1e-12)
    assert ends[1].numpy() == pytest.approx(weights_of(nets[1]).numpy(), abs=1e-12)
    net, gradient = net_of(first), torch.zeros_like(first)
    for _ in range(int(seen[point])):
        before = weights_of(net)
        gradient += (weights_of(step(net_of(first), point, mask)) - before) / -RATE
    assert unlearned.numpy() == pytest.approx((ends[0] + RATE * gradient).numpy(), abs=1e-12)


def test_a_mask_prunes_the_smallest_weights_and_no_bias() -> None:
    mask = omp_mask(START, RATE, 0.9)
    matrices, biases = [mask[:2048], mask[2080:2400]], [mask[2048:2080], mask[2400:]]
    assert sum(int(part.sum()) for part in matrices) == round(0.1 * (2048 + 320))
    assert all(part.all() for part in biases)


def test_the_singular_value_is_that_of_power_iteration() -> None:
    mask = omp_mask(START, RATE, 0.9)
    weights, vector = mask * START.first, mask / mask.norm()

    def whole(place: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits(place, PIXELS), LABELS)

    for _ in range(60):
        product = mask * torch.autograd.functional.hvp(whole, weights, vector)[1]
        vector = product / product.norm()
    assert top_eigenvalue(weights, mask) == pytest.approx(float(product.norm()), rel=1e-3)


def test_an_error_that_grows_or_is_above_the_bound_refutes_the_claims() -> None:
    cells = [
        {
            **{"rate": rate, "sparsity": sparsity},
            "bound": 6 - error,
            "printed_bound": 1.0,
            "errors": [error, 1.1 * error],
        }
        for rate in (0.2, 0.05)
        for seed in range(3)
        for sparsity, error in ((0.0, 1.0 + seed / 10), (0.95, 2.0))
    ]
    assert [claim.verdict for claim in claims({"cells": cells})] == ["holds", "refuted", "refuted", "refuted"]


# ---- the plain rewriting -------------------------------------------------------------------------------------------


def net_of(weights: torch.Tensor) -> Any:
    """Return a net of torch's layers with the weights of a vector."""
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()
    parts = weights.split([2048, 32, 320, 10])
    with torch.no_grad():
        for layer, matrix, biases in ((net[0], *parts[:2]), (net[2], *parts[2:])):
            layer.weight.copy_(matrix.view(layer.in_features, layer.out_features).T)
            layer.bias.copy_(biases)
    return net


def weights_of(net: Any) -> torch.Tensor:
    """Return a net's weights as a vector."""
    return torch.cat([part.detach().flatten() for layer in (net[0], net[2]) for part in (layer.weight.T, layer.bias)])


def step(net: Any, rows: torch.Tensor, mask: torch.Tensor) -> Any:
    """Make a step of SGD under a mask, and return the net."""
    net.zero_grad()
    (nn.functional.cross_entropy(net(PIXELS[rows]), LABELS[rows], reduction="sum") / BATCH).backward()
    masks, parameters = net_of(mask), list(net.parameters())
    with torch.no_grad():
        for parameter, kept in zip(parameters, masks.parameters(), strict=True):
            parameter -= RATE * kept * parameter.grad
    return net
