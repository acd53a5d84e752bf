"""scikit-learn's bundled handwritten digits: 1,797 grey images of 8x8 pixels, values 0..16, 10 classes."""

import numpy as np

from data_prep.sources.dataset import Dataset
from harness.tracks.track import Examples

__all__ = ["read_digits"]


def read_digits() -> Dataset:
    """Return the data set, which comes with scikit-learn (UCI, Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Dataset(Examples(digits.images[..., None].astype(np.uint8), digits.target.astype(np.int64)))
