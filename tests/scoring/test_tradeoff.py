"""Trade-off curve, mu and divergences: unbiased where epsilons are not, on Gaussians whose truth is known."""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from harness.scoring.attacks import auc
from harness.scoring.tradeoff import (
    ALPHAS,
    PROFILE_EPSILONS,
    divergences,
    gaussian_delta,
    gaussian_epsilon,
    mu_from_auc,
    mu_lower_bounds,
    mus,
    plug_in_divergences,
    trade_off,
)
from tests.scoring.gaussians import N, draw


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- mu ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "spread"), [(0.0, 0.09), (0.25, 0.08), (0.5, 0.07), (1.0, 0.07), (2.0, 0.09)])
def test_mu_is_the_shift_without_bias(shift: float, spread: float) -> None:
    found = mus(*draw(300, shift=shift), generator=generator(1))
    assert abs(found.mean() - shift) < 0.02
    assert found.std() == pytest.approx(spread, abs=0.015)


@pytest.mark.parametrize(("scale", "mu"), [(0.8, 0.24), (0.5, 0.76), (2.0, 0.76)])
def test_mu_sees_differences_in_spread_to_which_the_raw_order_is_blind(scale: float, mu: float) -> None:
    u, r = draw(200, scale=scale)
    assert mus(u, r, generator=generator(2)).mean() == pytest.approx(mu, abs=0.03)
    assert auc(u, r).mean() == pytest.approx(0.5, abs=0.01)


def test_mu_of_perfect_separation_ends_half_a_pair_short_of_an_auc_of_one() -> None:
    assert mus(*draw(1, shift=30), generator=generator())[0] == pytest.approx(6.0, abs=0.1)
    assert mus(*draw(1, shift=30, n=16), generator=generator())[0] == pytest.approx(3.4, abs=0.1)
    np.testing.assert_allclose(mu_from_auc(np.array([0.5, ndtr(1 / math.sqrt(2))]), n_pairs=1e9), [0, 1], atol=1e-9)


def test_mu_works_with_unequal_and_few_models_and_with_constants() -> None:
    u, r = draw(30, shift=1, n=40)
    assert mus(u[:16], r, generator=generator()).mean() == pytest.approx(1, abs=0.3)
    assert np.isfinite(mus(u[:4], r[:5], generator=generator())).all()
    assert (mus(np.ones((16, 2)), np.ones((16, 2)), generator=generator()) == 0).all()


def test_mu_lower_bounds_are_zero_at_the_null_and_hold_elsewhere() -> None:
    assert (mu_lower_bounds(*draw(1000), generator=generator(3)) > 0).mean() <= 0.05
    for shift in (0.25, 0.5, 1.0, 2.0):
        bounds = mu_lower_bounds(*draw(200, shift=shift), generator=generator(4))
        assert (bounds <= shift).mean() >= 0.95
    assert np.median(bounds) > 1.4


# ---- Gaussian privacy ----------------------------------------------------------------------------------------------


def test_delta_and_epsilon_of_gaussian_privacy_are_inverse_to_each_other() -> None:
    epsilon, mu = np.meshgrid([0.0, 0.1, 1.0, 3.0, 8.0], [0.3, 1.0, 2.0, 4.0])
    delta = gaussian_delta(epsilon, mu)
    resolved = delta > 1e-12  # further out delta itself has too few digits to come back from
    assert resolved.mean() > 0.7
    np.testing.assert_allclose(gaussian_epsilon(delta[resolved], mu[resolved]), epsilon[resolved], atol=1e-8)
    deltas = np.array([1e-8, 1e-5, 1e-3, 0.1])
    np.testing.assert_allclose(gaussian_delta(gaussian_epsilon(deltas, 1.0), 1.0), deltas, atol=1e-8)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.1, 0.34), (0.25, 0.93), (0.5, 1.99), (1.0, 4.38), (3.0, 16.7)])
def test_true_epsilons_at_the_official_delta_are_those_tabulated(mu: float, epsilon: float) -> None:
    assert gaussian_epsilon(1e-5, mu) == pytest.approx(epsilon, abs=0.03)


def test_no_difference_has_epsilon_zero_and_a_huge_one_a_finite_epsilon() -> None:
    np.testing.assert_array_equal(gaussian_epsilon(1e-5, np.array([-0.3, 0.0, 1e-6])), 0)
    assert gaussian_epsilon(1e-5, 60.0) == pytest.approx(60 * (30 - ndtri(1e-5)), rel=0.01)
    assert gaussian_delta(0.0, 1.0) == pytest.approx(2 * ndtr(0.5) - 1)


# ---- trade-off curve -----------------------------------------------------------------------------------------------


def test_the_trade_off_at_each_rate_is_the_best_threshold_found_by_looking_at_all() -> None:
    u, r = (side.round(1) for side in draw(10, shift=0.8, n=60))
    found = trade_off(u, r, alphas=(0.0, *ALPHAS, 1.0)).false_negative
    for row, rate in enumerate((0.0, *ALPHAS, 1.0)):
        for column in range(10):
            thresholds = [-np.inf, *np.unique([u[:, column], r[:, column]])]
            allowed = [t for t in thresholds if (r[:, column] > t).mean() <= rate + 1e-12]
            assert found[row, column] == pytest.approx(min((u[:, column] <= t).mean() for t in allowed))


def test_the_trade_off_follows_the_gaussian_curve_within_its_band() -> None:
    found = trade_off(*draw(200, shift=1.0))
    truth = ndtr(-ndtri(np.array(ALPHAS)) - 1.0)[:, None]
    np.testing.assert_allclose(found.false_negative[1:].mean(axis=1), truth[1:, 0], atol=0.015)
    covered = (found.lower <= truth) & (truth <= found.upper)
    assert covered.all(axis=0).mean() >= 0.95
    assert (found.lower <= found.false_negative).all()
    assert (found.false_negative <= found.upper).all()
    assert (found.upper - found.lower)[-1].mean() < 0.3


def test_the_band_is_that_of_dvoretzky_kiefer_and_wolfowitz_at_half_of_alpha_a_side() -> None:
    missed = trade_off(np.zeros((200, 1)), np.ones((300, 1)), alphas=(0.1,), alpha=0.05)
    assert missed.false_negative[0, 0] == missed.upper[0, 0] == 1
    assert missed.lower[0, 0] == pytest.approx(1 - math.sqrt(math.log(2 / 0.025) / (2 * 200)))


def test_the_trade_off_of_no_difference_is_one_minus_the_rate() -> None:
    np.testing.assert_allclose(trade_off(*draw(200)).false_negative.mean(axis=1), 1 - np.array(ALPHAS), atol=0.01)


# ---- hockey-stick divergences --------------------------------------------------------------------------------------


def slow_divergence(unlearned: np.ndarray, retrained: np.ndarray, epsilon: float) -> float:
    """Return the largest hockey-stick divergence over all intervals between distinct values, of both directions."""
    cuts = [-np.inf, *np.unique(np.concatenate([unlearned, retrained]))]
    found = [0.0]
    for ours, theirs in ((unlearned, retrained), (retrained, unlearned)):
        for i, low in enumerate(cuts):
            for high in cuts[i + 1 :]:
                inside = [((low < side) & (side <= high)).mean() for side in (ours, theirs)]
                found.append(inside[0] - math.exp(epsilon) * inside[1])
    return max(found)


def test_plug_in_divergences_equal_enumeration_of_all_intervals() -> None:
    rng = np.random.default_rng(5)
    for digits in (0, 1, 2, 8):
        u, r = rng.normal(0.4, 1, (14, 2)).round(digits), rng.normal(0, 1.2, (11, 2)).round(digits)
        found = plug_in_divergences(u, r, epsilons=(0.0, 0.7, 2.0))
        expected = [[slow_divergence(u[:, i], r[:, i], e) for i in range(2)] for e in (0.0, 0.7, 2.0)]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_divergences_at_the_null_are_those_tabulated_and_plug_ins_above_them() -> None:
    u, r = draw(300)
    found, plug_in = divergences(u, r, generator=generator(6)), plug_in_divergences(u, r)
    np.testing.assert_allclose(found.mean(axis=1), [0.011, -0.021, -0.026, -0.066, -0.61], atol=0.02, rtol=0.15)
    np.testing.assert_allclose(found.std(axis=1), [0.032, 0.018, 0.020, 0.037, 0.27], rtol=0.2)
    np.testing.assert_allclose(plug_in.mean(axis=1), [0.075, 0.028, 0.022, 0.020, 0.020], atol=0.005)
    assert (plug_in.mean(axis=1) > found.mean(axis=1)).all()


@pytest.mark.parametrize(
    ("shift", "tabulated"),
    [(0.5, {0.0: 0.184, 0.5: 0.050}), (1.0, {0.0: 0.371, 1.0: 0.129, 2.0: 0.004}), (2.0, {2.0: 0.342})],
)
def test_divergences_of_shifts_are_those_tabulated_and_not_far_above_the_truth(
    shift: float, tabulated: dict[float, float]
) -> None:
    u, r = draw(200, shift=shift)
    found, plug_in = divergences(u, r, generator=generator(7)), plug_in_divergences(u, r)
    truth = gaussian_delta(np.array(PROFILE_EPSILONS), shift)
    assert (found <= (truth + 3 * found.std(axis=1))[:, None]).mean() > 0.98
    assert (found.mean(axis=1) <= truth + 0.02).all()  # the larger of two directions, both of them equal to the truth
    assert (plug_in.mean(axis=1) >= found.mean(axis=1)).all()
    for epsilon, value in tabulated.items():
        assert found[PROFILE_EPSILONS.index(epsilon)].mean() == pytest.approx(value, abs=0.012)


def test_the_plug_in_total_variation_exceeds_the_truth_by_no_more_than_its_band() -> None:
    # The share of an interval is a difference of two values of a distribution function, each within the DKW band.
    band = 2 * 2 * math.sqrt(math.log(4 / 0.05) / (2 * N))
    for shift in (0.0, 0.5, 1.0):
        total_variation = 2 * ndtr(shift / 2) - 1
        plug_in = plug_in_divergences(*draw(200, shift=shift), epsilons=(0.0,))[0]
        assert (plug_in <= total_variation + band).mean() >= 0.95
        assert (plug_in >= total_variation - band).mean() >= 0.95


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_region_that_reaches_the_last_model_goes_on_beyond_it(direction: int) -> None:
    u, r = draw(20, shift=50, n=16)
    np.testing.assert_array_equal(divergences(direction * u, 0 * r, generator=generator(14))[0], 1)


def test_divergences_see_a_bump_that_no_half_line_sees() -> None:
    rng = np.random.default_rng(8)
    u = np.where(rng.random((N, 20)) < 0.5, rng.normal(0, 0.05, (N, 20)), rng.normal(0, 1, (N, 20)))
    assert divergences(u, rng.normal(0, 1, (N, 20)), generator=generator(9))[0].min() > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.1, 0.25, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("n", [64, 512])
def test_divergences_are_not_far_above_the_truth_on_the_whole_gaussian_grid(n: int, shift: float) -> None:
    found = divergences(*draw(1000, shift=shift, n=n, seed=10), generator=generator(11))
    truth = gaussian_delta(np.array(PROFILE_EPSILONS), shift)
    assert (found <= (truth + 3 * found.std(axis=1))[:, None]).mean() > 0.985
    # The larger of two estimates of one number exceeds it by at most .56 of a deviation.
    assert (found.mean(axis=1) <= truth + 0.6 * found.std(axis=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 64, 512])
def test_mu_lower_bounds_cover_the_truth_at_every_shift_and_number_of_models(n: int) -> None:
    for shift in (0.0, 0.25, 0.5, 1.0, 2.0):
        bounds = mu_lower_bounds(*draw(4000, shift=shift, n=n, seed=12), generator=generator(13))
        assert (bounds > shift).mean() <= 0.065
