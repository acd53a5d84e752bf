"""Half-samples, differences, permutations, many comparisons: sizes and coverage with fixed seeds."""

import numpy as np
import pytest

from harness.scoring.epsilons import min_count_epsilons, smooth_quality
from harness.scoring.score import Outputs, calibrated_quality, half_sample_scores, score
from harness.scoring.uncertainty import (
    cluster_error,
    difference,
    half_samples,
    holm,
    interval,
    permutation_p_value,
    standard_error,
)


def drawn(generator: np.random.Generator, n: int, *, shift: float = 0.0, examples: int = 40) -> Outputs:
    """Outputs of n models whose examples are correlated through a factor of the model, as those of real ones are."""
    shared = generator.normal(0, 0.5, (n, 1))
    confidences = shared + generator.normal(shift, 1, (n, examples))
    accuracy = 0.9 + generator.normal(0, 0.01, n)
    return Outputs(confidences, accuracy, accuracy, np.arange(n) % 4)


def test_half_samples_take_half_of_every_stratum_without_repeats() -> None:
    strata = np.array([0] * 8 + [1] * 5 + [2] * 3)
    rows = half_samples(strata, n_samples=50, seed=0)
    assert rows.shape == (50, 4 + 2 + 1)
    assert all(len(set(row)) == 7 for row in rows.tolist())
    assert all(np.bincount(strata[row]).tolist() == [4, 2, 1] for row in rows)
    assert np.array_equal(rows, half_samples(strata, n_samples=50, seed=0))
    assert not np.array_equal(rows, half_samples(strata, n_samples=50, seed=1))


def test_the_standard_error_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(0, 2, 64)
    means = values[half_samples(np.zeros(64, int), n_samples=2000, seed=1)].mean(axis=1)
    assert standard_error(means) == pytest.approx(1.4 * values.std(ddof=1) / 8, rel=0.05)


def quality_of(unlearned: Outputs, retrained: Outputs) -> float:
    return smooth_quality(min_count_epsilons(unlearned.confidences, retrained.confidences))


def quality_halves(unlearned: Outputs, retrained: Outputs, n_samples: int = 200) -> np.ndarray:
    """Q on half-samples, as `half_sample_scores` computes it, without the slower official score."""
    rows = half_samples(unlearned.original, n_samples=n_samples, seed=1)
    reference_rows = half_samples(np.zeros(len(retrained), int), n_samples=n_samples, seed=1)
    return np.array([quality_of(unlearned[u], retrained[r]) for u, r in zip(rows, reference_rows, strict=True)])


def test_half_sample_scores_are_those_of_their_parts() -> None:
    generator = np.random.default_rng(5)
    unlearned, retrained = drawn(generator, 32, examples=5), drawn(generator, 32, examples=5)
    halves = half_sample_scores(unlearned, retrained, np.full(200, 0.5), seed=1)
    assert np.array_equal(halves.smooth_quality, quality_halves(unlearned, retrained))
    ours, theirs = half_samples(unlearned.original, seed=1)[7], half_samples(np.zeros(32, int), seed=1)[7]
    quality = calibrated_quality(unlearned[ours], retrained[theirs], 0.5)
    assert halves.calibrated_score[7] == pytest.approx(quality)
    assert halves.score[7] == pytest.approx(score(unlearned[ours], retrained[theirs]).score)


def coverage(n_pools: int) -> float:
    """Return how often the interval of Q holds its expectation."""
    generator = np.random.default_rng(1)

    def pair() -> tuple[Outputs, Outputs]:
        return drawn(generator, 64, shift=0.3), drawn(generator, 64)

    expected = np.mean([quality_of(*pair()) for _ in range(150)])
    held = 0
    for _ in range(n_pools):
        pool = pair()
        low, high = interval(quality_of(*pool), quality_halves(*pool, n_samples=60))
        held += bool(low <= expected <= high)
    return held / n_pools


def test_intervals_hold_the_expectation_in_nine_of_ten_pools() -> None:
    assert coverage(40) >= 0.85


@pytest.mark.slow
def test_intervals_hold_the_expectation_in_nine_of_ten_of_200_pools() -> None:
    assert coverage(200) >= 0.90


def test_equal_submissions_are_rarely_called_different_and_unequal_ones_often() -> None:
    generator = np.random.default_rng(1)
    false_alarms, found = 0, 0
    for _ in range(20):
        retrained = drawn(generator, 64)
        sides = [drawn(generator, 64, shift=shift) for shift in (0.3, 0.3, 1.2)]
        values = [quality_of(side, retrained) for side in sides]
        halves = [quality_halves(side, retrained) for side in sides]
        false_alarms += difference(values[0], values[1], halves[0], halves[1]).is_significant
        found += difference(values[0], values[2], halves[0], halves[2]).is_significant
    assert false_alarms <= 4
    assert found >= 18


def test_identical_scores_are_not_different() -> None:
    halves = np.random.default_rng(0).normal(size=200)
    same = difference(0.5, 0.5, halves, halves)
    assert (same.p_value, same.is_significant) == (1.0, False)


def test_permutation_p_values_are_uniform_under_equality_and_small_under_difference() -> None:
    generator = np.random.default_rng(2)
    strata = np.arange(40) % 4

    def p_value(shift: float) -> float:
        values = np.concatenate([generator.normal(0, 1, 20), generator.normal(shift, 1, 20)])
        return permutation_p_value(lambda a, b: values[a].mean() - values[b].mean(), strata, n_permutations=99)

    null = [p_value(0.0) for _ in range(60)]
    assert np.mean(np.array(null) <= 0.05) <= 0.13
    assert 0.35 < np.mean(null) < 0.65
    assert np.median([p_value(1.5) for _ in range(20)]) == 0.01


def test_the_error_over_clusters_is_that_of_their_means_and_ignores_their_order() -> None:
    generator = np.random.default_rng(8)
    clusters = np.repeat(np.arange(40), 5)
    values = generator.normal(0, 1, 40)[clusters] + generator.normal(0, 0.1, 200)
    assert cluster_error(values, clusters) == pytest.approx(1 / np.sqrt(40), rel=0.3)
    assert cluster_error(values, np.arange(200)) < 0.6 * cluster_error(values, clusters)
    mixed = generator.permutation(200)
    assert cluster_error(values[mixed], clusters[mixed]) == pytest.approx(cluster_error(values, clusters), rel=1e-9)


def test_holm_is_the_textbook_procedure() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]
