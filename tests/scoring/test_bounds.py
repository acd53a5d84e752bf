"""Bounds on epsilon: they hold as often as they say, and certify what can be certified."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from harness.scoring.bounds import (
    bayesian_interval,
    bonferroni_bounds,
    cross_fitted_bounds,
    cross_fitted_value,
    epsilon_value,
    held_out_value,
    rate_lower,
    rate_upper,
)
from harness.scoring.official import DELTA
from harness.scoring.samples import Samples, pooled_counts
from harness.scoring.tradeoff import gaussian_epsilon
from tests.scoring.gaussians import N, draw

# ---- rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.05), (16, 0.0125), (512, 1e-6)])
def test_bounds_of_a_rate_are_those_of_clopper_and_pearson(n: int, alpha: float) -> None:
    for count in {0, 1, n // 2, n - 1, n}:
        expected = stats.binomtest(count, n).proportion_ci(1 - 2 * alpha)
        assert rate_upper(n, alpha)[count] == pytest.approx(expected.high, abs=1e-9)
        assert rate_lower(n, alpha)[count] == pytest.approx(expected.low, abs=1e-9)


def test_the_shared_table_of_a_rate_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        rate_upper(10, 0.05)[0] = 1


# ---- the best half-line, corrected for all (Bonferroni) ------------------------------------------------------------


def test_bonferroni_bounds_raise_hardly_a_false_alarm() -> None:
    assert (bonferroni_bounds(*draw(500)) > 0).mean() <= 0.01


def test_without_the_correction_the_best_threshold_would_raise_false_alarms() -> None:
    u, r = draw(500)
    lower, upper = rate_lower(N, 0.025), rate_upper(N, 0.025)
    best = np.full(500, -np.inf)
    for first, second in ((u, r), (r, u), (-u, -r), (-r, -u)):
        counts = pooled_counts(first, second)
        best = np.maximum(best, epsilon_value(lower[counts.unlearned], upper[counts.retrained]).max(axis=1))
    assert (best > 0).mean() > 0.12  # of a nominal 5 %


@pytest.mark.parametrize(("shift", "share"), [(0.25, 0.02), (0.5, 0.87), (1.0, 1.0)])
def test_bonferroni_bounds_certify_shifts_as_often_as_tabulated(shift: float, share: float) -> None:
    bounds = bonferroni_bounds(*draw(200, shift=shift))
    assert (bounds > 0).mean() == pytest.approx(share, abs=0.07)
    assert (bounds < gaussian_epsilon(DELTA, shift)).all()
    if shift == 1:
        assert np.median(bounds) == pytest.approx(0.73, abs=0.06)


CEILINGS = [(64, 2.83), (128, 3.53), (256, 4.23), (512, 4.93), (1024, 5.62), (4096, 7.01)]


@pytest.mark.parametrize(("n", "ceiling"), CEILINGS)
def test_no_bound_exceeds_what_a_fixed_rule_certifies_of_perfect_separation(n: int, ceiling: float) -> None:
    fixed = epsilon_value(rate_lower(n, 0.025)[n], rate_upper(n, 0.025)[0])
    assert fixed == pytest.approx(ceiling, abs=0.01)
    u, r = draw(3, shift=12, n=n)
    assert (bonferroni_bounds(u, r) < fixed).all()
    assert (cross_fitted_bounds(u, r, generator=np.random.default_rng(0)) < fixed).all()


def test_bonferroni_bounds_equal_a_loop_over_cuts_and_forms() -> None:
    u, r = (side.round(1) for side in draw(1, shift=4, n=30))
    level = 0.05 / (8 * 59)
    best = 0.0
    for cut in np.unique(np.concatenate([u, r])):
        for first, second in ((u <= cut, r <= cut), (u > cut, r > cut)):
            for found, mistaken in ((first, second), (second, first)):
                tpr = stats.binomtest(int(found.sum()), 30).proportion_ci(1 - 2 * level).low
                fpr = stats.binomtest(int(mistaken.sum()), 30).proportion_ci(1 - 2 * level).high
                best = max(best, math.log(tpr - DELTA) - math.log(fpr) if tpr > DELTA else 0.0)
    assert bonferroni_bounds(u, r)[0] == pytest.approx(best, abs=1e-9)
    assert best > 0.5


# ---- cross-fitted bounds -------------------------------------------------------------------------------------------


def test_cross_fitted_bounds_raise_at_most_alpha_false_alarms() -> None:
    bounds = cross_fitted_bounds(*draw(1000), generator=np.random.default_rng(1))
    assert (bounds > 0).mean() <= 0.05


@pytest.mark.parametrize(
    ("shift", "share", "median"),
    [(0.25, 0.12, 0.0), (0.5, 0.83, 0.16), (1.0, 1.0, 0.87), (2.0, 1.0, 2.30)],
)
def test_cross_fitted_bounds_certify_shifts_as_tabulated_and_stay_below_the_truth(
    shift: float, share: float, median: float
) -> None:
    bounds = cross_fitted_bounds(*draw(300, shift=shift), generator=np.random.default_rng(2))
    assert (bounds > 0).mean() == pytest.approx(share, abs=0.07)
    assert np.median(bounds) == pytest.approx(median, abs=0.06)
    assert (bounds <= gaussian_epsilon(DELTA, shift)).mean() >= 0.95


@pytest.mark.parametrize(("scale", "share", "median"), [(0.8, 0.07, 0.0), (0.5, 1.0, 0.97), (2.0, 1.0, 0.97)])
def test_cross_fitted_bounds_certify_differences_in_spread(scale: float, share: float, median: float) -> None:
    bounds = cross_fitted_bounds(*draw(300, scale=scale), generator=np.random.default_rng(3))
    assert (bounds > 0).mean() == pytest.approx(share, abs=0.06)
    assert np.median(bounds) == pytest.approx(median, abs=0.1)  # its own deviation is .03


def test_the_order_of_models_changes_a_bound_only_through_the_split() -> None:
    rng = np.random.default_rng(4)
    u, r = draw(20, shift=0.7, n=80)
    choose, judge = Samples(u[:40], r[:40]), Samples(u[40:], r[40:])
    mixed_choose, mixed_judge = (Samples(*(rng.permutation(side) for side in half)) for half in (choose, judge))
    np.testing.assert_array_equal(
        held_out_value(choose, judge, epsilon_value, level=0.01),
        held_out_value(mixed_choose, mixed_judge, epsilon_value, level=0.01),
    )
    first, second = (cross_fitted_bounds(u, r, generator=np.random.default_rng(seed)) for seed in (5, 6))
    assert (first != second).any()


def test_a_held_out_value_is_that_of_the_rule_that_did_best_on_the_other_half() -> None:
    choose = Samples(np.array([[3.0], [4.0], [5.0], [6.0]]), np.array([[0.0], [1.0], [2.0], [3.5]]))
    judge = Samples(np.array([[2.6], [4.0], [4.5], [9.0]]), np.array([[1.0], [5.0], [3.7], [2.0]]))
    lower, upper = rate_lower(4, 0.1), rate_upper(4, 0.1)
    # All unlearned above 2.5 and one retrained, or all retrained at or below 3.75 and one unlearned: they tie.
    above = epsilon_value(lower[4], upper[2])
    below = epsilon_value(lower[3], upper[1])
    assert held_out_value(choose, judge, epsilon_value, level=0.1)[0] in (pytest.approx(above), pytest.approx(below))


def test_any_score_gives_a_bound_and_two_models_a_side_are_enough_to_ask() -> None:
    u, r = draw(1, shift=3)
    assert cross_fitted_bounds(np.abs(u), np.abs(r), generator=np.random.default_rng(7))[0] > 1
    assert cross_fitted_bounds(u[:2], r[:2], generator=np.random.default_rng(7))[0] == 0
    with pytest.raises(ValueError, match="at least 2 models"):
        cross_fitted_value(u[:1], r, epsilon_value, generator=np.random.default_rng(7))


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 64, 512])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_cross_fitted_bounds_cover_the_truth_at_every_shift_and_number_of_models(n: int, alpha: float) -> None:
    for shift in (0.0, 0.1, 0.25, 0.5, 1.0, 2.0):
        u, r = draw(4000, shift=shift, n=n, seed=8)
        bounds = cross_fitted_bounds(u, r, generator=np.random.default_rng(9), alpha=alpha)
        # Examples are independent, the split is common: a binomial deviation of the share is about .0035-.006.
        assert (bounds > gaussian_epsilon(DELTA, shift)).mean() <= alpha + 0.015


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 64, 512])
def test_bonferroni_bounds_cover_the_truth_at_every_shift_and_number_of_models(n: int) -> None:
    for shift in (0.0, 0.25, 1.0, 2.0):
        bounds = bonferroni_bounds(*draw(4000, shift=shift, n=n, seed=10))
        assert (bounds > gaussian_epsilon(DELTA, shift)).mean() <= 0.01


# ---- Bayesian intervals --------------------------------------------------------------------------------------------


def posterior_mass(epsilon: float, fn: int, tp: int, fp: int, tn: int) -> float:
    """Integrate the posterior of (FNR, FPR) over the region of epsilon: over FNR by quadrature, over FPR exactly."""
    ratio, fnr, fpr = math.exp(epsilon), stats.beta(0.5 + fn, 0.5 + tp), stats.beta(0.5 + fp, 0.5 + tn)

    def inner(x: float) -> float:
        low = max(1 - DELTA - ratio * x, (1 - x - DELTA) / ratio, 0.0)
        high = min(ratio * (1 - x) + DELTA, 1 - (x - DELTA) / ratio, 1.0)
        return float(fnr.pdf(x) * max(fpr.cdf(high) - fpr.cdf(low), 0.0))

    edges = [float(fnr.ppf(p)) for p in (1e-9, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1 - 1e-9)]
    return sum(integrate.quad(inner, a, b, limit=200)[0] for a, b in pairwise(edges))


@pytest.mark.parametrize("counts", [(150, 106, 60, 196), (128, 128, 125, 131), (20, 236, 3, 253)])
def test_the_ends_of_a_bayesian_interval_hold_alpha_and_1_minus_alpha_of_the_posterior(
    counts: tuple[int, int, int, int],
) -> None:
    interval = bayesian_interval(*counts, alpha=0.05)
    assert posterior_mass(interval.high, *counts) == pytest.approx(0.95, abs=1e-3)
    assert posterior_mass(interval.low, *counts) == pytest.approx(0.05, abs=1e-3)


def test_a_bayesian_interval_rises_as_a_rule_errs_less_and_narrows_as_models_are_added() -> None:
    falling_errors = [bayesian_interval(fn, 256 - fn, 30, 226) for fn in (200, 150, 100, 50, 10, 0)]
    assert (np.diff([interval.low for interval in falling_errors]) > 0).all()
    assert (np.diff([interval.high for interval in falling_errors]) > 0).all()
    few, many = bayesian_interval(10, 22, 4, 28), bayesian_interval(160, 352, 64, 448)
    assert few.low < many.low < many.high < few.high


def test_a_bayesian_interval_is_narrower_than_clopper_pearson_bounds() -> None:
    low = float(epsilon_value(rate_lower(256, 0.025)[106], rate_upper(256, 0.025)[20]))
    assert low < bayesian_interval(150, 106, 20, 236, alpha=0.05).low
