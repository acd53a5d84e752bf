"""The ceiling: a mean over splits that hardly depends on which pool is which, and a noise that matches its draws."""

import numpy as np
import pytest

from harness.scoring.ceiling import ceiling
from harness.scoring.score import Official, Outputs, calibrated_quality, official_score, score

N, EXAMPLES = 64, 30


def drawn(seed: int, n: int = N) -> Outputs:
    generator = np.random.default_rng(seed)
    shared = generator.normal(0, 0.5, (n, 1))  # what a model has in common over examples
    retain, test = generator.normal(0.9, 0.01, (2, n))
    return Outputs(shared + generator.normal(0, 1, (n, EXAMPLES)), retain, test, np.full(n, -1))


def test_the_ceiling_is_near_that_of_the_table_and_the_same_whichever_pool_comes_first() -> None:
    first, second = drawn(1), drawn(2)
    found, other = ceiling(first, second), ceiling(second, first)
    assert found.score == pytest.approx(0.18, abs=0.06)
    assert found.score == pytest.approx(other.score, rel=0.15)
    assert found.smooth_quality == pytest.approx(other.smooth_quality, rel=0.05)


def test_fresh_retrained_models_score_within_its_interval_and_1_when_calibrated() -> None:
    scoring = drawn(1)
    found = ceiling(scoring, drawn(2))
    assert found.interval is not None
    perfect = [score(drawn(seed), scoring) for seed in range(10, 30)]
    inside = [found.interval[0] <= (one.score or 0) <= found.interval[1] for one in perfect]
    assert np.mean(inside) >= 0.8
    calibrated = [calibrated_quality(drawn(seed), scoring, found.smooth_quality) for seed in range(10, 30)]
    assert np.mean(calibrated) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("n_withheld", "is_known"), [(0, True), (10, True), (11, False), (20, False)])
def test_a_ceiling_is_withheld_where_most_of_its_splits_would_be(
    monkeypatch: pytest.MonkeyPatch, n_withheld: int, is_known: bool
) -> None:
    splits = [Official(0.1 + 0.01 * split, split < n_withheld) for split in range(20)]
    monkeypatch.setattr("harness.scoring.ceiling.official_score", lambda *_: splits.pop())
    found = ceiling(drawn(1, 8), drawn(2, 8))
    if is_known:
        assert found.score == pytest.approx(0.195)  # the mean of all, withheld or not
        assert found.interval == pytest.approx((0.0681, 0.3219), abs=1e-4)  # 95 % of further draws, by Student's t
    else:
        assert (found.score, found.deviation, found.interval) == (None, None, None)


def test_examples_that_no_model_tells_apart_leave_no_ceiling_and_a_score_over_the_rest() -> None:
    sides = drawn(1, 16), drawn(2, 16)
    for side in sides:
        side.confidences[:, :2] = 2.75  # unresolved
    assert ceiling(*sides).score is None
    assert official_score(*sides).withheld
    assert official_score(*sides).score > 0
