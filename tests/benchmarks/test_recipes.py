"""Recipes of 2023 beside fine-tuning: ranges of tuning fit the files, and verdicts follow from intervals."""

from typing import Any

import pytest

from benchmarks.pages import ROOT
from benchmarks.published import CHALLENGE
from benchmarks.recipes import BESIDE, RANGES, claims, ratio
from harness.submission import constants_of, read_submission
from harness.tuning.ranges import draw, ranges_of

TRIALS = 8


def test_every_recipe_that_was_published_is_asked() -> None:
    assert set(RANGES) == set(CHALLENGE) == set(BESIDE)
    assert {len(ranges) for ranges in RANGES.values()} == {3}


@pytest.mark.parametrize("name", RANGES)
def test_ranges_are_of_constants_that_the_file_has(name: str) -> None:
    constants = constants_of(read_submission(ROOT / "baselines" / f"{name}.py", source_kb=256))
    settings = draw(ranges_of(constants, RANGES[name], ()), constants, seed=0, trials=TRIALS)
    assert len(settings) == TRIALS
    assert set(BESIDE[name]) <= set(constants)


def test_a_ratio_of_scores_has_an_interval_where_both_have_one() -> None:
    times = ratio(scored(0.10, 0.01), scored(0.05, 0.01), 64)
    assert times is not None
    assert times.text() == "2.00 (1.60 to 2.50)"
    assert ratio({"score": None}, scored(0.05, 0.01), 64) is None


def scored(score: float, reach: float) -> dict[str, Any]:
    return {"score": score, "score_interval": [score - reach, score + reach]}


def test_recipes_beat_fine_tuning_if_the_whole_interval_of_each_ratio_does() -> None:
    rows = {name: {"published": scored(0.10, 0.01), "tuned": scored(0.10, 0.05)} for name in RANGES}
    rows["finetune"] = {name: scored(0.05, 0.01) for name in ("published", "beside")} | {"tuned": scored(0.09, 0.02)}
    rows["challenge_1st_contrastive"]["published"] = scored(0.02, 0.005)
    rows["challenge_2nd_gradient_reinit"]["tuned"] = {"score": None}
    said = [(str(claim.verdict), claim.found) for claim in claims({"rows": rows, "runs": 64})]
    published = ("refuted", "holds for 7, refuted for 1")
    assert said == [published, published, ("undecided", "undecided for 7")]
