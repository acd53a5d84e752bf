"""What is kept of a model, original, retrained and unlearned alike: its outputs on the track's data sets, as arrays.

Many models are one `Records` with the models along the first axis, so that scoring works on plain arrays.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["SETS", "TRIGGERED", "Records", "record_bytes"]

SETS = ("retain", "forget", "val", "test")
TRIGGERED = "triggered"  # one set more on tracks with a trojan


@dataclass(frozen=True)
class Records:
    """Outputs of n models. Examples are in the track's order; labels are kept once, in the track."""

    forget_logits: np.ndarray  # (n, n_forget, n_classes) float32
    test_logits: np.ndarray  # (n, n_test, n_classes) float32
    retain_confidence: np.ndarray  # (n, n_retain) float32, logit-scaled, of the true class
    retain_correct: np.ndarray  # (n, n_retain) bool
    val_confidence: np.ndarray  # (n, n_val) float32
    val_correct: np.ndarray  # (n, n_val) bool
    accuracy: np.ndarray  # (n, 4) float64 in the order of SETS
    original: np.ndarray  # (n,) int64: index of the original model it started from, -1 for none
    distance: np.ndarray  # (n,) float64: L2 distance of the weights to that original, NaN for none
    weights_sha256: np.ndarray  # (n,) str
    triggered_hits: np.ndarray | None = None  # (n, n_triggered) bool: called the trojan's target; None without a trojan

    def __len__(self) -> int:
        return len(self.original)

    def __getitem__(self, rows: slice | np.ndarray) -> "Records":
        """Return the records of some models."""
        return Records(**{name: array[rows] for name, array in self.arrays().items()})

    def accuracy_on(self, name: str) -> np.ndarray:
        """Return every model's accuracy (n,) on one of the four sets."""
        column: np.ndarray = self.accuracy[:, SETS.index(name)]
        return column

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, as they are stored."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: array for name, array in named.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Records":
        """Return records from stored arrays; others among them are passed over. Raises KeyError if one is missing."""
        optional = {"triggered_hits"} - arrays.keys()
        return cls(
            **{field.name: arrays[field.name] for field in dataclasses.fields(cls) if field.name not in optional}
        )

    @classmethod
    def concatenate(cls, parts: Iterable["Records"]) -> "Records":
        """Return the records of all parts, one after the other."""
        all_arrays = [part.arrays() for part in parts]
        return cls(**{name: np.concatenate([arrays[name] for arrays in all_arrays]) for name in all_arrays[0]})


def record_bytes(sizes: Mapping[str, int], n_classes: int, *, requests: int = 1) -> int:
    """Return what the outputs of one model, or of one run of several deletion requests, take in bytes.

    sizes: the number of examples of each set that is recorded.
    """
    after_each = requests if requests > 1 else 0  # beside those of the last one
    n_logits = n_classes * ((1 + after_each) * sizes["forget"] + sizes["test"])
    value, flag = np.dtype(np.float32).itemsize, np.dtype(bool).itemsize
    return value * n_logits + (value + flag) * (sizes["retain"] + sizes["val"]) + flag * sizes.get(TRIGGERED, 0)
