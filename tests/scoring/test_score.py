"""From outputs to a score: what `evaluate` computes of records and `harness score` of anyone's arrays."""

from typing import Any

import numpy as np
import pytest

from harness.scoring.arrays import confidences, score_arrays
from harness.scoring.official import example_epsilons, forgetting_quality, logit_scaled_confidence
from harness.scoring.score import Outputs, calibrated_score, score

LABELS_SEED = 3


def logits_of(confidence: np.ndarray) -> np.ndarray:
    """Return logits (n, n_examples, 2) whose class 0 has the given confidences (n, n_examples)."""
    return np.stack([confidence, np.zeros_like(confidence)], axis=-1)


def outputs(confidence: np.ndarray, *, retain: float = 0.9, test: float = 0.8) -> Outputs:
    """Return outputs of n models with the given confidences (n, n_examples) of class 0."""
    n = len(confidence)
    return Outputs(confidence, np.full(n, retain), np.full(n, test), np.arange(n) % 2)


def two_sides(n_models: int, n_examples: int, *, shift: float = 0.0, std: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return Gaussian confidences of unlearned and retrained models from a fixed seed."""
    unlearned, retrained = np.random.default_rng([n_models, n_examples]).normal(0, std, (2, n_models, n_examples))
    return unlearned + shift, retrained


def hundred_examples(*, unresolved: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 100 columns: some unresolved, then a few ordinary ones, then peaky ones, which are judged in no time."""
    unlearned, retrained = two_sides(8, 100)
    unlearned[:, 5:] = 0
    return with_unresolved(unlearned, unresolved), with_unresolved(retrained, unresolved)


def with_unresolved(confidence: np.ndarray, count: int) -> np.ndarray:
    """Return confidences whose first examples are one and the same for all models: unresolved, if on both sides."""
    changed = confidence.copy()
    changed[:, :count] = 2.75
    return changed


# ---- what two equal distributions get -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_models", "std", "expected"),
    [(16, 1.0, 0.16), (64, 1.0, 0.18), (128, 1.0, 0.18), (64, 0.3, 0.09), (64, 3.0, 0.19), (64, 10.0, 0.22)],
)
def test_two_equal_gaussians_get_the_quality_of_the_table_and_not_one(
    n_models: int, std: float, expected: float
) -> None:
    unlearned, retrained = two_sides(n_models, 60, std=std)
    epsilons = example_epsilons(unlearned, retrained)
    # Credits spread by 0.11, so that a mean of 60 of them is within 0.045 of the table's in 499 of 500 draws.
    assert forgetting_quality(epsilons, n_models) == pytest.approx(expected, abs=0.045)
    assert 1.0 < np.median(epsilons) < 2.3


def test_quality_falls_as_the_distributions_move_apart() -> None:
    qualities = []
    for shift in (0.0, 0.5, 1.0, 2.0):
        unlearned, retrained = two_sides(64, 20, shift=shift)
        qualities.append(forgetting_quality(example_epsilons(unlearned, retrained), 64))
    assert qualities == sorted(qualities, reverse=True)
    assert qualities[0] > 0.1
    assert qualities[-1] < 0.02


# ---- score --------------------------------------------------------------------------------------------------------


def test_the_score_is_quality_times_both_ratios_and_shows_its_parts() -> None:
    unlearned, retrained = two_sides(16, 12)
    result = score(outputs(unlearned, retain=0.81, test=0.88), outputs(retrained, retain=0.9, test=0.8))
    epsilons = example_epsilons(unlearned, retrained)
    assert result.forgetting_quality == forgetting_quality(epsilons, 16)
    assert result.retain_ratio == pytest.approx(0.9)
    assert result.test_ratio == pytest.approx(1.1)  # above 1 and not clipped
    assert result.score == pytest.approx(forgetting_quality(epsilons, 16) * 0.9 * 1.1)
    assert result.median_epsilon == np.median(epsilons)
    assert (result.unresolved, result.n_models) == (0, 16)


def test_ratios_are_ratios_of_means_and_not_means_of_ratios() -> None:
    unlearned, retrained = two_sides(4, 5)
    original = np.zeros(4, int)
    ours = Outputs(unlearned, np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.5, 0.5, 0.5, 0.9]), original)
    theirs = Outputs(retrained, np.array([0.8, 0.4, 0.6, 0.2]), np.array([0.3, 0.3, 0.3, 0.3]), original)
    result = score(ours, theirs)
    assert result.retain_ratio == pytest.approx(1.0)
    assert result.test_ratio == pytest.approx(2.0)


def test_where_retrained_models_get_nothing_right_there_is_no_use_to_lose() -> None:
    unlearned, retrained = two_sides(4, 5)
    nothing, half, original = np.zeros(4), np.full(4, 0.5), np.zeros(4, int)
    for ours in (nothing, half):
        result = score(Outputs(unlearned, half, ours, original), Outputs(retrained, half, nothing, original))
        assert (result.retain_ratio, result.test_ratio) == (1.0, 1.0)


def test_labels_choose_the_classes_whose_confidences_are_compared() -> None:
    rng = np.random.default_rng(LABELS_SEED)
    logits, labels = rng.normal(0, 1, (16, 6, 4)), np.array([2, 0, 1, 3, 2, 0])
    accuracy, original = np.linspace(0.1, 0.9, 16), np.arange(16) % 3
    made = Outputs.of(logits, labels, retain_accuracy=accuracy, test_accuracy=accuracy / 2, original=original)
    expected = [logit_scaled_confidence(model, labels) for model in logits]
    np.testing.assert_array_equal(made.confidences, expected)
    np.testing.assert_array_equal(made.retain_accuracy, accuracy)
    np.testing.assert_array_equal(made.test_accuracy, accuracy / 2)
    np.testing.assert_array_equal(made.original, original)


def test_outputs_are_taken_apart_and_joined_again() -> None:
    whole = outputs(two_sides(8, 3)[0])
    assert len(whole) == 8
    joined = Outputs.concatenate(whole[:3], whole[np.arange(3, 8)])
    for name in ("confidences", "retain_accuracy", "test_accuracy", "original"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_the_calibrated_score_is_relative_to_the_ceiling_and_clips_the_ratios_only() -> None:
    unlearned, retrained = two_sides(16, 8, shift=0.5)
    ceiling = score(outputs(retrained[::-1] + 0.8), outputs(retrained))
    ours = score(outputs(unlearned, retain=0.99, test=0.4), outputs(retrained, retain=0.9, test=0.8))
    quotient = ours.smooth_quality / ceiling.smooth_quality
    assert calibrated_score(ours, ceiling.smooth_quality) == pytest.approx(quotient * 1 * 0.5)
    assert calibrated_score(ceiling, ceiling.smooth_quality) == pytest.approx(1)
    best = score(outputs(retrained), outputs(retrained))
    assert calibrated_score(best, ceiling.smooth_quality) > 1


def test_one_unresolved_example_in_a_hundred_is_passed_over() -> None:
    unlearned, retrained = hundred_examples(unresolved=1)
    result = score(outputs(unlearned), outputs(retrained))
    rest = example_epsilons(unlearned[:, 1:], retrained[:, 1:])
    assert not np.isnan(rest).any()
    assert result.unresolved == 1
    assert result.forgetting_quality == pytest.approx(forgetting_quality(rest, 8))
    assert result.score is not None


def test_two_unresolved_examples_in_a_hundred_withhold_quality_and_score() -> None:
    unlearned, retrained = hundred_examples(unresolved=2)
    result = score(outputs(unlearned), outputs(retrained))
    assert result.unresolved == 2
    assert result.forgetting_quality is None
    assert result.score is None
    assert result.median_epsilon is not None
    assert result.retain_ratio == 1


def test_no_resolved_example_at_all_leaves_only_the_ratios() -> None:
    sides = [outputs(with_unresolved(side, 3), test=0.5) for side in two_sides(8, 3)]
    result = score(sides[0], sides[1])
    assert (result.unresolved, result.perfectly_separated) == (3, 0)
    assert (result.score, result.forgetting_quality, result.median_epsilon) == (None, None, None)
    assert result.test_ratio == 1


def test_an_identity_with_one_original_is_told_apart_on_every_example() -> None:
    unlearned, retrained = two_sides(16, 5)
    unlearned[:] = unlearned[0]
    result = score(outputs(unlearned), outputs(retrained))
    assert result.perfectly_separated == 5
    assert result.score == 0


def test_sides_of_different_numbers_of_models_are_an_error() -> None:
    unlearned, retrained = two_sides(8, 5)
    with pytest.raises(ValueError, match="one shape"):
        score(outputs(unlearned[:7]), outputs(retrained))


def test_a_logit_or_a_confidence_that_is_not_finite_is_an_error() -> None:
    unlearned, retrained = two_sides(8, 5)
    unlearned[3, 2] = np.nan
    with pytest.raises(ValueError, match="unlearned model 3 has a non-finite confidence"):
        score(outputs(unlearned), outputs(retrained))
    accuracy = np.ones(8)
    with pytest.raises(ValueError, match="not finite"):
        Outputs.of(
            logits_of(unlearned),
            np.zeros(5, int),
            retain_accuracy=accuracy,
            test_accuracy=accuracy,
            original=np.zeros(8, int),
        )


# ---- arrays of anyone's -------------------------------------------------------------------------------------------


def test_confidences_are_taken_as_they_are_or_computed_from_logits() -> None:
    confidence = two_sides(4, 6)[0]
    np.testing.assert_array_equal(confidences({"confidence": confidence}), confidence)
    np.testing.assert_array_equal(confidences({"confidence": np.ones((2, 2), np.float32)}), np.ones((2, 2)))
    rng = np.random.default_rng(LABELS_SEED)
    logits, labels = rng.normal(0, 2, (4, 6, 3)).astype(np.float32), rng.integers(0, 3, 6)
    expected = [logit_scaled_confidence(model, labels) for model in logits]
    np.testing.assert_array_equal(confidences({"logits": logits, "labels": labels}), expected)


@pytest.mark.parametrize("missing", ["logits", "labels", "both"])
def test_neither_confidence_nor_logits_with_labels_is_an_error(missing: str) -> None:
    arrays = {"logits": np.zeros((2, 3, 4)), "labels": np.zeros(3, int)}
    kept = {name: array for name, array in arrays.items() if missing not in (name, "both")}
    with pytest.raises(ValueError, match="neither `confidence` nor `logits` and `labels`"):
        confidences(kept)


@pytest.mark.parametrize(
    ("logits", "labels"), [((3, 4), (3,)), ((2, 3, 4), (4,)), ((2, 3, 4), (2,)), ((2, 3, 4), (2, 3))]
)
def test_logits_and_labels_that_do_not_fit_are_an_error_that_names_both_shapes(
    logits: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="logits must be") as error:
        confidences({"logits": np.zeros(logits), "labels": np.zeros(labels, int)})
    assert str(logits) in str(error.value)
    assert str(labels) in str(error.value)


@pytest.mark.parametrize(
    "labels", [np.array([0, 1, 4]), np.array([0, 1, -1]), np.array([0.0, 1.0, 2.0])], ids=["large", "negative", "float"]
)
def test_labels_that_are_no_classes_are_an_error(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="label"):
        confidences({"logits": np.zeros((2, 3, 4)), "labels": labels})


def test_arrays_with_accuracies_get_a_final_score() -> None:
    unlearned, retrained = two_sides(16, 10)
    ours = {"confidence": unlearned, "retain_accuracy": np.full(16, 0.45), "test_accuracy": np.full(16, 0.84)}
    theirs = {"confidence": retrained, "retain_accuracy": np.full(16, 0.9), "test_accuracy": np.full(16, 0.7)}
    result = score_arrays(ours, theirs)
    epsilons = example_epsilons(unlearned, retrained)
    quality = forgetting_quality(epsilons, 16)
    assert result["n_models"] == 16
    assert result["n_examples"] == 10
    assert result["unresolved"] == 0
    assert result["median_epsilon"] == np.median(epsilons)
    assert result["forgetting_quality"] == quality
    assert result["retain_ratio"] == pytest.approx(0.5)
    assert result["test_ratio"] == pytest.approx(1.2)
    assert result["score"] == pytest.approx(quality * 0.6)


def test_logits_on_one_side_are_compared_with_confidences_on_the_other() -> None:
    unlearned, retrained = two_sides(16, 10)
    as_logits = {"logits": logits_of(unlearned), "labels": np.zeros(10, int)}
    expected = score_arrays({"confidence": confidences(as_logits)}, {"confidence": retrained})
    assert score_arrays(as_logits, {"confidence": retrained}) == expected


@pytest.mark.parametrize("missing", ["retain_accuracy", "test_accuracy"])
@pytest.mark.parametrize("side", [0, 1])
def test_without_all_four_accuracies_there_is_a_quality_and_no_score(side: int, missing: str) -> None:
    accuracies = {"retain_accuracy": np.ones(8), "test_accuracy": np.ones(8)}
    sides: list[dict[str, Any]] = [{"confidence": confidence, **accuracies} for confidence in two_sides(8, 5)]
    del sides[side][missing]
    result = score_arrays(sides[0], sides[1])
    assert result["forgetting_quality"] is not None
    assert result["score"] is None
    assert result[missing.replace("accuracy", "ratio")] is None


def test_arrays_without_a_resolved_example_get_nothing_but_a_count() -> None:
    sides = [{"confidence": with_unresolved(side, 3)} for side in two_sides(8, 3)]
    result = score_arrays(sides[0], sides[1])
    assert result["unresolved"] == 3
    assert (result["median_epsilon"], result["forgetting_quality"], result["score"]) == (None, None, None)


@pytest.mark.parametrize(("count", "withheld"), [(1, False), (2, True)])
def test_arrays_are_held_to_the_same_share_of_unresolved_examples_as_submissions(count: int, withheld: bool) -> None:
    sides = [{"confidence": side} for side in hundred_examples(unresolved=count)]
    result = score_arrays(sides[0], sides[1])
    assert result["unresolved"] == count
    assert (result["forgetting_quality"] is None) == withheld


def test_arrays_of_different_numbers_of_models_or_examples_are_an_error() -> None:
    unlearned, retrained = two_sides(8, 5)
    with pytest.raises(ValueError, match="one shape"):
        score_arrays({"confidence": unlearned[:7]}, {"confidence": retrained})
    with pytest.raises(ValueError, match="one shape"):
        score_arrays({"confidence": unlearned[:, :4]}, {"confidence": retrained})
