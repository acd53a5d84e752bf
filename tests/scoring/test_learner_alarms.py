"""Learners' own models: honest ones raise no alarm, those of a train that knows or behaves otherwise do."""

import numpy as np
import pytest

from harness.scoring.learners import certificate_bound, of_originals, of_reference

N, N_TEST = 32, 200


def models(generator: np.random.Generator, n: int, accuracy: float, spread: float = 1.0) -> np.ndarray:
    """Return accuracies and confidences of n models on a test set."""
    confidences = 3 + spread * generator.standard_normal((n, N_TEST))
    return np.column_stack([accuracy + 0.01 * generator.standard_normal(n), confidences])


def recipe(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies of originals and of retrained models, which lose one point."""
    return 0.95 + 0.01 * generator.standard_normal(8), 0.94 + 0.01 * generator.standard_normal(128)


def test_originals_that_learned_the_forget_set_raise_no_alarm() -> None:
    raised = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        difficulty = generator.standard_normal(500)
        learned = 5 + difficulty + generator.standard_normal((N, 500))
        raised += len(of_originals(learned[:, :50], learned[:, 50:]))
    assert raised <= 1


@pytest.mark.parametrize("n_forget", [50, 250, 400])
def test_false_alarms_do_not_grow_with_the_share_forgotten(n_forget: int) -> None:
    raised = 0
    for seed in range(20):
        learned = np.random.default_rng(seed).standard_normal((1, 500))
        raised += len(of_originals(learned[:, :n_forget], learned[:, n_forget:]))
    assert raised <= 1


def test_originals_that_did_not_learn_the_forget_set_do() -> None:
    generator = np.random.default_rng(0)
    learned = 5 + generator.standard_normal((N, 500))
    (alarm,) = of_originals(learned[:, :50] - 1, learned[:, 50:])
    assert alarm.name == "blind original"
    assert alarm.value < alarm.bound


@pytest.mark.parametrize("lost", [0.0, 0.01, 0.02])
def test_retrained_models_that_lose_about_what_the_recipe_loses_raise_no_alarm(lost: float) -> None:
    raised = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        expected = recipe(generator)
        raised += len(
            of_reference(models(generator, N, 0.9), models(generator, 2 * N, 0.9 - lost), expected, seed=seed)
        )
    assert raised <= 1


@pytest.mark.parametrize(("accuracy", "spread"), [(0.8, 1.0), (0.9, 0.3), (0.9, 3.0)])
def test_retrained_models_of_another_training_do(accuracy: float, spread: float) -> None:
    generator = np.random.default_rng(0)
    expected = recipe(generator)
    (alarm,) = of_reference(models(generator, N, 0.9), models(generator, 2 * N, accuracy, spread), expected)
    assert alarm.name == "odd reference"


@pytest.mark.parametrize(("spread", "other", "raised"), [(0.0, 0.0, 0), (0.0, 1.0, 1), (1.0, 0.0, 1)])
def test_trainings_without_chance_have_no_spread_and_raise_no_alarm(spread: float, other: float, raised: int) -> None:
    generator = np.random.default_rng(0)
    originals, retrained = (models(generator, N, 0.9, each) for each in (spread, other))
    found = of_reference(originals, retrained, recipe(generator))
    assert len(found) == raised
    assert all(np.isfinite(alarm.value) for alarm in found)


def test_a_certificate_is_refuted_by_models_that_are_told_apart_and_by_no_others() -> None:
    bounds = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        unlearned, retrained = generator.standard_normal((2, 64, 20))
        bounds.append(certificate_bound(unlearned, retrained, 1e-5, seed=seed))
    assert np.mean(np.array(bounds) > 0) <= 0.1
    apart = generator.standard_normal((64, 20)), 9 + generator.standard_normal((64, 20))
    assert 1.5 < certificate_bound(*apart, 1e-5) < 3
    assert certificate_bound(*apart, 0.5) < certificate_bound(*apart, 1e-5)
