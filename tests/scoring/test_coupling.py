"""Whether models differ on two sets of examples in the same ways: bounds, invariances, no bias."""

import numpy as np
import pytest

from harness.scoring.coupling import coupling, similarities

N = 24


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 30, 4))


def test_a_set_is_coupled_with_itself_whatever_its_scale_its_constants_and_its_turns(logits: np.ndarray) -> None:
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 30)))[0]
    turned = np.einsum("nec,ef->nfc", logits, turn)
    per_example = np.random.default_rng(2).normal(size=(N, 30, 1))  # added to all logits of an example
    for other in (logits, 3 * logits + 5, turned, logits + logits.mean(axis=0), logits + per_example):
        assert coupling(similarities(logits), similarities(other)) == pytest.approx(1)


def test_sets_that_have_nothing_in_common_come_out_at_0_in_the_mean(logits: np.ndarray) -> None:
    generator = np.random.default_rng(3)
    found = [coupling(similarities(logits), similarities(generator.normal(size=(N, 50, 4)))) for _ in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_the_order_of_models_is_what_couples_them(logits: np.ndarray) -> None:
    order = np.random.default_rng(4).permutation(N)
    first, second = similarities(logits), similarities(logits[order])
    assert coupling(first, second) < 0.5
    assert coupling(first[np.ix_(order, order)], second) == pytest.approx(1)


def test_models_that_are_all_the_same_are_coupled_with_nothing(logits: np.ndarray) -> None:
    same = similarities(np.zeros_like(logits))
    assert coupling(same, similarities(logits)) == 0


def test_the_fewest_models_have_a_coupling(logits: np.ndarray) -> None:
    few = similarities(logits[:4])
    assert coupling(few, few) == pytest.approx(1)


def test_a_net_that_was_destroyed_is_no_reason_to_overflow(logits: np.ndarray) -> None:
    logits = logits.astype(np.float32)
    for other in (logits * np.float32(1e36), logits + np.float32(1e30) * (np.arange(N) == 3)[:, None, None]):
        assert np.isfinite(coupling(similarities(other), similarities(logits)))
