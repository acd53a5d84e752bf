"""The comparison with published figures: its criteria on invented results, and its loss against the softmax's."""

import copy
from typing import Any

import pytest
import torch

from benchmarks.cat_and_ship import PUBLISHED, claims, gradient, hessian, logistic, split
from benchmarks.verdicts import Verdict


def as_published() -> list[dict[str, Any]]:
    return [
        {
            **{"method": method, "ratio": ratio, "seconds": 40 / times},
            **{"test_accuracy": test, "forget_accuracy": forget},
        }
        for (method, ratio), (test, forget, times) in PUBLISHED.items()
    ]


def test_the_published_figures_meet_the_criteria_and_each_can_fail() -> None:
    cells = as_published()
    assert [claim.verdict for claim in claims(cells)] == [Verdict.HOLDS] * 4
    for number, (method, change) in enumerate(
        [
            ("retrained", {"test_accuracy": 0.7}),
            ("Fisher, m/8", {"forget_accuracy": 0.5}),
            ("Influence, m", {"seconds": 2.0}),
            ("Fisher, m/8", {"seconds": 100.0}),
        ]
    ):
        others = copy.deepcopy(cells)
        for one in others:
            if one["method"] == method:
                one.update(change)
        verdicts = [claim.verdict for claim in claims(others)]
        assert verdicts == [Verdict.REFUTED if place == number else Verdict.HOLDS for place in range(4)]


def test_gradient_and_hessian_are_those_of_the_logistic_loss() -> None:
    torch.manual_seed(0)
    data, weights = (torch.randn(30, 4), torch.arange(30) % 2), torch.randn(1, 4)

    def loss(vector: torch.Tensor) -> torch.Tensor:
        terms = torch.nn.functional.binary_cross_entropy_with_logits(data[0] @ vector, data[1].float(), reduction="sum")
        return terms + 1e-4 * 30 / 2 * vector.square().sum()

    torch.testing.assert_close(gradient(weights, data)[0], torch.func.grad(loss)(weights[0]))
    torch.testing.assert_close(hessian(weights, data), torch.autograd.functional.hessian(loss, weights[0]))


@pytest.mark.parametrize("file", ["fisher_removal", "influence_removal"])
def test_the_loops_are_those_of_the_baselines_with_this_loss(file: str) -> None:
    torch.manual_seed(0)
    data = torch.randn(200, 4), torch.arange(200) % 2
    retain, forget = split(data, 0.1)
    assert len(forget[1]) == 20
    assert not forget[1].any()
    stays = retain[0][retain[1] == 0].norm(dim=1)
    assert forget[0].norm(dim=1).min() >= stays.max()
    start, retrained = newton(data), newton(retain)
    left = [float((logistic(file, batches).removed(start, retain, forget) - retrained).norm()) for batches in (1, 8)]
    assert max(left) < 0.2 * float((start - retrained).norm())
    assert left[1] != left[0]
    if file == "fisher_removal":
        assert left[1] < left[0]


def newton(data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the weights where the loss is least."""
    weights = torch.zeros(1, 4)
    for _ in range(20):
        weights = weights - torch.linalg.solve(hessian(weights, data), gradient(weights, data)[0])
    return weights
