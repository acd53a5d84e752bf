"""Rank ranges: ties for submissions that are alike, places of their own for those that are not."""

import time

import numpy as np
import pytest

from harness.scoring.ranks import Places, rank_ranges
from harness.scoring.uncertainty import INFLATION

NOISE = 0.03


def drawn(truth: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores and half-samples of submissions with true scores (k,): half-samples spread as the scores do."""
    scores = truth + generator.normal(0, NOISE, len(truth))
    return scores, scores[:, None] + generator.normal(0, NOISE / INFLATION, (len(truth), 200))


def test_a_range_is_written_as_one_place_or_two() -> None:
    assert (str(Places(2, 2)), str(Places(1, 3))) == ("2", "1-3")


def test_places_follow_the_scores_in_whatever_order_they_come() -> None:
    scores = np.array([0.2, 0.9, 0.5])
    halves = scores[:, None] + np.random.default_rng(0).normal(0, 0.001, (3, 200))
    assert rank_ranges(scores, halves) == [Places(3, 3), Places(1, 1), Places(2, 2)]


def test_equal_submissions_share_all_places_in_95_of_100_draws() -> None:
    generator = np.random.default_rng(1)
    ties = [
        all(places == Places(1, 8) for places in rank_ranges(*drawn(np.full(8, 0.5), generator))) for _ in range(100)
    ]
    assert np.mean(ties) >= 0.95


def test_known_groups_of_500_are_separated_in_seconds() -> None:
    generator = np.random.default_rng(2)
    truth = np.repeat([0.9, 0.5, 0.1], [10, 90, 400])
    started = time.process_time()  # of a busy machine it is the same
    places = rank_ranges(*drawn(truth, generator))
    assert time.process_time() - started < 10
    for group in (slice(0, 10), slice(10, 100), slice(100, 500)):
        assert min(place.best for place in places[group]) == group.start + 1
        assert max(place.worst for place in places[group]) == group.stop
    assert np.mean([place.worst - place.best for place in places[100:]]) > 100


def test_one_submission_is_first_and_last() -> None:
    assert rank_ranges(np.array([0.5]), np.zeros((1, 200))) == [Places(1, 1)]


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_two_are_told_apart_by_their_difference_alone(gap: float) -> None:
    common = np.random.default_rng(3).normal(0, 0.3, 200)  # the reference's noise, which both share
    own = np.random.default_rng(4).normal(0, 0.01, (2, 200))
    scores = np.array([0.5 + gap, 0.5])
    first, second = rank_ranges(scores, scores[:, None] + common + own)
    assert (str(first), str(second)) == (("1", "2") if gap else ("1-2", "1-2"))
