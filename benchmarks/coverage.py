"""How often intervals hold what they should, and comparisons tell what they should, for models that share a factor.

`benchmarks.tables` writes the tables, `tests/benchmarks/test_tables.py` checks them.
"""

from typing import Any

import joblib
import numpy as np

from harness.scoring.ceiling import ceiling
from harness.scoring.score import (
    Outputs,
    calibrated_score,
    half_sample_qualities,
    half_sample_scores,
    min_count_quality,
    official_score,
    score,
)
from harness.scoring.uncertainty import difference, interval, permutation_p_value

__all__ = ["coverage", "models", "separation"]

Row = dict[str, Any]
PERMUTATIONS = 199


def models(generator: np.random.Generator, n: int, examples: int, *, shift: float, correlation: float) -> Outputs:
    """Return outputs of n models, in 4 strata, whose examples are correlated through the model they share."""
    shared, own = generator.normal(size=(n, 1)), generator.normal(size=(n, examples))
    confidences = shift + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    retain, test = 0.9 + generator.normal(0, 0.01, (2, n))
    return Outputs(confidences, retain, test, np.arange(n) % 4)


def coverage(*, correlation: float, pools: int = 200, n: int = 64, examples: int = 24, shift: float = 0.25) -> Row:
    """Return how often nominal 95 % intervals hold what they should.

    Those of score, Q and calibrated score hold the mean over all pools; that of the ceiling holds the official score of
    another perfect submission.
    """

    def of_pool(seed: int) -> tuple[np.ndarray, bool]:
        generator = np.random.default_rng([seed, n])
        unlearned, retrained, others, perfect = (
            models(generator, n, examples, shift=by, correlation=correlation) for by in (shift, 0, 0, 0)
        )
        best = ceiling(retrained, others)
        assert best.interval is not None
        found = score(unlearned, retrained)
        halves = half_sample_scores(unlearned, retrained, best.smooth_quality)
        calibrated = calibrated_score(found, best.smooth_quality)
        intervals = (
            interval(official_score(unlearned, retrained).score, halves.score),
            interval(found.smooth_quality, halves.smooth_quality),
            interval(calibrated, halves.calibrated_score),
        )
        low, high = best.interval
        return np.array(intervals), low <= official_score(perfect, retrained).score <= high

    of_pools = joblib.Parallel(-1)(joblib.delayed(of_pool)(seed) for seed in range(pools))
    found = np.array([intervals for intervals, _ in of_pools])
    expected = found.mean(axis=(0, 2))  # intervals are centred at their values
    held = ((found[..., 0] <= expected) & (expected <= found[..., 1])).mean(axis=0)
    names = ("score", "smooth_quality", "calibrated_score")
    return {
        "correlation": correlation,
        "shift": shift,
        "n_models": n,
        "examples": examples,
        "pools": pools,
        "coverage": {
            **dict(zip(names, held.tolist(), strict=True)),
            "ceiling": float(np.mean([is_within for _, is_within in of_pools])),
        },
    }


def separation(shift: float, *, repeats: int = 200, n: int = 512, examples: int = 15, correlation: float = 0.3) -> Row:
    """Return how often two submissions, the first shifted by .25 sd, are called different at the 5 % level."""

    def once(seed: int) -> tuple[bool, bool]:
        generator = np.random.default_rng([seed, n])
        first, second, retrained = (
            models(generator, n, examples, shift=by, correlation=correlation) for by in (0.25, shift, 0)
        )
        together = Outputs.concatenate(first, second)

        def gap(rows: np.ndarray, other_rows: np.ndarray) -> float:
            return min_count_quality(together[rows], retrained) - min_count_quality(together[other_rows], retrained)

        by_permutation = permutation_p_value(gap, together.original, n_permutations=PERMUTATIONS, seed=seed)
        by_halves = difference(
            min_count_quality(first, retrained),
            min_count_quality(second, retrained),
            *(half_sample_qualities(side, retrained) for side in (first, second)),
        )
        return by_permutation <= 0.05, by_halves.is_significant

    called = np.mean(joblib.Parallel(-1)(joblib.delayed(once)(seed) for seed in range(repeats)), axis=0)
    return {
        "shifts": [0.25, shift],
        "correlation": correlation,
        "n_models": n,
        "examples": examples,
        "repeats": repeats,
        "called_different": dict(zip(("permutation", "half_samples"), called.tolist(), strict=True)),
    }
