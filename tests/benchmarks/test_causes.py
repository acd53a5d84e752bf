"""Why the recipes gain less than in 2023: tracks differ in one thing, and verdicts follow from factors."""

from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from benchmarks.causes import RECIPES, TRACKS, causes, changed, claims, figure, sides
from benchmarks.pages import ROOT
from harness.tracks.declaration import Declaration, read_declaration

SMALL = ROOT / "data_prep" / "tracks" / "cifar10-small.toml"
ONLY = {  # what differs, beside names and titles
    "share": {"forget": {"count": 160}},
    "scale": {"split": {"train": 4000}, "forget": {"count": 400}, "training": {"epochs": 280}},
}


@pytest.mark.parametrize("name", TRACKS)
def test_a_track_differs_from_cifar10_small_in_its_cause_alone(name: str) -> None:
    small, other = read_declaration(SMALL), read_declaration(TRACKS[name])
    changes: dict[str, Any] = {"name": other.name, "title": other.title}
    for section, values in ONLY[name].items():
        changes[section] = getattr(small, section).model_copy(update=values)
    assert other == small.model_copy(update=changes)
    assert steps(other) == steps(small)


def steps(declaration: Declaration) -> float:
    """Return what steps are in proportion to."""
    assert declaration.split.train is not None
    return declaration.training.epochs * declaration.split.train


def rows(recipes: float, fine_tuning: float, *, reach: float = 0.01, more_passes: float = 0.05) -> dict[str, Any]:
    """Scores of all files; the Kaggle starter's fine-tuning gets twice as much as the starting kit's."""
    of_fine_tuning = {"published": scored(fine_tuning, reach), "beside": scored(2 * fine_tuning, reach)}
    of_recipes = {name: {"published": scored(recipes, reach), "beside": scored(more_passes, reach)} for name in RECIPES}
    return {"finetune": of_fine_tuning, **of_recipes}


def scored(score: float, reach: float) -> dict[str, Any]:
    return {"score": score, "score_interval": [score - reach, score + reach], "floor": 0.02, "ceiling": 0.2}


def measured(share: dict[str, Any]) -> Any:
    return causes({"rows": rows(0.05, 0.04)}, {"rows": {"share": {"files": share}}})


def test_only_causes_with_a_result_are_told_of() -> None:
    assert list(causes({"rows": rows(0.05, 0.04)}, {"rows": {}})) == ["steps"]
    assert list(measured(rows(0.05, 0.04))) == ["steps", "share"]
    scale = causes({"rows": rows(0.05, 0.04)}, {"rows": {"scale": {"files": rows(0.06, 0.04)}}})["scale"]
    assert scale.after.rows["finetune"]["published"]["score"] == 0.04
    assert [side.name for side in (scale.before, scale.after)] == ["4,000 images", "`cifar10-small`"]


def test_a_factor_is_of_multiples_of_fine_tuning() -> None:
    share = measured(rows(0.15, 0.06))["share"]
    assert changed(share, "published").mean == pytest.approx((0.15 / 0.06) / (0.05 / 0.04))
    assert changed(share, "beside").mean == pytest.approx((0.15 / 0.12) / (0.05 / 0.08))


def test_the_error_of_a_mean_falls_with_recipes_and_that_of_fine_tuning_counts_unless_it_is_the_same() -> None:
    """Eight recipes with a relative reach of 0.2 have one of 0.2 / sqrt(8) together; fine-tuning has 0.25."""
    found = measured(rows(0.05, 0.04))
    both = np.hypot(0.2 / 8**0.5, 0.25)
    share, steps = changed(found["share"], "published"), changed(found["steps"], "published")
    assert share.high == pytest.approx(np.exp(2**0.5 * both))
    assert steps.high == pytest.approx(np.exp(2**0.5 * 0.2 / 8**0.5))
    assert share.low == pytest.approx(1 / share.high)


def test_verdicts_follow_from_the_intervals() -> None:
    said = claims(measured(rows(0.15, 0.04, reach=0.001)))
    assert [str(claim.verdict) for claim in said] == ["undecided", "holds", "holds"]
    assert (
        said[1].claim == "share: 2 % instead of 10 % to forget favour the recipes over fine-tuning of the starting kit"
    )
    assert said[1].found.endswith("times as much: 3.75 after 1.25")
    assert [str(claim.verdict) for claim in claims(measured(rows(0.02, 0.04, reach=0.001)))][1:] == [
        "refuted",
        "refuted",
    ]


def test_a_recipe_without_a_score_counts_as_nothing() -> None:
    share = rows(0.05, 0.04)
    share[RECIPES[0]]["published"] |= {"score": None, "score_interval": None}
    found = measured(share)
    assert changed(found["share"], "published").mean == pytest.approx(7 / 8)
    (axes,) = figure(found).axes
    drawn = [one.lines[0].get_xydata() for one in axes.containers if isinstance(one, ErrorbarContainer)]
    assert [len(np.asarray(one)) for one in drawn] == [8, 8, 7]
    assert [side.name for side in sides(found)] == ["`cifar10-small`", "more passes", "2 % to forget"]
