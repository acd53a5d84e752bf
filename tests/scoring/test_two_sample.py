"""Classifier two-sample tests: p-values that are uniform at the null, leaks that no single confidence shows."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.scoring.epsilons import min_count_epsilons
from harness.scoring.official import example_epsilons, forgetting_quality, logit_scaled_confidence
from harness.scoring.tradeoff import mus
from harness.scoring.two_sample import logit_test, set_level_test

N = 512


def draw_sets(n_examples: int, *, shift: float = 0.0, n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw models whose confidences correlate by .3 over examples, unlearned ones shifted up or down at random."""
    rng = np.random.default_rng([seed, n_examples, n])
    sides = math.sqrt(0.7) * rng.normal(0, 1, (2, n, n_examples)) + math.sqrt(0.3) * rng.normal(0, 1, (2, n, 1))
    return sides[0] + shift * rng.choice([-1, 1], n_examples), sides[1]


# ---- confidences on the whole forget set ---------------------------------------------------------------------------


def test_p_values_are_uniform_at_the_null() -> None:
    rng = np.random.default_rng(1)
    tests = [set_level_test(*draw_sets(12, n=40, seed=i), generator=rng, permutations=99) for i in range(200)]
    assert stats.kstest([test.p_value for test in tests], "uniform").pvalue > 0.01
    assert np.mean([test.mu_lower > 0 for test in tests]) <= 0.05
    assert np.mean([test.epsilon_lower > 0 for test in tests]) <= 0.05
    assert np.mean([test.auc for test in tests]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("n_examples", "shift", "auc"),
    [(50, 0.05, 0.569), (50, 0.1, 0.688), (50, 0.25, 0.918), (300, 0.05, 0.655), (300, 0.1, 0.863)],
)
def test_a_set_shows_shifts_that_no_single_example_does(n_examples: int, shift: float, auc: float) -> None:
    u, r = draw_sets(n_examples, shift=shift)
    found = set_level_test(u, r, generator=np.random.default_rng(2))
    assert found.auc > auc - 0.06
    assert found.mu == pytest.approx(math.sqrt(2) * stats.norm.ppf(found.auc))
    assert found.p_value == 1 / 200
    assert mus(u, r, generator=np.random.default_rng(2)).max() < found.mu or shift == 0.05
    if shift == 0.1:
        assert found.auc >= 0.65


def test_lower_bounds_of_a_set_stay_below_the_truth_of_the_best_rule() -> None:
    best = 0.1 * math.sqrt(50 / 0.7)  # the common part of all examples costs a shift of mixed signs next to nothing
    rng = np.random.default_rng(3)
    tests = [set_level_test(*draw_sets(50, shift=0.1, seed=i), generator=rng, permutations=1) for i in range(20)]
    assert np.mean([test.mu_lower > 0 for test in tests]) > 0.5
    assert max(test.mu_lower for test in tests) < best


def test_lower_bounds_survive_more_examples_than_models() -> None:
    # There every fit separates its own models perfectly: a threshold picked from their scores would certify nothing.
    found = set_level_test(*draw_sets(500, shift=0.25, n=64), generator=np.random.default_rng(15), permutations=1)
    assert found.mu_lower > 1.5
    assert found.epsilon_lower > 1


def test_a_test_repeats_with_its_generator_and_treats_the_sides_alike() -> None:
    u, r = draw_sets(20, shift=0.2, n=100)
    first, again = (set_level_test(u, r, generator=np.random.default_rng(4)) for _ in range(2))
    assert first == again
    assert set_level_test(r, u, generator=np.random.default_rng(4)).auc == pytest.approx(first.auc, abs=0.05)


@pytest.mark.parametrize(("n", "m"), [(8, 8), (16, 16), (16, 100)])
def test_few_models_unequal_sides_and_constant_columns_are_no_obstacle(n: int, m: int) -> None:
    u, r = draw_sets(40, n=m)
    u[:, 3] = r[:, 3] = 1.0
    found = set_level_test(u[:n], r, generator=np.random.default_rng(5), permutations=19)
    assert 0.05 <= found.p_value <= 1
    assert 0 <= found.auc <= 1


def test_fewer_than_8_models_are_an_error() -> None:
    u, r = draw_sets(5, n=20)
    with pytest.raises(ValueError, match="at least 8 models"):
        set_level_test(u[:7], r, generator=np.random.default_rng(6))


def test_separated_sets_are_told_apart_by_any_number_of_models() -> None:
    u, r = draw_sets(30, n=16)
    found = set_level_test(u + 5, r, generator=np.random.default_rng(7))
    assert found.auc == 1
    assert found.mu == pytest.approx(3.4, abs=0.1)
    assert found.mu_lower > 0.3


@pytest.mark.slow
def test_p_values_are_uniform_at_the_null_with_512_models() -> None:
    rng = np.random.default_rng(8)
    tests = [set_level_test(*draw_sets(50, seed=i), generator=rng) for i in range(200)]
    assert stats.kstest([test.p_value for test in tests], "uniform").pvalue > 0.01
    assert np.mean([test.mu_lower > 0 for test in tests]) <= 0.05
    aucs = np.array([test.auc for test in tests])
    assert aucs.mean() == pytest.approx(0.498, abs=0.007)
    assert aucs.std() == pytest.approx(0.027, abs=0.006)


@pytest.mark.slow
def test_power_over_many_draws_is_that_tabulated_or_better() -> None:
    rng = np.random.default_rng(9)
    for n_examples, shift, auc in ((50, 0.05, 0.569), (50, 0.1, 0.688), (50, 0.25, 0.918), (300, 0.1, 0.863)):
        aucs = [
            set_level_test(*draw_sets(n_examples, shift=shift, seed=i), generator=rng, permutations=1).auc
            for i in range(20)
        ]
        assert np.mean(aucs) > auc - 0.015


# ---- all logits ----------------------------------------------------------------------------------------------------


def draw_logits(n_examples: int, *, shift: float = 0.0, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    """Draw logits (N, n_examples, 10) whose true class 0 has one margin distribution whatever shift and spread are.

    The two wrong logits 2 and 3 share a mass that does not depend on how they divide it; only the division leaks.
    """
    rng = np.random.default_rng([seed, n_examples])
    logits = rng.normal(0, 1, (N, n_examples, 10))
    difference = shift + spread * math.sqrt(2) * rng.normal(0, 1, (N, n_examples))
    logits[..., 3] = logits[..., 2] - np.logaddexp(0, difference)
    logits[..., 2] -= np.logaddexp(0, -difference)
    return logits


def confidences(logits: np.ndarray) -> np.ndarray:
    labels = np.zeros(logits.shape[1], int)
    return np.stack([logit_scaled_confidence(model, labels) for model in logits])


def test_a_leak_in_two_wrong_logits_is_found_where_all_that_read_the_margin_are_at_their_null() -> None:
    leaking, plain = draw_logits(40, shift=1, seed=1), draw_logits(40, seed=2)
    u, r = confidences(leaking), confidences(plain)
    assert forgetting_quality(example_epsilons(u, r), N) > 0.14
    assert np.median(min_count_epsilons(u, r)) == pytest.approx(0.36, abs=0.06)
    assert abs(mus(u, r, generator=np.random.default_rng(10)).mean()) < 0.04
    for example in range(3):
        found = logit_test(leaking[:, [example]], plain[:, [example]], generator=np.random.default_rng(11))
        assert found.p_value == 1 / 200
        assert found.auc > 0.6
    together = logit_test(leaking, plain, generator=np.random.default_rng(11))
    assert together.auc > 0.99
    assert together.mu_lower > 2


def test_a_leak_in_the_spread_of_two_wrong_logits_is_found_by_their_products() -> None:
    leaking, plain = draw_logits(1, spread=2, seed=3), draw_logits(1, seed=4)
    found = logit_test(leaking, plain, generator=np.random.default_rng(12))
    assert found.auc > 0.56
    assert found.p_value == 1 / 200
    linear = np.concatenate([leaking[:, 0], plain[:, 0]])
    assert abs(np.corrcoef(linear[:, 2] - linear[:, 3], np.arange(2 * N) < N)[0, 1]) < 0.1


def test_logits_of_the_same_distribution_are_not_told_apart() -> None:
    tests = [
        logit_test(
            draw_logits(1, seed=10 + i),
            draw_logits(1, seed=50 + i),
            generator=np.random.default_rng(i),
            permutations=39,
        )
        for i in range(20)
    ]
    assert np.mean([test.auc for test in tests]) == pytest.approx(0.494, abs=0.02)
    assert np.mean([test.p_value <= 0.05 for test in tests]) <= 0.2
    assert np.mean([test.mu_lower > 0 for test in tests]) <= 0.1


def test_adding_a_constant_to_all_logits_of_a_model_is_no_leak() -> None:
    leaking, plain = draw_logits(2, seed=5), draw_logits(2, seed=6)
    found, moved = (logit_test(side, plain, generator=np.random.default_rng(13)) for side in (leaking, leaking + 100))
    assert moved.auc == pytest.approx(found.auc, abs=1e-6)


def test_logits_of_another_shape_are_an_error() -> None:
    with pytest.raises(ValueError, match="n_models, n_examples, n_classes"):
        logit_test(np.zeros((20, 10)), np.zeros((20, 10)), generator=np.random.default_rng(14))
    with pytest.raises(ValueError, match="same examples"):
        logit_test(np.zeros((20, 2, 10)), np.zeros((20, 3, 10)), generator=np.random.default_rng(14))
