"""Intervals, Holm's correction and verdicts, against scipy and against plain rewritings."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts import (
    Interval,
    Verdict,
    above,
    all_of,
    below,
    holm,
    holm_intervals,
    p_value,
    t_interval,
    within,
)

VALUES = [0.3, 1.1, 0.7, -0.2, 0.9]


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_an_interval_is_that_of_scipy(level: float) -> None:
    found, expected = t_interval(VALUES, level=level), stats.ttest_1samp(VALUES, 0).confidence_interval(level)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(VALUES), expected.low, expected.high))
    assert (found.level, found.n) == (level, 5)
    assert p_value(VALUES, threshold=0.1) == pytest.approx(stats.ttest_1samp(VALUES, 0.1).pvalue)


def test_values_that_are_all_alike_have_an_interval_without_width() -> None:
    assert t_interval([0.1] * 3) == Interval(0.1, 0.1, 0.1, 0.95, 3)
    assert (p_value([0.1] * 3, threshold=0.1), p_value([0.1] * 3)) == (1, 0)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two values"):
        t_interval([1.0])


def test_holm_adjusts_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]


def test_intervals_of_cells_leave_the_threshold_out_where_holm_says_so() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        cells = [list(generator.normal(shift, 1, 5)) for shift in (0, 0.5, 1, 2, 4)]
        adjusted = holm([p_value(values, threshold=0.2) for values in cells])
        intervals = holm_intervals(cells, threshold=0.2)
        assert [not one.low <= 0.2 <= one.high for one in intervals] == [p <= 0.05 for p in adjusted]
        assert min(one.level for one in intervals) >= 0.95


@pytest.mark.parametrize(
    ("low", "high", "is_above", "is_below", "is_within"),
    [
        (0.1, 0.2, "holds", "refuted", "holds"),
        (-0.2, -0.1, "refuted", "holds", "holds"),
        (-0.1, 0.2, "undecided", "undecided", "holds"),
        (0.5, 2, "holds", "refuted", "undecided"),
        (2, 3, "holds", "refuted", "refuted"),
        (0, 0, "refuted", "refuted", "holds"),
    ],
)
def test_an_interval_decides_on_a_claim(low: float, high: float, is_above: str, is_below: str, is_within: str) -> None:
    interval = Interval((low + high) / 2, low, high, 0.95, 5)
    assert (above(interval), below(interval), within(interval, 1)) == (is_above, is_below, is_within)


def test_a_claim_on_all_cells_falls_with_one() -> None:
    holds, refuted, undecided = Verdict
    assert all_of([holds, holds]) == holds
    assert all_of([holds, undecided]) == undecided
    assert all_of([undecided, refuted, holds]) == refuted
