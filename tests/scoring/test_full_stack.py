"""The full-stack metrics: by hand, against plain versions, on models that memorise or do not, on the tiny track."""

import dataclasses
import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.svm import SVC

from benchmarks.published import TABLE_3
from harness.evaluation.full_metrics import full_stack
from harness.record import Records
from harness.scoring.full_stack import (
    Attack,
    Labels,
    Metric,
    Predictions,
    certifiability,
    consistency_kl,
    consistency_y,
    disparity_average,
    draw_attack_set,
    full_stack_metrics,
    mia_efficacy,
    mia_privacy,
    svc_attack,
    threshold_attack,
)
from harness.scoring.official import logit_scaled_confidence
from harness.tracks.track import Track

both_attacks = pytest.mark.parametrize("attack", [svc_attack, threshold_attack])


def six(metric: Metric) -> tuple[float | None, ...]:
    """Return mean, SD, retrained mean, retrained SD, gap and its standard error."""
    return dataclasses.astuple(metric)


def normal(mean: float, n: int, *, seed: int) -> np.ndarray:
    """Return n confidences of standard deviation 1."""
    return np.random.default_rng(seed).normal(mean, 1, n)


def labels_of(n_retain: int = 90, n_forget: int = 30, n_test: int = 60) -> Labels:
    """Return labels of three classes."""
    return Labels(*(np.arange(n) % 3 for n in (n_retain, n_forget, n_test)))


def logits_with(confidence: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return logits (n, n_examples, 3) whose true class has the given confidence, the others sharing the rest."""
    logits = np.zeros((*confidence.shape, 3), np.float32)
    logits[:, np.arange(len(labels)), labels] = confidence + np.log(2)
    return logits


def models(
    labels: Labels, *, retain: float, forget: float, test: float, n: int = 4, seed: int = 0, spread: float = 0.3
) -> Predictions:
    """Return n models with confidences about these means; the means vary from model to model by `spread`."""
    generator = np.random.default_rng(seed)
    retain_confidence, forget_confidence, test_confidence = (
        generator.normal(mean, 1, (n, len(side))) + generator.normal(0, spread, (n, 1))
        for mean, side in ((retain, labels.retain), (forget, labels.forget), (test, labels.test))
    )
    return Predictions(
        logits_with(forget_confidence, labels.forget),
        logits_with(test_confidence, labels.test),
        retain_confidence.astype(np.float32),
        retain_confidence > 0,
    )


# ---- accuracies, run time and disparity -----------------------------------------------------------------------------


def by_hand() -> tuple[Predictions, Predictions, Labels]:
    """Two unlearned and two retrained models, two classes, 4 retain, 4 forget and 2 test examples."""
    labels = Labels(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), np.array([0, 1]))

    def predictions(retain: list[list[int]], forget: list[list[int]], test: list[list[int]]) -> Predictions:
        one_hot = np.eye(2, dtype=np.float32)
        correct = np.array(retain) == labels.retain
        return Predictions(one_hot[forget], one_hot[test], np.where(correct, 1, -1).astype(np.float32), correct)

    unlearned = predictions([[0, 1, 0, 1], [0, 1, 0, 0]], [[0, 0, 1, 1], [1, 1, 1, 1]], [[0, 0], [1, 1]])
    retrained = predictions([[0, 1, 0, 1], [0, 1, 0, 1]], [[0, 0, 0, 1], [0, 1, 0, 0]], [[0, 1], [0, 0]])
    return unlearned, retrained, labels


def test_accuracies_run_time_and_slides_metrics_by_hand() -> None:
    unlearned, retrained, labels = by_hand()
    found = full_stack_metrics(unlearned, retrained, labels, trainings=[1 / 40, 3 / 40], seed=0)
    half = np.sqrt(1250)  # SD of 0 and 50
    assert six(found.ua) == pytest.approx((25, half, 50, half, -25, half))
    assert six(found.ra) == pytest.approx((87.5, half / 2, 100, 0, -12.5, half / np.sqrt(8)))
    assert six(found.ta) == pytest.approx((50, 0, 75, half, -25, half / np.sqrt(2)))
    assert six(found.rte) == pytest.approx((0.05, np.sqrt(2) / 40, None, None, None, None))
    assert found.efficiency == pytest.approx(20)
    assert found.effectiveness == 25
    assert found.certifiability == pytest.approx(25 / 125)
    # Unlearned model 0 predicts 0, 0: agrees with 0, 1 and 0, 0 on 3 of 4; model 1 predicts 1, 1: on 1 of 4.
    assert six(found.consistency_y) == pytest.approx((50, half, 50, 0, 0, half / np.sqrt(2)))
    assert found.consistency_theta is None
    assert found.mutual_information is None
    assert (found.n_unlearned, found.n_retrained, found.n_svc_models, found.n_members) == (2, 2, 2, 2)
    assert found.mia_efficacy.mean is not None
    assert found.mia_efficacy.gap is not None
    assert found.disparity_average == pytest.approx((25 + abs(found.mia_efficacy.gap) + 12.5 + 25) / 4)


def test_what_is_not_known_is_null() -> None:
    unlearned, retrained, labels = by_hand()
    one, other = (
        Predictions(**{name: array[:1] for name, array in vars(side).items() if array is not None})
        for side in (unlearned, retrained)
    )
    found = full_stack_metrics(one, other, labels, trainings=None, seed=0)
    assert six(found.rte) == (None,) * 6
    assert found.efficiency is None
    assert six(found.ua) == (0, None, 25, None, -25, None)
    assert (found.consistency_y.retrained_mean, found.consistency_y.gap) == (None, None)
    assert (found.asr, found.sa) == (None, None)


def test_attack_success_is_the_share_called_the_target_beside_that_of_retrained_models() -> None:
    unlearned, retrained, labels = by_hand()
    ours = dataclasses.replace(unlearned, triggered_hits=np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool))
    theirs = dataclasses.replace(retrained, triggered_hits=np.array([[0, 0, 0, 1], [0, 0, 0, 1]], bool))
    found = full_stack_metrics(ours, theirs, labels, trainings=None, seed=0)
    half = np.sqrt(1250)
    assert found.asr is not None
    assert six(found.asr) == pytest.approx((50, half, 25, 0, 25, half / np.sqrt(2)))
    assert found.sa == found.ta
    with pytest.raises(ValueError, match="one side has outputs on triggered images and the other has none"):
        full_stack_metrics(ours, retrained, labels, trainings=None, seed=0)


@pytest.mark.parametrize("scenario", TABLE_3)
def test_disparity_average_is_that_of_table_3(scenario: str) -> None:
    retrained, methods = TABLE_3[scenario]
    assert disparity_average(retrained, retrained) == 0
    for name, (means, printed) in methods.items():
        assert disparity_average(means, retrained) == pytest.approx(printed, abs=0.01), name


# ---- attacks --------------------------------------------------------------------------------------------------------


def slow_threshold_attack(members: np.ndarray, non_members: np.ndarray, targets: np.ndarray) -> list[float]:
    """Try a threshold between any two neighbours, and one at either end; return the mean call of the best ones."""
    values = sorted({*members.tolist(), *non_members.tolist()})
    middles = [(low + high) / 2 for low, high in itertools.pairwise(values)]
    fewest, best = len(members) * len(non_members) * 2, list[float]()
    for cut in [-math.inf, *middles, math.inf]:
        missed = sum(value < cut for value in members.tolist())
        taken = sum(value >= cut for value in non_members.tolist())
        errors = missed * len(non_members) + taken * len(members)
        if errors < fewest:
            fewest, best = errors, []
        if errors == fewest:
            best.append(cut)
    return [sum(value >= cut for cut in best) / len(best) for value in targets.tolist()]


@pytest.mark.parametrize(("shift", "decimals"), [(0.0, 3), (1.0, 3), (4.0, 3), (0.0, 0), (1.0, 0)])
@pytest.mark.parametrize("n_non_members", [12, 25])
def test_threshold_attack_equals_brute_force(shift: float, decimals: int, n_non_members: int) -> None:
    for seed in range(20):
        members = normal(shift, 25, seed=3 * seed).round(decimals)
        non_members = normal(0, n_non_members, seed=3 * seed + 1).round(decimals)
        targets = normal(shift / 2, 30, seed=3 * seed + 2).round(decimals)
        expected = slow_threshold_attack(members, non_members, targets)
        assert threshold_attack(members, non_members, targets).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(8))
def test_svc_attack_equals_the_papers_on_probabilities_of_the_true_class(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = 200
    rows = np.arange(n)
    logits, labels = generator.normal(0, 2, (3, n, 4)), generator.integers(0, 4, (3, n))
    logits[0, rows, labels[0]] += 3  # members
    sides = list(zip(logits, labels, strict=True))
    probabilities = [softmax(side, axis=1)[rows, true] for side, true in sides]
    classifier = SVC(C=3, gamma="auto", kernel="rbf")
    classifier.fit(np.concatenate(probabilities[:2]).reshape(-1, 1), np.concatenate([np.ones(n), np.zeros(n)]))
    expected = classifier.predict(probabilities[2].reshape(-1, 1))
    members, non_members, targets = (logit_scaled_confidence(*side).astype(np.float32) for side in sides)
    np.testing.assert_array_equal(svc_attack(members, non_members, targets), expected)
    found = mia_efficacy(members, non_members, targets, attack=svc_attack)
    assert found == pytest.approx(100 * (1 - expected.mean()))
    assert 0 < found < 100


@both_attacks
def test_separable_confidences_give_0_or_100(attack: Attack) -> None:
    members, non_members = normal(6, 60, seed=0), normal(-6, 60, seed=1)
    assert mia_efficacy(members, non_members, normal(6, 40, seed=2), attack=attack) == 0
    assert mia_efficacy(members, non_members, normal(-6, 40, seed=3), attack=attack) == 100
    assert mia_privacy(members, non_members, attack=attack) == 100


@both_attacks
def test_equal_distributions_give_about_half(attack: Attack) -> None:
    sides = [[normal(0, 200, seed=3 * seed + side) for side in range(3)] for seed in range(30)]
    efficacy = [mia_efficacy(*three, attack=attack) for three in sides]
    privacy = [mia_privacy(*three[:2], attack=attack) for three in sides]
    assert np.mean(efficacy) == pytest.approx(50, abs=12)  # a single one may be anything: the best cut is at random
    assert np.mean(privacy) == pytest.approx(50, abs=1.5)


def test_threshold_attack_on_confidences_that_tell_nothing_gives_half() -> None:
    same = np.full(10, 103.6163)
    assert mia_efficacy(same, same, same, attack=threshold_attack) == 50
    assert mia_privacy(same, same, attack=threshold_attack) == 50


@pytest.mark.parametrize("mean", [500, -500])
def test_saturated_confidences_are_not_told_apart_by_rounding(mean: float) -> None:
    labels = labels_of()
    saturated = models(labels, retain=0, forget=mean, test=mean)
    everywhere = logit_scaled_confidence(saturated.test_logits[0], labels.test)[0]
    saturated = dataclasses.replace(saturated, retain_confidence=np.full((4, 90), everywhere, np.float32))
    found = full_stack_metrics(saturated, saturated, labels, trainings=None, seed=0)
    assert found.mia_privacy_threshold.mean == 50


# ---- who is attacked ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_retain", "n_test", "expected"), [(90, 60, 60), (50, 70, 50), (5000, 3000, 2000)])
def test_members_and_non_members_are_as_many_and_stratified_by_class(n_retain: int, n_test: int, expected: int) -> None:
    generator = np.random.default_rng(0)
    shares = [0.6, 0.3, 0.1]
    labels = Labels(*(np.sort(generator.choice(3, n, p=shares)) for n in (n_retain, 5, n_test)))
    chosen = draw_attack_set(labels, seed=1)
    for indices, of_set in ((chosen.members, labels.retain), (chosen.non_members, labels.test)):
        assert len(set(indices.tolist())) == len(indices) == expected
        halves = indices[: expected // 2], indices[expected // 2 :]
        for part, reach in ((indices, 1), (halves[0], 2), (halves[1], 2)):
            drawn, present = Counter(of_set[part].tolist()), Counter(of_set.tolist())
            for label, count in present.items():
                assert drawn[label] == pytest.approx(len(part) * count / len(of_set), abs=reach)


def test_the_draw_follows_from_the_seed() -> None:
    labels = labels_of(900, 30, 600)
    first, again, other = (draw_attack_set(labels, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.members, again.members)
    np.testing.assert_array_equal(first.non_members, again.non_members)
    assert set(first.members) != set(other.members)


# ---- consistency and certifiability ---------------------------------------------------------------------------------


def test_consistencies_are_means_over_all_pairs() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(0, 2, (3, 7, 4)), generator.normal(0, 2, (5, 7, 4))
    agreement, divergence = np.zeros((3, 5)), np.zeros((3, 5))
    for i, j in np.ndindex(3, 5):
        p, q = softmax(ours[i], axis=1), softmax(theirs[j], axis=1)
        agreement[i, j] = 100 * (p.argmax(1) == q.argmax(1)).mean()
        divergence[i, j] = (p * np.log(p / q)).sum(1).mean()
    np.testing.assert_allclose(consistency_y(ours, theirs), agreement.mean(axis=1))
    np.testing.assert_allclose(consistency_kl(ours, theirs), divergence.mean(axis=1))


def test_kl_is_taken_from_unlearned_to_retrained() -> None:
    even, sure = np.zeros((1, 1, 2)), np.log([[[0.9, 0.1]]])
    assert consistency_kl(even, sure)[0] == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1))
    assert consistency_kl(sure, even)[0] == pytest.approx(0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5))
    assert consistency_kl(even, np.array([[[0.0, 1e4]]]))[0] == pytest.approx(0.5 * (-np.log(1e-12)) - np.log(2))


def test_retrained_models_are_compared_with_the_others_and_not_with_themselves() -> None:
    labels = labels_of()
    retrained = models(labels, retain=1, forget=1, test=1)
    found = full_stack_metrics(retrained, retrained, labels, trainings=None, seed=0)
    others = [np.arange(4) != i for i in range(4)]
    logits = retrained.test_logits
    pairs = list(enumerate(others))
    agreement = [consistency_y(logits[i : i + 1], logits[rest])[0] for i, rest in pairs]
    divergence = [consistency_kl(logits[i : i + 1], logits[rest])[0] for i, rest in pairs]
    assert found.consistency_y.retrained_mean == pytest.approx(np.mean(agreement))
    assert found.consistency_y.retrained_sd == pytest.approx(np.std(agreement, ddof=1))
    assert found.consistency_kl.retrained_mean == pytest.approx(np.mean(divergence))
    assert found.consistency_kl.retrained_sd == pytest.approx(np.std(divergence, ddof=1))


def test_one_and_the_same_model_is_consistent_and_certified() -> None:
    labels = labels_of()
    one = models(labels, retain=3, forget=1, test=1, n=1)
    found = full_stack_metrics(one, one, labels, trainings=[1.0], seed=0)
    assert (found.consistency_y.mean, found.effectiveness, found.certifiability) == (100, 0, 0)
    assert found.consistency_kl.mean == pytest.approx(0, abs=1e-12)
    assert found.disparity_average == 0


def test_certifiability_is_symmetric_and_0_where_both_are_0() -> None:
    assert certifiability(0, 0) == 0
    assert certifiability(30, 90) == certifiability(90, 30) == 0.5
    assert certifiability(0, 5) == 1


# ---- what they say of models ----------------------------------------------------------------------------------------


def test_a_model_that_memorised_is_ordered_below_one_that_did_not() -> None:
    labels = labels_of(600, 200, 600)
    sides = {
        "memorised": models(labels, retain=5, forget=5, test=1, seed=1),
        "unlearned": models(labels, retain=5, forget=2, test=1, seed=2),
        "regular": models(labels, retain=1.5, forget=1, test=1, seed=3),
    }
    retrained = models(labels, retain=5, forget=1, test=1, seed=4)
    found = {
        name: full_stack_metrics(side, retrained, labels, trainings=[1 / 9] * 4, seed=0) for name, side in sides.items()
    }
    memorised, unlearned, regular = found.values()
    for metric in ("ua", "mia_efficacy", "mia_efficacy_threshold"):
        below, above = getattr(memorised, metric), getattr(unlearned, metric)
        assert below.mean < above.mean < above.retrained_mean
    for metric in ("mia_privacy", "mia_privacy_threshold"):
        assert getattr(memorised, metric).mean > 90 > 70 > getattr(regular, metric).mean
    assert memorised.disparity_average > unlearned.disparity_average


def test_gaps_between_retrained_models_stay_within_their_own_spread() -> None:
    labels = labels_of(300, 90, 300)
    first, second = (models(labels, retain=2, forget=1, test=1, n=16, seed=seed) for seed in (0, 1))
    found = full_stack_metrics(first, second, labels, trainings=None, seed=0)
    metrics = [value for value in vars(found).values() if isinstance(value, Metric) and value.gap is not None]
    assert len(metrics) == 9
    for metric in metrics:
        assert metric.gap is not None
        assert metric.retrained_sd is not None
        assert abs(metric.gap) < metric.retrained_sd


def test_the_svc_attacks_16_models_and_the_threshold_all() -> None:
    labels = labels_of()
    unlearned, retrained = (models(labels, retain=3, forget=1, test=1, n=18, seed=seed) for seed in (0, 1))
    changed = dataclasses.replace(unlearned, retain_confidence=unlearned.retain_confidence.copy())
    changed.retain_confidence[16:] += 5
    before, after = (
        full_stack_metrics(side, retrained, labels, trainings=None, seed=0) for side in (unlearned, changed)
    )
    assert before.n_svc_models == 16
    assert after.mia_efficacy == before.mia_efficacy
    assert after.mia_efficacy_threshold != before.mia_efficacy_threshold


def test_labels_seconds_and_outputs_must_fit() -> None:
    labels = labels_of()
    some = models(labels, retain=3, forget=1, test=1)
    with pytest.raises(ValueError, match=r"outputs on \(90, 30, 60\) .* do not fit \(90, 31, 60\) labels"):
        full_stack_metrics(some, some, labels_of(n_forget=31), trainings=None, seed=0)
    with pytest.raises(ValueError, match="the seconds of 3 runs do not fit 4 models"):
        full_stack_metrics(some, some, labels, trainings=[1.0] * 3, seed=0)


# ---- on a real track ------------------------------------------------------------------------------------------------


def test_other_retrained_models_of_a_track_look_retrained_and_originals_do_not(tiny: Track) -> None:
    ceiling, originals = tiny.retrained("ceiling"), tiny.originals()
    runs = Records.concatenate([originals] * 8)
    retrained, identity = (
        full_stack(tiny, records, tiny.retrained("scoring"), trainings=[0.05] * 16) for records in (ceiling, runs)
    )
    plain = dataclasses.asdict(retrained)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    for name, found in (("ra", retrained.ra), ("ta", retrained.ta)):
        stored = {"ra": "retain", "ta": "test"}[name]
        assert found.mean == pytest.approx(100 * ceiling.accuracy_on(stored).mean())
        assert found.retrained_mean == pytest.approx(100 * tiny.retrained("scoring").accuracy_on(stored).mean())
    assert retrained.ua.mean == pytest.approx(100 - 100 * ceiling.accuracy_on("forget").mean())
    for name in ("ua", "mia_efficacy", "mia_efficacy_threshold", "mia_privacy_threshold", "ra", "ta"):
        metric: Metric = getattr(retrained, name)
        assert metric.gap is not None
        assert metric.sd is not None
        assert metric.retrained_sd is not None
        assert abs(metric.gap) < metric.sd + metric.retrained_sd, name
    assert retrained.rte.mean == pytest.approx(0.05)
    assert retrained.efficiency == pytest.approx(20)
    assert identity.ua.mean is not None
    assert retrained.ua.mean is not None
    assert identity.ua.mean < retrained.ua.mean
