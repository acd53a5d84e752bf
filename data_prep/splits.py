"""Who is forgotten and who is tested: one split per track, made once and stored; nothing derives it a second time."""

import numpy as np

from harness.errors import UsageError
from harness.track import Forget, Split

__all__ = ["split_indices"]


def split_indices(labels: np.ndarray, split: Split, forget: Forget) -> dict[str, np.ndarray]:
    """Return indices of the retain, forget, val and test sets, disjoint, each sorted.

    labels: (n,) of the whole data set. A forgotten class is left out of val and test.
    Raises UsageError if there are too few examples.
    """
    order = np.random.default_rng(split.seed).permutation(len(labels))
    if split.train + split.val >= len(labels):
        raise UsageError(
            f"split: train = {split.train} and val = {split.val} leave no test set of {len(labels)} examples"
        )
    train, val, rest = np.split(order, [split.train, split.train + split.val])
    test = rest[: split.test]
    if split.test is not None and len(test) < split.test:
        raise UsageError(f"split: only {len(rest)} examples are left for test = {split.test}")
    if forget.kind == "class":
        chosen = labels[train] == forget.label
        val, test = val[labels[val] != forget.label], test[labels[test] != forget.label]
    else:
        assert forget.count is not None
        chosen = np.arange(len(train)) < forget.count
    if chosen.all() or not chosen.any():
        raise UsageError(f"forget: {chosen.sum()} of {len(train)} training examples would be forgotten")
    for name, indices in (("val", val), ("test", test)):
        if not len(indices):
            raise UsageError(f"split: no examples are left for the {name} set")
    sets = {"retain": train[~chosen], "forget": train[chosen], "val": val, "test": test}
    return {name: np.sort(indices) for name, indices in sets.items()}
