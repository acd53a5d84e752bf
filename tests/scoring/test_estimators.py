"""Epsilons, traces, attacks and the audit: slow versions of them, their laws, their tables of null and power."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr, ndtri

from harness.scoring import attacks
from harness.scoring.attacks import auc, klom, ruli, u_lira
from harness.scoring.audit import audit
from harness.scoring.epsilons import (
    default_min_count,
    half_line_epsilons,
    interval_epsilons,
    min_count_epsilons,
    smooth_quality,
)
from harness.scoring.leakage import cramer_von_mises, support_leak, tie_fraction, window_mass
from harness.scoring.official import DELTA, example_credits
from harness.scoring.samples import check_samples, fold_count, fold_labels, pooled_counts, random_halves
from harness.scoring.tradeoff import mus

N = 512
Map = Callable[[np.ndarray], np.ndarray]


def draw(count: int, change: Map = lambda z: z, *, n: int = N, m: int | None = None, seed: int = 0) -> list[np.ndarray]:
    """Draw `count` columns of n changed and of m plain standard Gaussians."""
    rng = np.random.default_rng([seed, count, n])
    return [change(rng.normal(0, 1, (n, count))), rng.normal(0, 1, (m or n, count))]


def shifted(shift: float) -> Map:
    return lambda z: z + shift


def scaled(scale: float) -> Map:
    return lambda z: scale * z


def winsorised(at: float) -> Map:
    return lambda z: np.clip(z, -at, at)


@st.composite
def two_samples(draw_: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw a column of either side, of unequal sizes, from few values, so that most of them tie."""
    values = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]) | st.floats(-5, 5)
    first, second = (draw_(st.lists(values, min_size=2, max_size=14)) for _ in range(2))
    return np.array(first)[:, None], np.array(second)[:, None]


# ---- exact suprema and min-count epsilons, by enumeration ----------------------------------------------------------


def slow_regions(unlearned: np.ndarray, retrained: np.ndarray, *, interval: bool) -> list[tuple[int, int]]:
    """Count both sides in every half-line or every interval between distinct values, and in the complements."""
    values = sorted({*unlearned, *retrained})
    cuts = [(sum(unlearned <= c), sum(retrained <= c)) for c in [-math.inf, *values]]
    starts = range(len(cuts)) if interval else [0]
    inside = [(cuts[j][0] - cuts[i][0], cuts[j][1] - cuts[i][1]) for i in starts for j in range(i + 1, len(cuts))]
    return [region for a, b in inside for region in ((a, b), (len(unlearned) - a, len(retrained) - b))]


def slow_supremum(unlearned: np.ndarray, retrained: np.ndarray, *, interval: bool, discard_zeros: bool) -> float:
    found = [0.0]
    for a, b in slow_regions(unlearned, retrained, interval=interval):
        for x, n, y, m in ((a, len(unlearned), b, len(retrained)), (b, len(retrained), a, len(unlearned))):
            if discard_zeros and y == 0 and x < n:
                continue
            if x / n > DELTA:
                found.append(math.inf if y == 0 else math.log((x / n - DELTA) / (y / m)))
    return max(found)


def slow_min_count(unlearned: np.ndarray, retrained: np.ndarray, *, interval: bool, k: int) -> float:
    found = [0.0]
    for a, b in slow_regions(unlearned, retrained, interval=interval):
        for x, n, y, m in ((a, len(unlearned), b, len(retrained)), (b, len(retrained), a, len(unlearned))):
            if x / n > DELTA:
                found.append(math.log((x / n - DELTA) / (max(y, k) / m)))
    return max(found)


def odd_columns() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return 100 pairs of columns of unequal sizes, most of them with ties, on either side or on both."""
    rng = np.random.default_rng(1)
    pairs = []
    for i in range(100):
        first, second = rng.normal(0, 1, rng.integers(3, 24)), rng.normal(0.4, 1.3, rng.integers(3, 24))
        at = rng.uniform(0.4, 1.5)
        odd = (np.clip(first, -at, at), first.round(1), first.round(), first)[i % 4]
        pairs.append((odd, second.round(i % 3)) if i % 2 else (second.round(1 + i % 3), odd))
    return pairs


@pytest.mark.parametrize("discard_zeros", [False, True])
def test_exact_suprema_equal_enumeration_of_all_regions_on_columns_with_ties(discard_zeros: bool) -> None:
    for u, r in odd_columns():
        for interval, fast in ((False, half_line_epsilons), (True, interval_epsilons)):
            expected = slow_supremum(u, r, interval=interval, discard_zeros=discard_zeros)
            assert fast(u[:, None], r[:, None], discard_zeros=discard_zeros)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("interval", [False, True])
def test_min_count_epsilons_equal_enumeration_of_all_regions_on_columns_with_ties(interval: bool) -> None:
    for u, r in odd_columns():
        for k in (1, 2, 3):
            fast = min_count_epsilons(u[:, None], r[:, None], min_count=k, interval=interval)[0]
            assert fast == pytest.approx(slow_min_count(u, r, interval=interval, k=k), abs=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(two_samples())
def test_intervals_find_no_less_than_half_lines(sides: tuple[np.ndarray, np.ndarray]) -> None:
    for discard_zeros in (False, True):
        lines, intervals = (f(*sides, discard_zeros=discard_zeros) for f in (half_line_epsilons, interval_epsilons))
        assert intervals >= lines
    assert min_count_epsilons(*sides, interval=True, min_count=2) >= min_count_epsilons(*sides, min_count=2)


@pytest.mark.parametrize("increasing", [np.arctan, lambda x: x**3, lambda x: 7 + 1e-3 * x])
def test_strictly_increasing_maps_change_no_epsilon(increasing: Map) -> None:
    u, r = (side.round(1) for side in draw(40, shifted(0.3), n=60, m=45))
    mapped = increasing(u), increasing(r)
    for estimator in (half_line_epsilons, interval_epsilons, min_count_epsilons):
        np.testing.assert_array_equal(estimator(u, r), estimator(*mapped))


def test_exchanging_the_sides_or_mirroring_them_changes_no_epsilon() -> None:
    u, r = draw(30, shifted(0.3), n=60, m=45)
    for estimator in (half_line_epsilons, interval_epsilons, min_count_epsilons):
        np.testing.assert_allclose(estimator(u, r), estimator(r, u), atol=1e-12)
        np.testing.assert_allclose(estimator(u, r), estimator(-u, -r), atol=1e-12)


def test_perfect_separation_is_infinite_with_zeros_discarded_too_and_capped_by_a_min_count() -> None:
    between, around = (
        np.linspace(-0.1, 0.1, 20)[:, None],
        np.r_[np.linspace(-3, -2, 10), np.linspace(2, 3, 10)][:, None],
    )
    assert interval_epsilons(between, around, discard_zeros=True)[0] == math.inf
    assert half_line_epsilons(between, between + 1, discard_zeros=True)[0] == math.inf
    assert min_count_epsilons(between, between + 1, min_count=5)[0] == pytest.approx(math.log((1 - DELTA) / (5 / 20)))


def test_the_same_models_on_both_sides_have_epsilon_zero() -> None:
    same = draw(5)[0]
    for estimator in (half_line_epsilons, interval_epsilons):
        np.testing.assert_array_equal(estimator(same, same), 0)
    np.testing.assert_array_equal(min_count_epsilons(same, same, interval=True), 0)
    assert smooth_quality(np.zeros(5)) == 1


def test_exact_suprema_at_the_null_are_biased_as_tabulated() -> None:
    u, r = draw(200)
    assert np.median(half_line_epsilons(u, r, discard_zeros=True)) == pytest.approx(1.39, abs=0.1)
    intervals = interval_epsilons(u, r, discard_zeros=True)
    assert np.median(intervals) == pytest.approx(2.53, abs=0.1)
    assert np.quantile(intervals, 0.95) == pytest.approx(2.84, abs=0.15)


# ---- min-count epsilons: null and power ----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(16, 5), (102, 5), (128, 6), (512, 25), (1024, 50)])
def test_the_min_count_grows_with_the_number_of_models_from_five(n: int, k: int) -> None:
    assert default_min_count(n) == k
    u, r = draw(3, shifted(0.5), n=n)
    np.testing.assert_array_equal(min_count_epsilons(u, r), min_count_epsilons(u, r, min_count=k))


def test_each_side_as_denominator_has_the_min_count_of_its_own_number_of_models() -> None:
    zeros, ones = np.zeros((100, 1)), np.ones((1024, 1))
    # Perfectly apart: (1 - delta) / (k / n) for the side whose k / n is smaller, here 50 / 1024 against 5 / 100.
    assert min_count_epsilons(zeros, ones)[0] == pytest.approx(math.log((1 - DELTA) / (50 / 1024)))


@pytest.mark.parametrize(
    ("k", "median", "quality"), [(1, 1.39, 0.21), (5, 0.69, 0.51), (10, 0.55, 0.71), (25, 0.36, 0.93), (50, 0.27, 1.0)]
)
def test_min_count_epsilons_at_the_null_are_those_tabulated(k: int, median: float, quality: float) -> None:
    epsilons = min_count_epsilons(*draw(200), min_count=k)
    assert np.median(epsilons) == pytest.approx(median, abs=0.05)
    assert example_credits(epsilons, N).mean() == pytest.approx(quality, abs=0.03)


@pytest.mark.parametrize(
    ("change", "median", "credit", "quality"),
    [
        (shifted(0.25), 0.67, 0.55, 0.39),
        (shifted(0.5), 1.06, 0.33, 0.23),
        (shifted(1), 1.74, 0.13, 0.092),
        (shifted(2), 2.60, 0.032, 0.027),
        (scaled(0.8), 0.77, 0.51, 0.36),
        (scaled(0.5), 1.5, 0.19, 0.13),
        (scaled(2), 1.5, 0.19, 0.13),
    ],
)
def test_min_count_epsilons_grow_with_the_difference_as_tabulated(
    change: Map, median: float, credit: float, quality: float
) -> None:
    epsilons = min_count_epsilons(*draw(200, change))
    assert np.median(epsilons) == pytest.approx(median, abs=0.06)
    assert example_credits(epsilons, N).mean() == pytest.approx(credit, abs=0.05)
    assert smooth_quality(epsilons) == pytest.approx(quality, abs=0.03)


def test_min_count_epsilons_never_grow_with_the_min_count() -> None:
    u, r = draw(100, shifted(0.3), n=100)
    for interval in (False, True):
        by_count = [min_count_epsilons(u, r, min_count=k, interval=interval) for k in (1, 2, 5, 10, 25, 50, 100)]
        assert (np.diff(by_count, axis=0) <= 0).all()
        assert (by_count[3] <= math.log(100 / 10)).all()


@pytest.mark.parametrize(("at", "quality"), [(2.0, 0.95), (1.5, 0.88), (1.0, 0.25)])
def test_winsorising_gains_nothing_over_the_oracle(at: float, quality: float) -> None:
    credit = example_credits(min_count_epsilons(*draw(400, winsorised(at))), N)
    oracle = example_credits(min_count_epsilons(*draw(400, seed=1)), N)
    assert credit.mean() == pytest.approx(quality, abs=0.06)
    assert credit.mean() - oracle.mean() < 2 * math.hypot(credit.std(), oracle.std()) / math.sqrt(400)


def test_the_interval_variant_has_its_own_null_and_sees_what_half_lines_do_not() -> None:
    epsilons = min_count_epsilons(*draw(100), interval=True)
    assert np.median(epsilons) == pytest.approx(0.67, abs=0.06)
    assert smooth_quality(epsilons) == pytest.approx(0.39, abs=0.04)
    comb = draw(100, lambda z: np.round(3 * z) / 3)
    assert smooth_quality(min_count_epsilons(*comb, interval=True)) == pytest.approx(0.21, abs=0.04)
    clipped = draw(100, winsorised(1.5))
    assert smooth_quality(min_count_epsilons(*clipped, interval=True)) == pytest.approx(0.24, abs=0.04)


@pytest.mark.parametrize("k", [0, -1, 11])
def test_a_min_count_that_a_side_cannot_reach_is_an_error(k: int) -> None:
    with pytest.raises(ValueError, match=f"not {k}"):
        min_count_epsilons(*draw(2, n=10, m=20), min_count=k)


# ---- samples -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(two_samples())
def test_pooled_counts_are_those_at_or_below_every_cut(sides: tuple[np.ndarray, np.ndarray]) -> None:
    counts = pooled_counts(*sides)
    for cut in range(counts.unlearned.shape[1]):
        threshold = counts.thresholds(np.array([cut]))[0]
        assert counts.unlearned[0, cut] == (sides[0] <= threshold).sum()
        assert counts.retrained[0, cut] == (sides[1] <= threshold).sum()


def test_a_threshold_is_midway_between_models_and_infinite_beyond_them() -> None:
    one, next_one = 1.0, np.nextafter(1.0, 2)
    counts = pooled_counts(np.array([[one], [5.0]]), np.array([[next_one], [5.0], [-4.0]]))
    found = [counts.thresholds(np.array([cut]))[0] for cut in range(6)]
    assert found == [-np.inf, -1.5, one, pytest.approx(3.0), np.inf, np.inf]


@pytest.mark.parametrize(("first", "second"), [((4, 3), (4, 2)), ((4,), (4,)), ((0, 3), (4, 3)), ((4, 0), (4, 0))])
def test_sides_that_do_not_fit_are_an_error_that_names_their_shapes(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="are needed") as error:
        check_samples(np.zeros(first), np.zeros(second))
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


def test_a_value_that_is_not_finite_is_an_error_that_names_side_and_model() -> None:
    u, r = draw(3, n=10)
    r[7, 1] = np.nan
    with pytest.raises(ValueError, match="retrained model 7 has a value that is not finite"):
        min_count_epsilons(u, r)


def test_too_few_models_are_an_error_that_says_how_many_are_needed() -> None:
    with pytest.raises(ValueError, match="at least 4 models"):
        mus(*draw(3, n=3), generator=np.random.default_rng(0))


def test_halves_and_folds_are_disjoint_and_cover_every_model() -> None:
    rng = np.random.default_rng(0)
    u, r = np.arange(11.0)[:, None], np.arange(8.0)[:, None]
    first, second = random_halves(u, r, rng)
    assert (len(first.unlearned), len(second.unlearned), len(first.retrained), len(second.retrained)) == (5, 6, 4, 4)
    assert sorted([*first.unlearned[:, 0], *second.unlearned[:, 0]]) == list(range(11))
    assert [fold_count(n) for n in (4, 11, 12, 16, 20, 512)] == [2, 2, 3, 4, 5, 5]
    assert sorted(np.bincount(fold_labels(22, 5, rng))) == [4, 4, 4, 5, 5]


# ---- traces of how a sample was made -------------------------------------------------------------------------------


def stratified(z: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(9)
    return np.asarray(ndtri((np.argsort(rng.random(z.shape), axis=0) + rng.random(z.shape)) / len(z)))


def bump(z: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(10)
    return np.where(rng.random(z.shape) < 0.9, rng.normal(0, 1e-3 / 3, z.shape), 1.3 * z)


SAMPLES: dict[str, Map] = {
    "oracle": lambda z: z,
    "winsorised at 2": winsorised(2),
    "winsorised at 1.5": winsorised(1.5),
    "winsorised at 1": winsorised(1),
    "stratified": stratified,
    "bump": bump,
    "comb": lambda z: np.round(3 * z) / 3,
}


@pytest.mark.parametrize(
    ("name", "intervals", "leak", "ties", "window", "fit"),
    [
        ("oracle", 2.56, 0.0037, 0.0, 0.025, 0.163),
        ("winsorised at 2", 2.74, 0.0445, 0.041, 0.029, 0.18),
        ("winsorised at 1.5", 3.69, 0.136, 0.132, 0.077, 0.24),
        ("winsorised at 1", 4.50, 0.317, 0.314, 0.176, 1.25),
        ("stratified", 2.20, 0.0023, 0.0, 0.0135, 0.055),  # a window of 5.5 strata holds at most 7 models
        ("bump", 6.14, 0.010, 0.0, 0.90, 22.7),
        ("comb", 4.30, 0.0041, 0.964, 0.143, 0.63),
    ],
)
def test_traces_tell_how_a_sample_was_made(
    name: str, intervals: float, leak: float, ties: float, window: float, fit: float
) -> None:
    u, pool = draw(60, SAMPLES[name], m=1024, seed=2)
    assert interval_epsilons(u, pool[:N], discard_zeros=True).mean() == pytest.approx(intervals, abs=0.12)
    assert support_leak(u, pool).retrained_outside.share.mean() == pytest.approx(leak, rel=0.1, abs=0.0015)
    assert tie_fraction(u).mean() == pytest.approx(ties, abs=0.006)
    assert window_mass(u, pool).mean() == pytest.approx(window, rel=0.05, abs=0.002)
    assert cramer_von_mises(u, pool).mean() == pytest.approx(fit, rel=0.15, abs=0.04)


def test_a_leak_has_a_share_and_clopper_pearson_bounds_in_both_directions() -> None:
    u, r = np.array([[0.0], [1.0], [2.0]]), np.array([[-1.0], [0.5], [1.0], [3.0], [4.0]])
    leak = support_leak(u, r)
    expected = stats.binomtest(3, 5).proportion_ci(0.9)
    assert leak.retrained_outside.share[0] == 3 / 5
    assert (leak.retrained_outside.lower[0], leak.retrained_outside.upper[0]) == pytest.approx(
        (expected.low, expected.high)
    )
    assert leak.unlearned_outside.share[0] == leak.unlearned_outside.lower[0] == 0


def test_ties_of_saturated_confidences_do_not_count() -> None:
    values = np.array(
        [[103.6163, 0.0, 103.6163], [103.6163, 0.0, 103.6163], [1.0, 0.0, -103.6163], [2.0, 1.0, 103.6163]]
    )
    np.testing.assert_array_equal(tie_fraction(values), [0, 0.5, np.nan])


def test_window_mass_is_the_fullest_window_found_by_looking_at_all() -> None:
    u, r = draw(10, lambda z: z.round(2), n=80, m=60)
    for column, mass in zip(range(10), window_mass(u, r), strict=True):
        width = 0.02 * stats.iqr(r[:, column])
        inside = [((start <= u[:, column]) & (u[:, column] <= start + width)).mean() for start in u[:, column]]
        assert mass == max(inside)
    assert window_mass(np.array([[0.0], [1.0], [1.0], [2.0]]), np.ones((3, 1)))[0] == 0.5  # no width: ties only


def test_the_cramer_von_mises_statistic_is_that_of_scipy() -> None:
    u, r = draw(10, shifted(0.2), n=40, m=70)
    expected = [stats.cramervonmises_2samp(a, b).statistic for a, b in zip(u.T, r.T, strict=True)]
    np.testing.assert_allclose(cramer_von_mises(u, r), expected, atol=1e-10)


# ---- attacks: U-LiRA, RULI, KLoM -----------------------------------------------------------------------------------


def test_auc_counts_pairs_and_a_tie_as_a_half() -> None:
    u, r = (side.round(1) for side in draw(4, shifted(0.3), n=30, m=25))
    expected = [(np.sign(a[:, None] - b).mean() + 1) / 2 for a, b in zip(u.T, r.T, strict=True)]
    np.testing.assert_allclose(auc(u, r), expected, atol=1e-12)


@pytest.mark.parametrize(("shift", "tpr"), [(0.0, 0.010), (0.25, 0.016), (0.5, 0.032), (1.0, 0.092), (2.0, 0.388)])
def test_u_lira_reaches_the_accuracy_of_the_best_attack_on_shifted_gaussians(shift: float, tpr: float) -> None:
    attack = u_lira(*draw(200, shifted(shift)), generator=np.random.default_rng(3))
    assert attack.accuracy.mean() == pytest.approx(ndtr(shift / 2), abs=0.02)
    assert attack.auc.mean() == pytest.approx(ndtr(shift / math.sqrt(2)), abs=0.02)
    assert attack.tpr.mean() == pytest.approx(tpr, rel=0.12, abs=0.003)
    assert attack.reversed_tpr.mean() == pytest.approx(tpr, rel=0.12, abs=0.003)


@pytest.mark.parametrize(("scale", "accuracy"), [(0.8, 0.552), (0.5, 0.660), (2.0, 0.662)])
def test_u_lira_sees_differences_in_spread(scale: float, accuracy: float) -> None:
    attack = u_lira(*draw(100, scaled(scale)), generator=np.random.default_rng(4))
    assert attack.accuracy.mean() == pytest.approx(accuracy, abs=0.015)


def test_the_rate_at_1_percent_is_not_a_number_below_100_models_of_the_side_that_gives_false_alarms() -> None:
    attack = u_lira(*draw(3, n=120, m=60), generator=np.random.default_rng(5))
    assert np.isnan(attack.tpr).all()
    assert np.isfinite(attack.reversed_tpr).all()


def test_ties_at_the_threshold_of_1_percent_are_not_found() -> None:
    same = np.zeros((200, 1))
    assert u_lira(same, same, generator=np.random.default_rng(5)).tpr[0] == 0


def test_constant_sides_are_attacked_without_warnings() -> None:
    generator = np.random.default_rng(6)
    constant, varied = np.full((20, 2), 0.1), draw(2, n=20)[1]
    assert (u_lira(constant, constant, generator=generator).accuracy == 0.5).all()
    assert (u_lira(constant, varied, generator=generator).auc == 1).all()
    assert (ruli(constant, varied, generator=generator).auc == 1).all()


@pytest.mark.parametrize("change", [shifted(0.5), shifted(1), scaled(0.5)])
def test_ruli_agrees_with_u_lira_on_gaussians(change: Map) -> None:
    sides = draw(40, change)
    kernels, gaussians = (attack(*sides, generator=np.random.default_rng(7)) for attack in (ruli, u_lira))
    assert kernels.auc.mean() == pytest.approx(gaussians.auc.mean(), abs=0.02)


def test_the_kernel_density_of_ruli_is_that_of_scipy_with_the_same_bandwidth() -> None:
    rows, points = (3 * side for side in draw(2, n=80, m=20))
    found = attacks._kernel_log_density(rows, points)
    for column in range(2):
        expected = stats.gaussian_kde(rows[:, column], bw_method=1.06 * 80**-0.2).logpdf(points[:, column])
        np.testing.assert_allclose(found[:, column], expected, atol=1e-9)


def test_ruli_beats_u_lira_where_a_side_has_two_modes() -> None:
    rng = np.random.default_rng(8)
    modes = rng.choice([-0.9, 0.9], (N, 10)) + rng.normal(0, math.sqrt(1 - 0.81), (N, 10))  # mean 0, deviation 1
    plain = rng.normal(0, 1, (N, 10))
    kernels, gaussians = (attack(modes, plain, generator=np.random.default_rng(9)) for attack in (ruli, u_lira))
    assert gaussians.auc.mean() == pytest.approx(0.5, abs=0.03)
    assert kernels.auc.mean() > 0.6


@pytest.mark.parametrize(("n", "divergence"), [(50, 0.86), (100, 0.33), (512, 0.05), (2048, 0.011)])
def test_klom_at_the_null_is_that_tabulated(n: int, divergence: float) -> None:
    assert klom(*draw(200, n=n)).mean() == pytest.approx(divergence, rel=0.15)


@pytest.mark.parametrize(("n", "divergence"), [(100, 0.55), (512, 0.19)])
def test_klom_of_a_shift_of_half_a_deviation_is_that_tabulated(n: int, divergence: float) -> None:
    assert klom(*draw(200, shifted(0.5), n=n)).mean() == pytest.approx(divergence, rel=0.15)


@pytest.mark.parametrize("include_max", [False, True])
def test_klom_equals_a_plain_histogram_with_or_without_the_pooled_maximum(include_max: bool) -> None:
    u, r = draw(20, shifted(50), n=50, m=40)
    u, r = 2 * u, 2 * r  # some beyond the clip at 100
    found = klom(u, r, binning="include_max") if include_max else klom(u, r)
    for column, value in enumerate(found):
        p, q = np.clip(u[:, column], -100, 100), np.clip(r[:, column], -100, 100)
        bins = np.linspace(min(p.min(), q.min()), max(p.max(), q.max()), 21)
        index_p, index_q = np.digitize(p, bins), np.digitize(q, bins)
        if include_max:
            index_p, index_q = np.minimum(index_p, 20), np.minimum(index_q, 20)
        shares_p, shares_q = (np.bincount(index, minlength=22)[1:21].astype(float) for index in (index_p, index_q))
        shares_p, shares_q = shares_p / shares_p.sum(), shares_q / shares_q.sum()
        shares_q = np.where(shares_p > 0, np.maximum(shares_q, 1e-5), shares_q)
        assert value == pytest.approx(stats.entropy(shares_p, shares_q), abs=1e-10)


def test_klom_is_not_a_number_where_the_source_drops_every_unlearned_model() -> None:
    u, r = np.full((10, 1), 5.0), np.linspace(0, 4, 10)[:, None]
    assert np.isnan(klom(u, r)).all()
    assert klom(u, r, binning="include_max")[0] == pytest.approx(math.log(1e5), abs=1e-3)


def test_klom_of_equal_constants_is_zero_and_an_unknown_binning_an_error() -> None:
    assert klom(np.ones((5, 1)), np.ones((5, 1)))[0] == 0
    with pytest.raises(ValueError, match="not 'other'"):
        klom(np.ones((5, 1)), np.ones((5, 1)), binning="other")  # type: ignore[arg-type]


# ---- audit ---------------------------------------------------------------------------------------------------------


def test_an_audit_of_the_oracle_finds_nothing_and_is_ready_for_json() -> None:
    found = audit(*draw(30, n=128), seed=1)
    assert found.estimates is not None
    assert abs(found.estimates.mu_mean) < 4 * found.estimates.mu_se
    assert found.estimates.certified_share <= 0.1
    assert found.estimates.set_level.mu_lower == 0
    assert found.traces.tie_fraction == 0
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)


def test_an_audit_of_a_shift_finds_it_in_every_member() -> None:
    found = audit(*draw(30, shifted(1), n=128), seed=1)
    assert found.estimates is not None
    assert found.estimates.mu_mean == pytest.approx(1, abs=0.1)
    assert found.estimates.epsilon_median > 1
    assert found.estimates.smooth_quality < 0.15
    assert found.estimates.certified_share > 0.5
    assert found.estimates.divergences["0"] == pytest.approx(0.38, abs=0.05)
    assert found.estimates.lira_accuracy == pytest.approx(ndtr(0.5), abs=0.03)
    assert found.estimates.set_level.p_value == 1 / 200
    assert found.estimates.set_level.mu_lower > 1


def test_an_audit_repeats_with_its_seed_and_only_with_it() -> None:
    sides = draw(20, n=64)
    first, again, other = (audit(*sides, seed=seed).estimates for seed in (1, 1, 2))
    assert first is not None
    assert other is not None
    assert first == again
    for member in ("mu_mean", "mu_se", "divergences", "lira_auc", "set_level"):
        assert getattr(first, member) != getattr(other, member)


@pytest.mark.parametrize("n", [8, 16, 19])
def test_an_audit_works_with_few_models_and_says_null_where_a_number_would_be_made_up(n: int) -> None:
    found = audit(*draw(40, shifted(0.5), n=n, m=n + 5), seed=1)
    assert found.estimates is not None
    assert found.estimates.lira_tpr is None
    assert np.isfinite([found.estimates.mu_mean, found.estimates.mu_se, found.estimates.smooth_quality]).all()
    json.dumps(asdict(found), allow_nan=False)


def test_an_audit_below_8_models_has_traces_and_no_estimates() -> None:
    found = audit(*draw(40, n=7, m=20), seed=1)
    assert found.estimates is None
    assert found.traces.window_mass > 0
    with pytest.raises(ValueError, match="at least 2 models"):
        audit(*draw(40, n=1, m=20), seed=1)


def test_an_audit_takes_a_random_subset_of_many_examples() -> None:
    u, r = draw(60, lambda z: z + 3 * (np.arange(60) < 30), n=32)
    found = audit(u, r, seed=1, max_examples=40)
    assert found.n_examples == 40
    assert found.estimates is not None
    assert 1 < found.estimates.mu_mean < 2  # from both halves of the examples


def test_an_audit_of_saturated_confidences_has_no_tie_fraction() -> None:
    found = audit(np.full((16, 3), 103.6163), np.full((16, 3), 103.6163), seed=1)
    assert found.traces.tie_fraction is None
    assert found.estimates is not None
    assert found.estimates.mu_mean == 0


@pytest.mark.slow
@pytest.mark.parametrize(("n", "shift"), [(128, 0.0), (128, 0.3), (32, 0.3)])
def test_the_standard_error_of_the_mean_mu_covers_redraws_of_models_that_examples_share(n: int, shift: float) -> None:
    rng = np.random.default_rng(11)
    means, errors = [], []
    for i in range(150):
        u, r = 0.6 * rng.normal(0, 1, (2, n, 30)) + 0.8 * rng.normal(0, 1, (2, n, 1))
        means.append(mus(u + shift, r, generator=rng).mean())
        if i < 15:
            found = audit(u + shift, r, seed=i).estimates
            assert found is not None
            errors.append(found.mu_se)
    assert 0.85 * np.std(means) < np.mean(errors) < 1.5 * np.std(means)
