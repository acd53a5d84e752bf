"""Every game of the specification's table raises an alarm, honest runs raise none as a rule."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import games
from benchmarks.alarms import honest
from benchmarks.games import GAMES
from harness.scoring.alarms import (
    MAX_CODE,
    MAX_LITERALS,
    TO_NEW_MODELS,
    Behaviour,
    Null,
    Standing,
    alarms,
    null_of,
    of_file,
)
from harness.scoring.coupling import coupling, similarities

N, EXAMPLES, SD = 128, 60, 3.0
AT_CEILING = Standing(above_ceiling=0.0, standard_error=0.1, p_values=(0.4, 0.6))
EXPECTED = {
    "winsorised at 2 sd": "leak",
    "winsorised at 1.5 sd": "leak",
    "winsorised at 1 sd": "leak",
    "truncated at 2 sd": "leak",
    "stratified": "fit",
    "stratified, winsorised at 1.5 sd": "leak",
    "stratified, winsorised at 1 sd": "leak",
    "bump": "window",
    "comb": "ties",
}


def oracle(generator: np.random.Generator) -> np.ndarray:
    return games.oracle(generator, N, EXAMPLES, SD)


@pytest.fixture(scope="module")
def null() -> Null:
    generator = np.random.default_rng(0)
    return null_of(oracle(generator), oracle(generator), val_advantage=generator.normal(0, 0.01, 2 * N))


def names(runs: Behaviour, null: Null, generator: np.random.Generator) -> set[str]:
    return {alarm.name for alarm in alarms(runs, oracle(generator), null, AT_CEILING)}


@pytest.mark.parametrize(("game", "expected"), EXPECTED.items())
def test_a_game_raises_an_alarm(game: str, expected: str, null: Null) -> None:
    generator = np.random.default_rng(1)
    assert expected in names(honest(GAMES[game](generator, N, EXAMPLES, SD), generator), null, generator)


def false_alarms(null: Null, draws: int) -> float:
    generator = np.random.default_rng(2)
    return float(np.mean([bool(names(honest(oracle(generator), generator), null, generator)) for _ in range(draws)]))


def test_retrained_models_raise_none_as_a_rule(null: Null) -> None:
    assert false_alarms(null, 20) <= 0.1


def test_weights_that_do_not_change_or_repeat_are_said_so(null: Null) -> None:
    generator = np.random.default_rng(3)
    runs = honest(oracle(generator), generator)
    still = Behaviour(**{**vars(runs), "distance": np.zeros(N), "weights": np.array(["a", "b"] * (N // 2))})
    assert {"weights unchanged", "runs identical"} <= names(still, null, generator)
    assert "weights unchanged" not in names(runs, null, generator)


def test_training_on_val_shows_in_its_accuracy(null: Null) -> None:
    generator = np.random.default_rng(4)
    runs = honest(oracle(generator), generator)
    trained = Behaviour(**{**vars(runs), "val_accuracy": np.full(N, 1.0)})
    assert "val accuracy" in names(trained, null, generator)


def test_runs_that_depend_on_the_run_before_are_noticed(null: Null) -> None:
    generator = np.random.default_rng(5)
    sides = np.where(np.arange(N) % 2, 1.0, -1.0)[:, None]  # antithetic pairs
    antithetic = honest(sides * np.abs(generator.normal(2, 1, (N, 1))) + oracle(generator), generator)
    assert "run dependence" in names(antithetic, null, generator)


@pytest.mark.parametrize("n_originals", [2, 4, 8])
def test_runs_of_originals_in_turns_do_not_depend_on_one_another(null: Null, n_originals: int) -> None:
    """What a gentle method leaves of its original comes back with every turn; runs added later count anew."""
    generator = np.random.default_rng(6)
    original = np.arange(N) % n_originals
    of_original = 3 * generator.standard_normal((n_originals, 1))[original]
    runs = replace(honest(of_original + oracle(generator), generator), original=original)
    assert "run dependence" not in names(runs, null, generator)
    assert "run dependence" not in names(replace(runs, order=np.arange(N) % 16), null, generator)


def test_a_score_beyond_the_ceiling_is_an_alarm_only_beyond_its_noise(null: Null) -> None:
    generator = np.random.default_rng(6)
    runs = honest(oracle(generator), generator)

    def raised(value: float) -> bool:
        found = alarms(runs, oracle(generator), null, replace(AT_CEILING, above_ceiling=value))
        return "above ceiling" in {alarm.name for alarm in found}

    assert raised(0.3)
    assert not raised(0.15)


def test_outputs_that_do_not_depend_on_the_forget_set_are_noticed(null: Null) -> None:
    generator = np.random.default_rng(8)
    runs = honest(oracle(generator), generator)
    name = "same output for another forget set"
    assert name in names(replace(runs, change_under_swap=0.0), null, generator)
    assert name not in names(replace(runs, change_under_swap=0.01), null, generator)
    assert name not in names(replace(runs, change_under_swap=None), null, generator)


def test_matching_only_what_is_scored_is_noticed_at_the_ceiling_and_left_alone_below_it(null: Null) -> None:
    generator = np.random.default_rng(9)
    runs = honest(oracle(generator), generator)

    def raised(above_ceiling: float, p_value: float) -> bool:
        found = alarms(runs, oracle(generator), null, Standing(above_ceiling, 0.1, (0.5, p_value)))
        return "margin-only matching" in {alarm.name for alarm in found}

    assert raised(-0.1, 0.005)
    assert not raised(-0.1, 0.01)
    assert not raised(-0.5, 0.005)  # any method that does not reach the ceiling is told apart from retraining


def test_less_spread_than_retraining_is_no_game(null: Null) -> None:
    generator = np.random.default_rng(7)
    runs = honest(0.7 * oracle(generator), generator)
    assert not names(runs, null, generator) & {"window", "ties", "fit"}


def test_models_that_repeat_themselves_by_nature_are_compared_with_their_kind() -> None:
    """Forests answer in shares of their trees, so that outputs of theirs repeat whoever made them."""
    generator = np.random.default_rng(11)

    def forests(trees: int) -> np.ndarray:
        return (
            np.round(generator.uniform(0.3, 0.7, (N, 1)) * trees + generator.normal(0, trees / 4, (N, EXAMPLES)))
            / trees
        )

    def raised(runs: np.ndarray) -> bool:
        found = alarms(honest(runs, generator), scoring, of, AT_CEILING)
        return "ties" in {alarm.name for alarm in found}

    scoring, others = forests(400), forests(400)
    of = null_of(scoring, others, val_advantage=generator.normal(0, 0.01, 2 * N))
    assert of.mean["ties"] > 0.05
    assert not any(raised(forests(400)) for _ in range(20))
    assert raised(forests(300))


def test_a_statistic_of_one_side_varies_over_new_models_as_its_bound_allows_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Splits of two pools share their models: over them such a statistic varies less, and about a mean of its own."""
    monkeypatch.setattr("harness.scoring.alarms.STATISTICS", {})  # those of two sides take time
    generator = np.random.default_rng(12)
    from_null = []
    for _ in range(60):
        pools = outputs_of_models(generator, 2 * MODELS)
        alike = similarities(pools[0]), similarities(pools[1])
        of = null_of(*np.split(pools[0][..., 0], 2), val_advantage=np.zeros(MODELS), similar=alike)
        new = coupling(*(similarities(side) for side in outputs_of_models(generator, MODELS)))
        from_null.append((new - of.mean["coupling"]) / of.deviation["coupling"])
    assert np.std(from_null) == pytest.approx(TO_NEW_MODELS, rel=0.3)


def test_a_file_that_holds_more_than_a_method_is_an_alarm_beyond_its_bounds_alone() -> None:
    assert of_file(MAX_LITERALS, MAX_CODE) == []
    for literals, code, what in ((MAX_LITERALS + 1, 0, "texts in the file"), (0, MAX_CODE + 1, "the code takes")):
        (alarm,) = of_file(literals, code)
        assert alarm.name == "data in the file"
        assert what in alarm.message
        assert alarm.value == alarm.bound + 1


MODELS = 32  # of each kind; outputs of 20 and of 60 examples, 5 classes


def outputs_of_models(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits on two sets of models that differ in a few ways, which all examples see in some degree."""
    ways = generator.normal(size=(n, 6))
    seen = np.random.default_rng(0).normal(size=(6, 80, 5))
    logits = np.tensordot(ways, seen, 1) + 0.5 * generator.normal(size=(n, 80, 5))
    return logits[:, :20], logits[:, 20:]


def test_outputs_drawn_for_the_forget_set_alone_are_noticed_where_they_score_well() -> None:
    generator = np.random.default_rng(10)
    pools = outputs_of_models(generator, 2 * MODELS)
    confidences = pools[0][..., 0]
    of = null_of(
        *np.split(confidences, 2),
        val_advantage=generator.normal(0, 0.01, MODELS),
        similar=(similarities(pools[0]), similarities(pools[1])),
    )

    def raised(forget: np.ndarray, test: np.ndarray, above_floor: float = 0.5) -> bool:
        found = coupling(similarities(forget), similarities(test))
        runs = replace(honest(forget[..., 0], generator), coupling=found)
        standing = replace(AT_CEILING, above_floor=above_floor)
        return "forget set apart" in {alarm.name for alarm in alarms(runs, confidences[:MODELS], of, standing)}

    for _ in range(10):
        forget, test = outputs_of_models(generator, MODELS)
        apart, _ = outputs_of_models(generator, MODELS)  # a joint draw, yet not that of these models
        assert not raised(forget, test)
        assert not raised(2 * forget + 3, test)  # as far off as may be, the models are whole
        assert raised(apart, test)
        assert raised(0.8 * apart + 0.2 * forget, test)
        assert not raised(apart, test, above_floor=-0.1)
