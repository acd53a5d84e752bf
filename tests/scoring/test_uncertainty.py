"""Half-samples, differences, permutations, many comparisons: sizes and coverage with fixed seeds."""

from dataclasses import replace

import numpy as np
import pytest

from harness.scoring.epsilons import min_count_epsilons, smooth_quality
from harness.scoring.official import example_epsilons, forgetting_quality
from harness.scoring.score import (
    Outputs,
    calibrated_score,
    half_sample_qualities,
    half_sample_rows,
    half_sample_scores,
    min_count_quality,
    score,
)
from harness.scoring.uncertainty import (
    cluster_error,
    difference,
    half_samples,
    holm,
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
    assert rows.shape == (50, 8)
    assert all(len(set(row)) == 8 for row in rows.tolist())
    assert all(np.bincount(strata[row]).tolist() == [4, 3, 1] for row in rows)  # one of the odd strata is rounded up
    assert np.array_equal(rows, half_samples(strata, n_samples=50, seed=0))
    assert not np.array_equal(rows, half_samples(strata, n_samples=50, seed=1))


def test_the_standard_error_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(0, 2, 64)
    means = values[half_samples(np.zeros(64, int), n_samples=2000, seed=1)].mean(axis=1)
    assert standard_error(means) == pytest.approx(1.4 * values.std(ddof=1) / 8, rel=0.05)


def test_half_samples_of_odd_strata_are_as_large_as_those_of_the_reference() -> None:
    models = drawn(np.random.default_rng(0), 20)
    models = replace(models, original=np.arange(20) % 8)  # four of three models, four of two
    ours, theirs = half_sample_rows(models, 20)
    assert ours.shape == theirs.shape == (200, 10)


def test_two_sides_of_one_stratum_do_not_take_the_same_rows() -> None:
    models = replace(drawn(np.random.default_rng(0), 16), original=np.zeros(16, int))
    ours, theirs = half_sample_rows(models, 16)
    assert np.mean([set(u) == set(t) for u, t in zip(ours.tolist(), theirs.tolist(), strict=True)]) < 0.1


def test_half_sample_scores_are_those_of_their_parts() -> None:
    generator = np.random.default_rng(5)
    unlearned, retrained = drawn(generator, 32, examples=5), drawn(generator, 32, examples=5)
    halves = half_sample_scores(unlearned, retrained, 0.5, seed=1)
    ours, theirs = (rows[7] for rows in half_sample_rows(unlearned, 32, seed=1))
    half = score(unlearned[ours], retrained[theirs])
    sides = unlearned.confidences[ours], retrained.confidences[theirs]
    quality = smooth_quality(min_count_epsilons(*sides, min_count=2.5))
    assert halves.smooth_quality[7] == pytest.approx(quality)
    assert halves.calibrated_score[7] == pytest.approx(calibrated_score(replace(half, smooth_quality=quality), 0.5))
    credit = forgetting_quality(example_epsilons(*sides), 16)
    assert halves.score[7] == pytest.approx(credit * half.retain_ratio * half.test_ratio)
    assert np.array_equal(half_sample_qualities(unlearned, retrained, seed=1), halves.smooth_quality)


def test_half_samples_have_a_score_over_what_is_resolved_where_one_of_all_would_be_withheld() -> None:
    generator = np.random.default_rng(6)
    unlearned, retrained = (drawn(generator, 16, examples=50) for _ in range(2))
    for side in (unlearned, retrained):
        side.confidences[:, :2] = 2.75  # the same for all models: unresolved
    scored, halves = score(unlearned, retrained), half_sample_scores(unlearned, retrained, 1.0)
    assert scored.score is None
    assert halves.score.min() > 0


@pytest.mark.parametrize("n", [8, 9, 16, 64])
def test_qualities_of_half_samples_spread_about_as_those_of_new_models(n: int) -> None:
    generator = np.random.default_rng(n)
    pools = [(drawn(generator, n, shift=0.3, examples=20), drawn(generator, n, examples=20)) for _ in range(60)]
    of_new_models = np.std([min_count_quality(*pool) for pool in pools])
    of_halves = np.mean([np.std(half_sample_qualities(*pool)) for pool in pools[:12]])
    assert 0.5 < of_halves / of_new_models < 1.2


def test_equal_submissions_are_rarely_called_different_and_unequal_ones_often() -> None:
    generator = np.random.default_rng(1)
    false_alarms, found = 0, 0
    for _ in range(20):
        retrained = drawn(generator, 64)
        sides = [drawn(generator, 64, shift=shift) for shift in (0.3, 0.3, 1.2)]
        values = [min_count_quality(side, retrained) for side in sides]
        halves = [half_sample_qualities(side, retrained) for side in sides]
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
    error = cluster_error(values, clusters)
    assert error is not None
    assert error == pytest.approx(1 / np.sqrt(40), rel=0.3)
    alone = cluster_error(values, np.arange(200))
    assert alone is not None
    assert alone < 0.6 * error
    mixed = generator.permutation(200)
    assert cluster_error(values[mixed], clusters[mixed]) == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("k", [2, 3, 40])
def test_the_error_over_clusters_of_equal_size_is_that_of_a_mean(k: int) -> None:
    means = np.random.default_rng(k).normal(0, 1, k)
    error = cluster_error(np.repeat(means, 3), np.repeat(np.arange(k), 3), n_samples=20_000)
    assert error == pytest.approx(means.std(ddof=1) / np.sqrt(k), rel=0.03)


def test_one_cluster_says_nothing_of_others() -> None:
    assert cluster_error(np.arange(5.0), np.zeros(5, int)) is None


def test_holm_is_the_textbook_procedure() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]
