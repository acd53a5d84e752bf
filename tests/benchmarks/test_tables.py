"""The tables the scorer is known by, computed again: equal and unequal models, games, coverage, comparisons, alarms.

Expected values are those of spec figures measured elsewhere, on other draws. By default with few examples, under
`-m slow` with all of them; `python -m benchmarks.tables` writes the same tables down.
"""

import math
from pathlib import Path

import numpy as np
import pytest

import harness
from benchmarks.alarms import false_alarms, false_alarms_on, game_alarms, null
from benchmarks.coverage import coverage, separation
from benchmarks.games import GAMES, oracle
from benchmarks.lookup import DIRECTIONS, lookup_source, of_retrained
from benchmarks.tables import MODELS, STDS, quality, scaled, shifted
from harness.scoring.alarms import of_file
from harness.submission import submission_of

FEW = 40
ALL = 300
examples = pytest.mark.parametrize(
    "examples", [pytest.param(FEW, id="few"), pytest.param(ALL, id="all", marks=pytest.mark.slow)]
)


def assert_near(row: dict[str, float], expected: float, *, spread: float = 0.6, digits: int = 3) -> None:
    """Assert a quality to be as expected, within four standard errors of its mean and the rounding of the table.

    spread: standard deviation of the credits, as a share of their mean, where the drawn ones vary less.
    """
    standard_error = max(row["deviation"], spread * expected) / math.sqrt(row["examples"])
    assert row["quality"] == pytest.approx(expected, abs=4 * standard_error + 0.5 * 10**-digits)


# ---- official quality: null, power, games -------------------------------------------------------------------------


@examples
@pytest.mark.parametrize(
    ("std", "expected"), [*zip(STDS, (0.29, 0.16, 0.13, 0.10, 0.085, 0.18, 0.18, 0.19, 0.19, 0.20, 0.22), strict=True)]
)
def test_equal_models_score_by_the_spread_of_their_confidences(std: float, expected: float, examples: int) -> None:
    row = quality(oracle, sd=std, examples=examples)
    assert_near(row, expected, digits=2)
    assert 1.1 < row["median_epsilon"] < 2.2
    assert row["unresolved"] == 0


@examples
@pytest.mark.parametrize(
    ("n", "expected"), [*zip(MODELS, (0.16, 0.19, 0.18, 0.18, 0.19, 0.18, 0.20, 0.18, 0.22), strict=True)]
)
def test_equal_models_score_no_better_for_being_many(n: int, expected: float, examples: int) -> None:
    assert_near(quality(oracle, n=n, examples=examples), expected, digits=2)


@examples
@pytest.mark.parametrize(
    ("shift", "expected", "epsilon"),
    [(0.1, 0.17, 1.65), (0.25, 0.14, 1.8), (0.5, 0.073, 2.3), (1, 0.016, 3.4), (2, 0.0016, 5.0), (3, 0.0005, 5.8)],
)
def test_quality_falls_with_a_shift(shift: float, expected: float, epsilon: float, examples: int) -> None:
    row = quality(shifted(shift), examples=examples)
    assert_near(row, expected, digits=len(f"{expected}") - 2)
    assert row["median_epsilon"] == pytest.approx(epsilon, abs=0.2)


@examples
@pytest.mark.parametrize(
    ("ratio", "expected", "epsilon"), [(0.5, 0.0034, 4.4), (0.8, 0.052, 2.6), (1.25, 0.051, 2.6), (2, 0.0035, 4.4)]
)
def test_quality_falls_with_another_spread(ratio: float, expected: float, epsilon: float, examples: int) -> None:
    row = quality(scaled(ratio), examples=examples)
    assert_near(row, expected, digits=len(f"{expected}") - 2)
    assert row["median_epsilon"] == pytest.approx(epsilon, abs=0.2)


GAME_QUALITY = {  # F at a standard deviation of .3, 1 and 3, and the standard deviation per example at 3
    "winsorised at 2 sd": (0.042, 0.392, 0.392, 0.156),
    "winsorised at 1.5 sd": (0.018, 0.464, 0.477, 0.108),
    "winsorised at 1 sd": (0.020, 0.004, 0.498, 0.041),
    "truncated at 2 sd": (0.022, 0.018, 0.017, 0.005),
    "stratified": (0.140, 0.245, 0.247, 0.114),
    "stratified, winsorised at 1.5 sd": (0.016, 0.521, 0.513, 0.081),
    "stratified, winsorised at 1 sd": (0.018, 0.004, 0.500, 0.000),
    "bump": (0.005, 0.039, 0.040, 0.020),
    "comb": (0.079, 0.185, 0.175, 0.101),
}


@examples
@pytest.mark.parametrize("game", GAMES)
def test_games_score_up_to_two_and_a_half_times_the_oracle(game: str, examples: int) -> None:
    *expected, deviation = GAME_QUALITY[game]
    for sd, value in zip((0.3, 1, 3), expected, strict=True):
        row = quality(GAMES[game], sd=sd, examples=examples)
        assert_near(row, value, spread=deviation / expected[-1])


# ---- alarms -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sd", [0.3, 1, 3])
def test_every_game_fires_an_alarm_at_every_spread_and_the_oracle_none(sd: float) -> None:
    of = null(sd)
    assert not game_alarms(oracle, of, sd=sd)
    silent = [name for name, draw in GAMES.items() if not game_alarms(draw, of, sd=sd)]
    assert not silent


@pytest.mark.slow
@pytest.mark.parametrize("sd", [0.3, 1, 3])
def test_the_oracle_fires_no_alarm_in_95_of_100_draws(sd: float) -> None:
    found = false_alarms(sd)
    assert found["quiet"] >= 0.95, found


@pytest.mark.slow
@pytest.mark.parametrize("n", [42, 64])
def test_retrained_digits_models_fire_no_alarm_in_95_of_100_draws(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    found = false_alarms_on("digits", n=n)
    assert found["quiet"] >= 0.95, found


def test_retrained_digits_models_are_coupled_as_others_are(tmp_path: Path) -> None:
    assert of_retrained(harness.open_track("digits", home=tmp_path))["fired"] <= 1


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_a_lookup_file_is_a_submission_that_says_too_much(directions: int, tmp_path: Path) -> None:
    source = lookup_source(harness.open_track("digits", home=tmp_path), directions)
    submission = submission_of(tmp_path / "lookup.py", source.encode(), source_kb=256)
    assert submission.problems == ()
    assert [alarm.name for alarm in of_file(**vars(submission.information))] == ["data in the file"]


# ---- intervals and comparisons ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 64])
def test_intervals_hold_what_they_should_in_nine_of_ten_of_200_pools(n: int) -> None:
    """Of models that share much and are a little off, whose scores vary more than half-samples show."""
    found = coverage(correlation=0.5, n=n)["coverage"]
    assert min(found.values()) >= 0.85, found
    assert np.mean([*found.values()]) >= 0.90, found


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "lowest", "highest"), [(0.25, 0, 0.10), (0.35, 0.4, 0.8), (0.5, 0.97, 1)])
def test_comparisons_call_equal_submissions_different_rarely_and_unequal_ones_often(
    shift: float, lowest: float, highest: float
) -> None:
    found = separation(shift)["called_different"]
    assert lowest <= found["permutation"] <= highest, found
