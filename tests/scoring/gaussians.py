"""Gaussians whose epsilons are known."""

import numpy as np

N = 512


def draw(
    count: int, *, shift: float = 0.0, scale: float = 1.0, n: int = N, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` columns of n shifted and scaled and of n plain standard Gaussians."""
    rng = np.random.default_rng([seed, count, n])
    return shift + scale * rng.normal(0, 1, (n, count)), rng.normal(0, 1, (n, count))
