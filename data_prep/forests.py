"""Fits random forests with scikit-learn, and turns them into the arrays of `harness.models.Forest`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.models import Forest

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

__all__ = ["as_weights", "fit_forest", "fit_forests"]

LEAF = -1


def fit_forests(
    build: Callable[[], torch.nn.Module],
    images: Tensor,
    labels: Tensor,
    seeds: Sequence[int],
    on_forest: Callable[[], None] = lambda: None,
) -> list[dict[str, Tensor]]:
    """Fit one forest per seed on images (n, channels, height, width) and labels (n,), and return their weights.

    build: returns an empty one of the size that is wanted.
    """
    fitted = []
    for seed in seeds:
        net = build()
        assert isinstance(net, Forest)
        fitted.append(as_weights(fit_forest(net, images, labels, seed), net))
        on_forest()
    return fitted


def fit_forest(net: Forest, images: Tensor, labels: Tensor, seed: int) -> RandomForestClassifier:
    """Return a forest of as many trees of the depth of a net, fitted on the inputs that nets are given."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_estimators=len(net.feature), max_depth=net.depth, n_jobs=1, random_state=seed % 2**32
    )
    return forest.fit(images.flatten(1).cpu().numpy(), labels.cpu().numpy())


def as_weights(forest: RandomForestClassifier, net: Forest) -> dict[str, Tensor]:
    """Return the weights with which a net of its size predicts what a forest does.

    Classes that the forest has not seen have the probability 0.
    """
    arrays = {name: np.zeros(value.shape, np.float32) for name, value in net.state_dict().items()}
    arrays["feature"][:] = LEAF
    for row, estimator in enumerate(forest.estimators_):
        _place(estimator.tree_, forest.classes_, {name: array[row] for name, array in arrays.items()})
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _place(tree: Any, classes: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Write a tree of scikit-learn into the arrays of one tree, from the root on."""
    ahead = [(0, 0)]  # nodes by their numbers there and here
    while ahead:
        there, here = ahead.pop()
        if tree.children_left[there] == LEAF:
            counts = tree.value[there, 0]
            arrays["value"][here, classes] = counts / counts.sum()
            continue
        arrays["feature"][here] = tree.feature[there]
        arrays["threshold"][here] = _float32_below(tree.threshold[there])
        ahead += [(tree.children_left[there], 2 * here + 1), (tree.children_right[there], 2 * here + 2)]


def _float32_below(threshold: float) -> np.float32:
    """Return the largest float32 that is not above a threshold: the same float32 values are at most both."""
    rounded = np.float32(threshold)
    return rounded if rounded <= threshold else np.nextafter(rounded, np.float32(-np.inf))
