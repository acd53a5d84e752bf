"""The spread of runs over forget sets, originals and repetitions."""

from typing import Any

import numpy as np
import pytest

from harness.evaluation.score_file import ScoreFile
from harness.report.tables import sibling_table
from harness.scoring.spread import Spread, spread


def drawn(of_sets: float, of_originals: float, of_runs: float, *, n: int = 12, seed: int = 0) -> Spread:
    """Return the spread found among n x n x n runs of effects with these standard deviations."""
    generator = np.random.default_rng(seed)
    sets, originals = np.divmod(np.arange(n * n * n) // n, n)
    effects = [scale * generator.standard_normal(n) for scale in (of_sets, of_originals)]
    values = effects[0][sets] + effects[1][originals] + of_runs * generator.standard_normal(n**3)
    order = generator.permutation(n**3)
    return spread(values[order], sets[order], originals[order])


@pytest.mark.parametrize("effects", [(2.0, 1.0, 0.5), (0.5, 2.0, 1.0), (1.0, 0.5, 2.0)])
def test_each_effect_is_found_at_its_size(effects: tuple[float, float, float]) -> None:
    found = [drawn(*effects, seed=seed) for seed in range(20)]
    for name, effect in zip(("forget_sets", "originals", "runs"), effects, strict=True):
        squares = [getattr(one, name) ** 2 for one in found]
        assert np.sqrt(np.mean(squares)) == pytest.approx(effect, rel=0.25)


def test_effects_that_are_not_there_are_small_beside_those_that_are() -> None:
    found = drawn(0.0, 0.0, 1.0)
    assert found.runs == pytest.approx(1.0, rel=0.1)
    assert found.forget_sets is not None
    assert found.forget_sets < 0.1
    assert found.originals is not None
    assert found.originals < 0.2


def test_what_the_runs_cannot_tell_is_unknown() -> None:
    zeros, values = np.zeros(4, int), np.array([1.0, 2.0, 3.0, 4.0])
    assert spread(values, zeros, np.arange(4)) == Spread(None, None, None)
    one_original = spread(values, zeros, zeros)
    assert one_original.originals is None
    assert one_original.forget_sets is None
    assert one_original.runs == pytest.approx(np.std(values, ddof=1))


def test_a_deterministic_method_has_no_spread_over_runs() -> None:
    found = spread(np.array([1.0, 1.0, 3.0, 3.0]), np.zeros(4, int), np.array([0, 0, 1, 1]))
    assert found.runs == 0.0
    assert found.originals == pytest.approx(np.sqrt(2))


def test_scores_on_siblings_stand_beside_each_other_with_mean_and_spread() -> None:
    ratios: dict[str, Any] = {"forgetting_quality": 0.1, "retain_ratio": 1.0, "test_ratio": 1.0, "n_runs": 64}
    table = sibling_table(
        [
            ScoreFile.model_construct(None, track="mine-0", score=0.1, calibrated_score=0.5, **ratios),
            ScoreFile.model_construct(None, track="mine-1", score=None, calibrated_score=0.7, **ratios),
        ]
    )
    dash = "\N{EN DASH}"
    assert [list(row[:3]) for row in table.rows] == [
        ["mine-0", "0.500", "0.100"],
        ["mine-1", "0.700", dash],
        ["mean", "0.600", dash],
        ["standard deviation", "0.141", dash],
    ]
    assert {len(row) for row in table.rows} == {len(table.header)}
