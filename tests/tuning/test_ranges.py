"""Ranges and the settings that are drawn from them; what cannot be a range is asked of the command line."""

import math

import pytest

from harness.constants import Constant, constants_in
from harness.errors import UsageError
from harness.source_text import parsed
from harness.tuning.ranges import Choices, Span, draw, ranges_of, seed_of

FILE = """
EPOCHS = 5
LEARNING_RATE: float = 1e-1
MOMENTUM = 0.9
NEAR = 0.9999
NEARER = 1 - 1e-14
SHARE = 9 / 28
SCALED = 1e-3 * 256 / 64
TEMPERATURE = 4.0
BATCHES = 2 ** 6
ONCE, NEVER, BACK, STRANGE = 1, 0, -0.5, 3  # names of a tuple are no constants
N_RESET = 1
OFFSET = -0.5
NOTHING = 0.0
MODE = "eval"
PENALTY = True
RATES = (0.1, 0.2)
LATER = max(1, 2)
ENDLESS = 1e999
ROOT = (-1) ** 0.5
BY_NOTHING = 1 / 0
lower = 3
"""
CONSTANTS = constants_in(parsed(FILE))


def test_constants_are_read_as_numbers_where_they_are_such() -> None:
    numbers = {name: constant.number for name, constant in CONSTANTS.items() if constant.number is not None}
    assert numbers == {
        "EPOCHS": 5,
        "LEARNING_RATE": 0.1,
        "MOMENTUM": 0.9,
        "NEAR": 0.9999,
        "NEARER": 1 - 1e-14,
        "SHARE": 9 / 28,
        "SCALED": 0.004,
        "TEMPERATURE": 4.0,
        "BATCHES": 64,
        "N_RESET": 1,
        "OFFSET": -0.5,
        "NOTHING": 0.0,
    }
    assert {name for name, number in numbers.items() if isinstance(number, int)} == {"EPOCHS", "BATCHES", "N_RESET"}
    assert set(CONSTANTS) - set(numbers) == {"MODE", "PENALTY", "RATES", "LATER", "ENDLESS", "ROOT", "BY_NOTHING"}
    assert CONSTANTS["MODE"].text == "'eval'"


def test_without_a_range_every_positive_number_has_its_usual_one() -> None:
    assert {name: str(span) for name, span in ranges_of(CONSTANTS, {}, ["TEMPERATURE"]).items()} == {
        "EPOCHS": "2:10:log",
        "LEARNING_RATE": "0.01:1.0:log",
        "MOMENTUM": "0.8:1.0",
        "NEAR": "0.9998:1.0",
        "SHARE": "0.0321:1.0:log",
        "SCALED": "0.0004:0.04:log",
        "BATCHES": "32:128:log",
    }


def test_ranges_that_are_asked_for_are_the_only_ones_in_the_order_of_the_file() -> None:
    asked = {"MODE": "train, eval", "OFFSET": "-1:1", "EPOCHS": "1:9"}
    assert ranges_of(CONSTANTS, asked, []) == {
        "EPOCHS": Span(1, 9, is_whole=True, is_log=False),
        "OFFSET": Span(-1.0, 1.0, is_whole=False, is_log=False),
        "MODE": Choices(("'train'", "'eval'")),
    }


def test_a_share_below_one_stays_below_it_however_it_is_rounded() -> None:
    for low in (0.8, 0.01):
        assert 0.99 < float(Span(low, 1.0, is_whole=False, is_log=low == 0.01).at(0.99999)) < 1


@pytest.mark.parametrize("span", [Span(2, 9, True, True), Span(-2, 3, True, False)])
def test_a_whole_range_has_whole_numbers_its_ends_included(span: Span) -> None:
    found = [int(span.at(step / 1000)) for step in range(1000)]
    assert set(found) == set(range(int(span.low), int(span.high) + 1))


@pytest.mark.parametrize(
    "span", [Span(1e-5, 0.12345, False, True), Span(-1.0, 1.0, False, False), Span(0.9998, 1.0, False, False)]
)
def test_numbers_lie_between_the_ends_and_are_short(span: Span) -> None:
    found = [span.at(step / 1000) for step in range(1000)]
    assert all(span.low <= float(text) <= span.high for text in found)
    assert max(map(len, found)) < 9
    assert len(set(found)) > 190
    middle = math.sqrt(span.low * span.high) if span.is_log else (span.low + span.high) / 2
    assert sum(float(text) < middle for text in found) == pytest.approx(500, abs=5)


def test_trials_are_different_repeat_and_go_on_where_fewer_ended() -> None:
    ranges, seed = ranges_of(CONSTANTS, {"EPOCHS": "1:4", "MODE": "train,eval"}, []), seed_of(CONSTANTS)
    few, many = (draw(ranges, CONSTANTS, seed=seed, trials=trials) for trials in (3, 8))
    assert few[0] == {}
    assert many[:3] == few
    assert len({tuple(sorted(settings.items())) for settings in many}) == 8
    assert draw(ranges, CONSTANTS, seed=seed + 1, trials=8) != many
    wider = draw(ranges_of(CONSTANTS, {"EPOCHS": "1:40", "MODE": "train,eval"}, []), CONSTANTS, seed=seed, trials=3)
    assert [settings["MODE"] for settings in wider[1:]] == [settings["MODE"] for settings in few[1:]]


def test_the_seed_follows_from_the_constants() -> None:
    other = {**CONSTANTS, "EPOCHS": Constant("6", 6)}
    assert seed_of(CONSTANTS) == seed_of(dict(reversed(CONSTANTS.items()))) != seed_of(other)


def test_the_file_as_it_is_is_not_drawn_again_and_ranges_may_hold_too_few_settings() -> None:
    ranges = ranges_of(CONSTANTS, {"EPOCHS": "4:6"}, [])
    assert {settings.get("EPOCHS") for settings in draw(ranges, CONSTANTS, seed=0, trials=3)} == {None, "4", "6"}
    with pytest.raises(UsageError, match=r"gave 3 different settings, that of the file included; .*--trials 3"):
        draw(ranges, CONSTANTS, seed=0, trials=4)
