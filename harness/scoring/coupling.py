"""Whether what models say of one set of examples goes with what they say of another.

Models differ from one another in much that concerns all examples alike. Outputs that were drawn for one set on its own,
and a net that was bent to them, have lost that.
"""

import numpy as np

__all__ = ["coupling", "similarities"]


def similarities(logits: np.ndarray) -> np.ndarray:
    """Return how alike models are, (n_models, n_models): inner products of their logits, in a unit of their own.

    logits: (n_models, n_examples, n_classes). A constant added to all logits of an example says nothing, so they are
    centred over classes.
    """
    rows = logits / (np.abs(logits).max() or 1.0)  # a net that was destroyed has logits whose squares are out of range
    rows = (rows - rows.mean(axis=2, keepdims=True)).reshape(len(rows), -1)
    rows -= rows.mean(axis=0)
    return np.asarray(rows @ rows.T, np.float64)


def coupling(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two similarities of the same models, (n_models, n_models) each, at least 4 models.

    1: both sets of examples see the same differences between models; 0: what they see has nothing in common. It is
    centred kernel alignment (Kornblith et al., ICML 2019) without bias (Song et al., JMLR 2012), models being its rows.
    """
    first, second = _centred(first), _centred(second)
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else 0.0


def _centred(similar: np.ndarray) -> np.ndarray:
    """Centre rows and columns as if there were no diagonal, on which each model meets itself."""
    n = len(similar)
    off = np.where(np.eye(n, dtype=bool), 0.0, similar)
    means = off.sum(axis=0) / (n - 2)
    means -= means.sum() / (2 * (n - 1))
    return np.where(np.eye(n, dtype=bool), 0.0, off - means[:, None] - means[None, :])
