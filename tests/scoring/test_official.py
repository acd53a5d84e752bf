"""The official metric: golden values of the released code, a slow plain version of it, its edge cases and its laws."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import one_by_one
from harness.scoring.double_threshold import _exist, _may_exist, _RightEnds, _Runs, raise_by_intervals
from harness.scoring.official import (
    example_credits,
    example_epsilons,
    final_score,
    forgetting_quality,
    logit_scaled_confidence,
)
from harness.scoring.pooled import NONE, Pooled
from harness.scoring.score import Outputs, half_sample_rows, half_sample_scores
from harness.scoring.single_threshold import Float32Grid, single_threshold_epsilons

GOLDEN = Path(__file__).parents[1] / "golden" / "official_metric.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What the released code computed, on ordinary columns and on six odd ones at the end."""
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


# ---- the released code, written down once more: every model against every threshold, nothing sorted ----------------


def slow_epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Return one example's epsilon by brute force; NaN where every threshold is discarded."""
    if np.median(retrained) > np.median(unlearned):
        positive, negative = retrained, unlearned
    else:
        positive, negative = unlearned, retrained
    positive_range, negative_range = positive.max() - positive.min(), negative.max() - negative.min()
    widest = max(positive_range, negative_range)
    if widest > 0 and min(positive_range, negative_range) / widest < 0.01:
        return 50.0
    single = slow_single_threshold(positive, negative)
    if positive_range < negative_range:
        double = slow_double_threshold(positive, negative)
    else:
        double = slow_double_threshold(negative, positive)
    found = [epsilon for epsilon in (single, double) if not math.isnan(epsilon)]
    return min(max(found), 50.0) if found else math.nan


def slow_single_threshold(positive: np.ndarray, negative: np.ndarray) -> float:
    low, high = min(positive.min(), negative.min()), max(positive.max(), negative.max())
    grid = slow_float32_grid(low, high, math.ceil(100 * (high - low)))
    called = [(sample[:, None] >= grid).sum(axis=0) for sample in (positive, negative)]
    return slow_largest(called[0], called[1], len(positive))


def slow_float32_grid(low: float, high: float, count: int) -> np.ndarray:
    first, last = np.float32(low), np.float32(high)
    if count == 1:
        return np.array([first], np.float64)
    step = float((last - first) / np.float32(count - 1))  # both operations in float32, as in the framework
    points = []
    for i in range(count):
        exact = float(first) + step * i if i < count // 2 else float(last) - step * (count - 1 - i)
        points.append(float(np.float32(exact)))
    return np.array(points)


def slow_double_threshold(narrow: np.ndarray, wide: np.ndarray) -> float:
    within = slow_within(narrow, wide)
    return slow_largest(within[0], within[1], len(narrow))


def slow_within(narrow: np.ndarray, wide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the models of either side within every interval."""
    width = narrow.max() - narrow.min()
    start, stop = narrow.min() + width - 2.0, narrow.max() + 2.0
    called: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for right in np.linspace(start, stop, math.ceil(100 * (stop - start))):
        left = np.linspace((right - width) - 2.0, (right - width) + 2.0, 400)
        for counts, sample in zip(called, (narrow, wide), strict=True):
            counts.append(((left <= sample[:, None]) & (sample <= right)[:, None]).sum(axis=0))
    return np.concatenate(called[0]), np.concatenate(called[1])


def slow_largest(positive_called: np.ndarray, negative_called: np.ndarray, n_models: int) -> float:
    """Return the largest epsilon, not yet cut at 50, of thresholds that call so many models of each side positive."""
    one, delta, n = np.float32(1), np.float32(1e-5), np.float32(n_models)
    tpr, fpr = positive_called.astype(np.float32) / n, negative_called.astype(np.float32) / n
    fnr, tnr = ((n_models - called).astype(np.float32) / n for called in (positive_called, negative_called))
    if ((fpr + fnr == 0) & (tpr + tnr == 2)).any():
        return math.inf
    fnr, fpr = fnr[fpr * fnr != 0], fpr[fpr * fnr != 0]
    with np.errstate(invalid="ignore"):
        both = np.fmax(np.log(one - delta - fpr) - np.log(fnr), np.log(one - delta - fnr) - np.log(fpr))
    both = both[~np.isnan(both)]
    return max(float(both.max()), 0.0) if len(both) else math.nan


def assert_equal_to_slow(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Assert that epsilons are those of brute force, bit for bit; return them."""
    epsilons = example_epsilons(unlearned, retrained)
    slow = [slow_epsilon(u, r) for u, r in zip(unlearned.T, retrained.T, strict=True)]
    np.testing.assert_array_equal(epsilons, slow)
    return epsilons


# ---- golden values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [16, 64, 128])
def test_epsilons_and_quality_are_those_of_the_released_code_bit_for_bit(golden: dict[str, np.ndarray], n: int) -> None:
    epsilons = example_epsilons(golden[f"unlearned_{n}"], golden[f"retrained_{n}"])
    np.testing.assert_array_equal(epsilons, golden[f"epsilon_{n}"])
    assert forgetting_quality(epsilons, n) == golden[f"forgetting_quality_{n}"]


def test_confidences_are_those_of_the_released_code_bit_for_bit(golden: dict[str, np.ndarray]) -> None:
    confidence = logit_scaled_confidence(golden["logits"], golden["labels"])
    assert confidence.dtype == np.float64
    np.testing.assert_array_equal(confidence, golden["confidence"])


def test_the_slow_version_agrees_with_the_released_code_too(golden: dict[str, np.ndarray]) -> None:
    slow = [slow_epsilon(u, r) for u, r in zip(golden["unlearned_16"].T, golden["retrained_16"].T, strict=True)]
    np.testing.assert_array_equal(slow, golden["epsilon_16"])


# ---- fresh draws against brute force ------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("n", [16, 48, 100])
def test_epsilons_equal_brute_force_at_every_scale_and_number_of_models(n: int, scale: float) -> None:
    rng = np.random.default_rng([n, int(100 * scale)])
    shift = scale * np.array([0.0, -0.5])
    spread = scale * np.array([1.0, 1.5])
    assert_equal_to_slow(rng.normal(5 + shift, spread, (n, 2)), rng.normal(5, scale, (n, 2)))


@pytest.mark.parametrize("n", [257, 512])
def test_epsilons_equal_brute_force_with_hundreds_of_models(n: int) -> None:
    rng = np.random.default_rng(n)
    assert_equal_to_slow(rng.normal([0.2, 0.0], [1.0, 1.4], (n, 2)), rng.normal(0, 1, (n, 2)))


ODD_SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ties": lambda u: np.round(u),
    "winsorised": lambda u: np.clip(u, -1.5, 1.5),
    "comb": lambda u: np.round(3 * u) / 3,
    "heavy tails": lambda u: u / np.abs(u[::-1]),
    "perfect separation": lambda u: u + 12,
    "one outlier": lambda u: np.where(np.arange(len(u))[:, None] == 0, 40.0, u),
    "narrow": lambda u: 0.05 * u,
    "peaky": lambda u: 0.001 * u,
    "stepwise on the grid": lambda u: np.round(u / 0.01) * 0.01,
}


@pytest.mark.parametrize("shape", ODD_SHAPES)
@pytest.mark.parametrize("n", [16, 64])
def test_epsilons_equal_brute_force_on_odd_shapes(n: int, shape: str) -> None:
    rng = np.random.default_rng([n, len(shape)])
    normal, retrained = rng.normal(0, 1, (2, n, 2))
    odd = ODD_SHAPES[shape](normal)
    assert_equal_to_slow(odd, retrained)
    assert_equal_to_slow(retrained, odd)
    assert_equal_to_slow(odd, ODD_SHAPES[shape](retrained))


def test_tiny_scales_are_decided_as_brute_force_decides_them_unresolved_ones_too() -> None:
    rng = np.random.default_rng(4)
    epsilons = assert_equal_to_slow(rng.normal(3e-4, 1e-4, (64, 30)), rng.normal(0, 1e-4, (64, 30)))
    resolved = epsilons[~np.isnan(epsilons)]
    assert 0 < len(resolved) < 30
    assert (resolved == 0).any()
    assert (resolved > 1).any()


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="torch rounds twice without FMA")
def test_the_float32_grid_is_that_of_torch_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        low, high = np.sort(rng.normal(0, rng.choice([0.1, 1.0, 10.0, 60.0]), 2))
        count = int(np.ceil(100 * (high - low)))
        expected = torch.linspace(float(low), float(high), count, dtype=torch.float32).double().numpy()
        np.testing.assert_array_equal(Float32Grid.over(np.array([[low, high]])).points(np.arange(count))[0], expected)


def test_a_confidence_on_a_point_of_the_grid_is_judged_by_the_last_bit_of_that_point() -> None:
    low, high = -7.926292, 38.425358  # far from each other in magnitude: their difference is rounded to float32
    point = slow_float32_grid(low, high, math.ceil(100 * (high - low)))[2000]
    rng = np.random.default_rng(3)
    unlearned = np.append(rng.uniform(point, high, 14), [point, high])
    retrained = np.append(rng.uniform(low, point, 14), [point - 1e-7, low])
    assert assert_equal_to_slow(unlearned[:, None], retrained[:, None])[0] == 50


@pytest.mark.parametrize(
    ("low", "high", "n_right"), [(0.1, 3.0, 400), (-1.3, 1.9, 400), (-0.2, 0.3, 400), (-7.3, 9.4, 401)]
)
@pytest.mark.parametrize("nudge", [-np.inf, 0, np.inf])
def test_models_on_the_ends_of_intervals_are_counted_to_the_last_bit(
    low: float, high: float, n_right: int, nudge: float
) -> None:
    width = high - low
    start, stop = low + width - 2, high + 2  # as both versions lay their grids
    right = np.linspace(start, stop, math.ceil(100 * (stop - start)))
    assert len(right) == n_right
    left = np.array([np.linspace((t - width) - 2, (t - width) + 2, 400) for t in right])
    on_the_grid = np.concatenate([right[[0, 57, 200, 399]], left[::80, ::23].ravel(), left[:40, -1]])
    wide = np.sort([-20.0, *(on_the_grid if nudge == 0 else np.nextafter(on_the_grid, nudge)), 20.0])
    narrow = np.sort([low, *on_the_grid[(low < on_the_grid) & (on_the_grid < high)], high])
    narrow = np.append(narrow, np.full(len(wide) - len(narrow), high))
    expected = slow_within(narrow, wide)
    assert intervals_found(narrow, wide) == {
        pair for pair in zip(*(counts.tolist() for counts in expected), strict=True) if max(pair) > 0
    }
    epsilons = np.full(1, NONE, np.float32)
    raise_by_intervals(Pooled.of(narrow[None], wide[None]), epsilons)
    assert epsilons[0] == np.float32(min(slow_largest(*expected, len(narrow)), 50))


def intervals_found(narrow: np.ndarray, wide: np.ndarray) -> set[tuple[int, int]]:
    """Return how many models of either side every interval holds, of those that hold any."""
    pooled = Pooled.of(narrow[None], wide[None])
    ends = _RightEnds.around(pooled)
    rows = np.append(ends.first_holding(pooled.values)[0], int(ends.n_rows[0, 0]))
    last, cut = np.tril_indices(len(rows) - 1)
    last, cut = last[rows[last] < rows[last + 1]], cut[rows[last] < rows[last + 1]]
    every = np.zeros(len(last), int)
    runs = _Runs(every, last + 1, rows[last], rows[last + 1] - 1, every, every)
    found = _exist(runs, cut, pooled, ends)
    assert _may_exist(runs, cut, pooled, ends)[found].all()
    counts = (below[0, last + 1] - below[0, cut] for below in (pooled.first_below, pooled.second_below))
    return set(zip(*(count[found].tolist() for count in counts), strict=True))


@pytest.mark.parametrize("shape", [*ODD_SHAPES, "ordinary", "tiny spread"])
@pytest.mark.parametrize("n", [9, 33, 64])
def test_half_samples_have_the_epsilons_of_one_example_after_the_other(n: int, shape: str) -> None:
    rng = np.random.default_rng([n, len(shape)])
    normal, retrained = rng.normal(0, 1, (2, n, 3))
    scale = 3e-4 if shape == "tiny spread" else 1.0
    original, ones = np.arange(n) % 3, np.ones(n)
    odd = ODD_SHAPES[shape](normal) if shape in ODD_SHAPES else normal
    ours, theirs = (Outputs(scale * side, ones, ones, original) for side in (odd, retrained))
    expected = []
    for first, second in zip(*half_sample_rows(ours, n), strict=True):
        epsilons = one_by_one.example_epsilons(ours.confidences[first], theirs.confidences[second])
        np.testing.assert_array_equal(example_epsilons(ours.confidences[first], theirs.confidences[second]), epsilons)
        expected.append(0.0 if np.isnan(epsilons).all() else forgetting_quality(epsilons, n // 2))
    np.testing.assert_array_equal(half_sample_scores(ours, theirs, 1.0).score, expected)


@pytest.mark.parametrize(("location", "scale"), [(0, 1), (7.3, 1), (-30, 4), (2.1, 0.3), (5e5, 3), (1e9, 1)])
@pytest.mark.parametrize("n", [31, 256])
def test_epsilons_are_those_of_one_example_after_the_other(n: int, location: float, scale: float) -> None:
    rng = np.random.default_rng(n)
    unlearned, retrained = location + scale * rng.normal([[[0.25]], [[0.0]]], 1, (2, n, 40))
    for side in (unlearned, np.round(unlearned, 1), np.clip(unlearned, location - scale, location + scale)):
        np.testing.assert_array_equal(example_epsilons(side, retrained), one_by_one.example_epsilons(side, retrained))


# ---- edge cases of confidences ------------------------------------------------------------------------------------


def gap(value: float, dtype: type, *, n_classes: int = 3) -> float:
    """Return the confidence of a true class whose logit is above all others by so much."""
    logits: np.ndarray = np.zeros((1, n_classes), dtype)
    logits[0, 0] = value
    return float(logit_scaled_confidence(logits, np.array([0]))[0])


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (50, np.float32, 49.307),
        (100, np.float32, 99.277),
        (110, np.float32, 103.616),
        (110, np.float64, 103.613),
        (0, np.float32, -0.693),
    ],
)
def test_confidences_of_large_gaps_saturate_as_in_the_released_code(value: float, dtype: type, expected: float) -> None:
    assert gap(value, dtype) == pytest.approx(expected, abs=6e-4)


def test_ten_equal_logits_give_the_log_odds_of_chance() -> None:
    assert gap(0, np.float32, n_classes=10) == pytest.approx(-math.log(9))


@pytest.mark.parametrize("value", [16, 17, 18, 50])
def test_half_precision_logits_are_read_as_float32_and_do_not_saturate_early(value: float) -> None:
    assert gap(value, np.float16) == gap(value, np.float32)
    assert gap(value, np.float16) == pytest.approx(value - math.log(2), abs=1e-3)


def test_an_unlikely_true_class_saturates_at_the_lower_end() -> None:
    logits = np.array([[-1000.0, 0.0, 0.0]], np.float32)
    assert logit_scaled_confidence(logits, np.array([0]))[0] == pytest.approx(-103.616, abs=6e-4)


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_a_logit_that_is_not_finite_is_an_error_that_names_the_example(value: float) -> None:
    logits = np.zeros((3, 4), np.float32)
    logits[2, 1] = value
    with pytest.raises(ValueError, match=r"example 2 .* not finite"):
        logit_scaled_confidence(logits, np.zeros(3, int))


def test_confidence_is_the_true_logit_less_the_logsumexp_of_the_others() -> None:
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(0, 3, (200, 7)), rng.integers(0, 7, 200)
    others = np.array([np.delete(row, label) for row, label in zip(logits, labels, strict=True)])
    expected = logits[np.arange(200), labels] - np.log(np.exp(others).sum(axis=1))
    np.testing.assert_allclose(logit_scaled_confidence(logits, labels), expected, rtol=0, atol=1e-9)


def test_confidences_leave_logits_and_labels_as_they_were() -> None:
    logits = np.random.default_rng(6).normal(0, 3, (20, 5)).astype(np.float32)
    labels = np.arange(20) % 5
    before = logits.copy(), labels.copy()
    logit_scaled_confidence(logits, labels)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(labels, before[1])


# ---- edge cases of epsilons ---------------------------------------------------------------------------------------


def epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Return the epsilon of a single example, after comparing it with brute force."""
    return float(assert_equal_to_slow(unlearned[:, None], retrained[:, None])[0])


@pytest.mark.parametrize("n", [3, 16, 64])
def test_a_constant_side_is_told_apart_at_sight_whichever_side_it_is(n: int) -> None:
    constant, ordinary = np.full(n, 0.1), np.random.default_rng(n).normal(0, 1, n)
    assert epsilon(constant, ordinary) == 50
    assert epsilon(ordinary, constant) == 50


@pytest.mark.parametrize(("ratio", "expected"), [(0.0099, 50), (0.0101, 3.6888692)])
def test_a_side_is_peaky_below_one_hundredth_of_the_others_range(ratio: float, expected: float) -> None:
    wide = np.linspace(-50, 50, 41)
    assert epsilon(ratio * wide, wide) == pytest.approx(expected)
    assert epsilon(wide, ratio * wide) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(2.7, 2.7), (2.75, 2.751), (0.0, 0.001), (0.53, 0.531)])
def test_two_constants_closer_than_the_grid_are_unresolved(first: float, second: float) -> None:
    assert math.isnan(epsilon(np.full(16, first), np.full(16, second)))
    assert math.isnan(epsilon(np.full(16, second), np.full(16, first)))


def test_two_close_constants_are_separated_where_rounding_puts_the_only_threshold_between_them() -> None:
    assert 2.7 < float(np.float32(2.7)) < 2.701
    assert epsilon(np.full(16, 2.7), np.full(16, 2.701)) == 50


@pytest.mark.parametrize("difference", [1.0, -1.0])
def test_two_constants_apart_are_separated_perfectly(difference: float) -> None:
    assert epsilon(np.full(16, 2.7), np.full(16, 2.7 + difference)) == 50


def test_the_same_array_on_both_sides_has_epsilon_zero_and_full_credit() -> None:
    same = np.random.default_rng(7).normal(0, 1, (64, 5))
    epsilons = assert_equal_to_slow(same, same)
    np.testing.assert_array_equal(epsilons, np.zeros(5))
    assert forgetting_quality(epsilons, 64) == 1


def test_samples_twelve_deviations_apart_reach_the_cap() -> None:
    sides = np.random.default_rng(8).normal(0, 1, (2, 64))
    assert epsilon(sides[0] + 12, sides[1]) == 50
    assert epsilon(sides[0], sides[1] + 12) == 50


def test_a_pooled_range_below_the_grid_leaves_the_single_threshold_without_a_say() -> None:
    low, high = np.array([0.0, 0.004]), np.array([0.005, 0.009])
    assert math.isnan(slow_single_threshold(high, low))
    grid = Float32Grid.over(np.sort([[*high, *low]]))
    assert grid.n_points[0, 0] == 1
    assert grid.points(np.arange(1))[0, 0] == 0.0  # everything is called positive
    assert single_threshold_epsilons(Pooled.of(high[None], low[None]))[0] == NONE


def test_the_largest_finite_epsilon_has_one_error_on_each_side() -> None:
    n = 64
    unlearned, retrained = np.linspace(10, 11, n), np.linspace(0, 1, n)
    unlearned[0], retrained[0] = retrained[1], unlearned[1]
    expected = math.log(n - 1 - n * 1e-5)
    assert epsilon(unlearned, retrained) == pytest.approx(expected, abs=1e-6)


def test_unlearned_is_the_higher_side_where_the_medians_tie() -> None:
    # Retrained reaches higher here, which a threshold tells if and only if retrained is taken for the higher side.
    unlearned = np.array([-6.0, -6.0, -4.0, 0.0, 0.0, 1.0, 1.0])
    retrained = np.array([-3.0, -2.0, -2.0, 0.0, 0.0, 2.0, 5.0])
    assert epsilon(unlearned, retrained) == 0
    assert epsilon(retrained, unlearned) == pytest.approx(math.log(3), abs=1e-4)


def test_the_reversed_rule_is_never_credited() -> None:
    # The medians tie and retrained reaches higher: "low means retrained" would tell, "high means unlearned" cannot.
    unlearned = np.array([0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    retrained = np.array([5.0, 5.0, 5.0, 5.0, 5.0, 9.0, 9.0, 9.0, 9.0])
    positive, negative = np.sort(unlearned), np.sort(retrained)
    assert single_threshold_epsilons(Pooled.of(positive[None], negative[None]))[0] == 0


def test_one_model_separates_at_sight_and_earns_nothing() -> None:
    epsilons = example_epsilons(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]]))
    np.testing.assert_array_equal(epsilons, [50, 50])
    assert forgetting_quality(epsilons, 1) == 0
    assert forgetting_quality(np.zeros(3), 1) == 0


def test_two_models_earn_nothing_whatever_their_epsilon() -> None:
    epsilons = assert_equal_to_slow(*np.random.default_rng(9).normal(0, 1, (2, 2, 8)))
    assert forgetting_quality(epsilons, 2) == 0
    assert forgetting_quality(np.zeros(3), 2) == 0


def test_three_models_have_finite_epsilons_up_to_log_two() -> None:
    epsilons = assert_equal_to_slow(*np.random.default_rng(10).normal(0, 1, (2, 3, 30)))
    finite = epsilons[epsilons < 50]
    assert finite.max() == pytest.approx(math.log(2 - 3e-5), abs=1e-6)


# ---- credits, quality, score --------------------------------------------------------------------------------------


def credit_by_walking_the_buckets(epsilon_: float, n_models: int) -> float:
    end, credit = 0.5, 1.0
    while n_models > 1 and end <= math.ceil(math.log(n_models - 1)):
        if epsilon_ < end:
            return credit
        end, credit = end + 0.5, credit / 2
    return 0.0


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 60), st.integers(1, 5000))
def test_a_credit_is_that_of_the_first_bucket_that_ends_above_epsilon(epsilon_: float, n_models: int) -> None:
    assert example_credits(np.array([epsilon_]), n_models)[0] == credit_by_walking_the_buckets(epsilon_, n_models)


@pytest.mark.parametrize(
    ("n_models", "buckets"),
    [(1, 0), (2, 0), (3, 2), (8, 4), (21, 6), (64, 10), (404, 12), (512, 14), (1098, 16)],
)
def test_the_number_of_buckets_follows_the_number_of_models(n_models: int, buckets: int) -> None:
    credits_ = example_credits(np.arange(0, 20, 0.5), n_models)
    np.testing.assert_array_equal(credits_[:buckets], 2.0 ** -np.arange(buckets))
    assert not credits_[buckets:].any()


def test_an_epsilon_on_the_edge_of_a_bucket_belongs_to_the_next_one() -> None:
    edges = np.array([0.5, np.nextafter(0.5, 0), 7.0, np.nextafter(7.0, 0)])
    np.testing.assert_array_equal(example_credits(edges, 512), [0.5, 1.0, 0.0, 2.0**-13])


def test_quality_is_the_mean_over_resolved_examples_and_nan_without_any() -> None:
    assert forgetting_quality(np.array([0.0, np.nan, 0.6]), 64) == 0.75
    assert math.isnan(forgetting_quality(np.array([np.nan, np.nan]), 64))
    assert np.isnan(example_credits(np.array([np.nan]), 64)).all()


def test_the_final_score_multiplies_ratios_that_are_not_clipped() -> None:
    assert final_score(0.2, 1.25, 0.8) == pytest.approx(0.2)
    assert final_score(0.2, 1.5, 2.0) == pytest.approx(0.6)


# ---- laws ---------------------------------------------------------------------------------------------------------


@st.composite
def two_samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw two columns of as many confidences: hand-picked ones, so that ties, steps and outliers are common."""
    n = draw(st.integers(2, 12))
    values = st.sampled_from([-1.0, 0.0, 0.004, 0.5, 0.505, 1.0, 3.7]) | st.floats(-104, 104)
    unlearned, retrained = (draw(st.lists(values, min_size=n, max_size=n)) for _ in range(2))
    return np.array(unlearned)[:, None], np.array(retrained)[:, None]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(two_samples(), st.integers(0, 2**32))
def test_the_order_of_models_changes_nothing(sides: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    rng = np.random.default_rng(seed)
    np.testing.assert_array_equal(
        example_epsilons(*sides), example_epsilons(rng.permutation(sides[0]), rng.permutation(sides[1]))
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(two_samples())
def test_an_epsilon_is_within_its_bounds_or_unresolved(sides: tuple[np.ndarray, np.ndarray]) -> None:
    value, n = example_epsilons(*sides)[0], len(sides[0])
    assert np.isnan(value) or value == 50 or 0 <= value <= math.log(n - 1) + 1e-6


@settings(max_examples=40, deadline=None, derandomize=True)
@given(two_samples())
def test_exchanging_the_sides_changes_nothing_unless_their_medians_tie(sides: tuple[np.ndarray, np.ndarray]) -> None:
    unlearned, retrained = sides
    if np.median(unlearned) != np.median(retrained):
        np.testing.assert_array_equal(example_epsilons(unlearned, retrained), example_epsilons(retrained, unlearned))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(two_samples())
def test_epsilons_equal_brute_force_on_whatever_can_be_drawn(sides: tuple[np.ndarray, np.ndarray]) -> None:
    assert_equal_to_slow(*sides)


def test_every_example_is_judged_by_itself_and_inputs_stay_as_they_were() -> None:
    unlearned, retrained = np.random.default_rng(11).normal(0, 1, (2, 16, 4))
    before = unlearned.copy(), retrained.copy()
    together = example_epsilons(unlearned, retrained)
    alone = [example_epsilons(unlearned[:, [i]], retrained[:, [i]])[0] for i in range(4)]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(unlearned, before[0])
    np.testing.assert_array_equal(retrained, before[1])


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unlearned", "retrained"),
    [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((4,), (4,)), ((0, 3), (0, 3)), ((4, 0), (4, 0)), ((2, 4, 3), (2, 4, 3))],
)
def test_two_arrays_that_do_not_fit_are_an_error_that_names_their_shapes(
    unlearned: tuple[int, ...], retrained: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="one shape") as error:
        example_epsilons(np.zeros(unlearned), np.zeros(retrained))
    assert str(unlearned) in str(error.value)
    assert str(retrained) in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["unlearned", "retrained"])
def test_a_confidence_that_is_not_finite_is_an_error_that_names_the_model(side: str, value: float) -> None:
    sides = {name: np.random.default_rng(12).normal(0, 1, (4, 3)) for name in ("unlearned", "retrained")}
    sides[side][2, 1] = value
    with pytest.raises(ValueError, match=f"{side} model 2 has a non-finite confidence"):
        example_epsilons(sides["unlearned"], sides["retrained"])
