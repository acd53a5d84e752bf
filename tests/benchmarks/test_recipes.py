"""Recipes of 2023 beside fine-tuning: ranges of tuning fit the files, and verdicts follow from intervals."""

from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from benchmarks.pages import ROOT
from benchmarks.published import CHALLENGE
from benchmarks.recipes import BESIDE, RANGES, cells, claims, figure, ratio
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
    interval = [score - reach, score + reach]
    ends = {"floor": 0.06, "ceiling": 0.2}
    return {"settings": {}, "outcome": "OK", "score": score, "score_interval": interval, **ends}


FAILED = {"settings": None, "outcome": "no trial has a score", "score": None}


@pytest.fixture
def found() -> dict[str, Any]:
    """A result in which fine-tuning gets 0.05, and 0.09 where it is tuned; recipes get 0.10."""
    rows = {name: dict.fromkeys(("published", "beside", "tuned"), scored(0.10, 0.01)) for name in RANGES}
    rows["finetune"] = dict.fromkeys(("published", "beside"), scored(0.05, 0.01)) | {"tuned": scored(0.09, 0.02)}
    counts = {"runs": 64, "trials": 6, "runs_of_a_trial": 8}
    return {"rows": rows, "images": "faces", "machine": "two cores", "torch": "2", "device": "cpu", **counts}


def test_all_recipes_have_to_beat_fine_tuning(found: dict[str, Any]) -> None:
    said = [(str(claim.verdict), claim.found) for claim in claims(found)]
    assert said == [("holds", "holds for 8"), ("holds", "holds for 8"), ("undecided", "undecided for 8")]
    found["rows"]["challenge_1st_contrastive"]["published"] = scored(0.02, 0.005)
    assert str(claims(found)[0].verdict) == "refuted"
    assert claims(found)[0].found == "holds for 7, refuted for 1"


def test_a_recipe_without_a_score_does_not_beat_fine_tuning(found: dict[str, Any]) -> None:
    found["rows"]["challenge_1st_contrastive"]["published"] = FAILED
    claim = claims(found)[0]
    assert (str(claim.verdict), claim.found) == ("refuted", "holds for 7, refuted for 1, 1 of those without a score")


def test_nothing_is_claimed_where_fine_tuning_has_no_score(found: dict[str, Any]) -> None:
    found["rows"]["finetune"]["tuned"] = FAILED
    found["rows"]["finetune"]["beside"] = scored(0.0, 0.0)
    assert [claim.claim.partition(" of ")[2] for claim in claims(found)] == [
        "the starting kit, both at their published settings"
    ]


def test_a_claim_on_all_recipes_waits_for_all_of_them(found: dict[str, Any]) -> None:
    del found["rows"]["challenge_8th_reinit_distill"]
    claim = claims(found)[0]
    assert (str(claim.verdict), claim.found) == ("undecided", "holds for 7, 1 not measured yet")
    assert claims(found | {"rows": {}}) == []


def test_eight_chances_are_corrected_for(found: dict[str, Any]) -> None:
    """Ratios of 1.35 with a p of 0.025 each would be significant alone."""
    rows = found["rows"]
    for name in rows:
        rows[name]["published"] = scored(0.10, 1e-6) if name != "finetune" else scored(0.074, 0.0194)
    times = ratio(rows["challenge_1st_contrastive"]["published"], rows["finetune"]["published"], 64)
    assert times is not None
    assert times.low > 1
    assert str(claims(found)[0].verdict) == "undecided"


def test_the_table_says_why_there_is_no_score(found: dict[str, Any]) -> None:
    found["rows"]["challenge_1st_contrastive"]["tuned"] = FAILED
    found["rows"]["challenge_2nd_gradient_reinit"]["beside"] = scored(0.1, 0.01) | {"score": None}
    found["rows"]["challenge_3rd_stem_noise"]["tuned"] |= {"settings": {"NOISE_STD": "0.5"}}
    first, second, third = (cells(name, found) for name in list(RANGES)[1:4])
    assert first[6:] == ["no trial has a score", "", "none"]
    assert second[5] == "withheld"
    assert second[-1] == "published ones"
    assert third[-1] == "NOISE_STD 0.5"
    assert third[3] == "2.00 (1.60 to 2.50), **holds**"
    assert cells("finetune", found)[3:6] == ["", "", ""]


def test_the_figure_has_every_score_and_both_ends(found: dict[str, Any]) -> None:
    found["rows"]["challenge_1st_contrastive"]["tuned"] = FAILED
    (axes,) = figure(found).axes
    published, tuned = (one for one in axes.containers if isinstance(one, ErrorbarContainer))
    assert [np.shape(one.lines[0].get_xydata())[0] for one in (published, tuned)] == [9, 8]
    assert {"doing nothing", "retraining"} < set(axes.get_legend_handles_labels()[1])
