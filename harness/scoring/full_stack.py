"""The metrics of the sparsity paper and of the introduction slides, each beside what retrained models get.

UA, MIA-Efficacy, MIA-Privacy, RA, TA, RTE and the disparity average: Jia et al., "Model Sparsity Can Simplify Machine
Unlearning" (NeurIPS 2023, arXiv 2304.04934) and its code, OPTML-Group/Unlearn-Sparse; so are ASR and SA, of
tracks with a trojan. Efficiency, effectiveness, consistency and certifiability: the introduction slides. Shares are in
percent, as printed there.

No metric is good at 100 or at 0: the goal is the retrained models' value, and a gap below their own spread from seed to
seed is none. Retain outputs are stored as logit-scaled confidences of the true class, whose probability is
sigmoid(confidence); those of forget and test examples are rounded to float32 as well, lest rounding tell them apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from harness.scoring.official import logit_scaled_confidence

__all__ = [
    "AttackSet",
    "FullStack",
    "Labels",
    "Metric",
    "Predictions",
    "attack_success_rate",
    "certifiability",
    "consistency_kl",
    "consistency_y",
    "disparity_average",
    "distances",
    "draw_attack_set",
    "full_stack_metrics",
    "mia_efficacy",
    "mia_privacy",
    "svc_attack",
    "threshold_attack",
]

MOST_ATTACKED = 2000  # members, and as many non-members: the SVC takes time and memory in their square
MOST_SVC_MODELS = 16
ORIGINAL_SVC_C = 3.0
PROBABILITY_FLOOR = 1e-12  # in the KL divergence: one saturated model must not decide a mean over all

Attack = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # members, non-members, targets -> membership


@dataclass(frozen=True)
class Labels:
    """True classes, integers, of the examples of three data sets."""

    retain: np.ndarray  # (n_retain,)
    forget: np.ndarray  # (n_forget,)
    test: np.ndarray  # (n_test,), without the forgotten class where one class is forgotten


@dataclass(frozen=True)
class Predictions:
    """Outputs of n models, examples in the order of the labels; named as the fields of `harness.record.Records`."""

    forget_logits: np.ndarray  # (n, n_forget, n_classes)
    test_logits: np.ndarray  # (n, n_test, n_classes)
    retain_confidence: np.ndarray  # (n, n_retain) logit-scaled, of the true class
    retain_correct: np.ndarray  # (n, n_retain) bool
    triggered_hits: np.ndarray | None = None  # (n, n_triggered) bool: called the trojan's target; None without a trojan

    def __len__(self) -> int:
        return len(self.retain_confidence)


@dataclass(frozen=True)
class Metric:
    """A metric over models. None: not known from what is stored; an SD of fewer than 2 models is not known either."""

    mean: float | None
    sd: float | None  # between models, n - 1 in the denominator
    retrained_mean: float | None
    retrained_sd: float | None  # a gap below it is no larger than that between two retrained models
    gap: float | None  # mean - retrained_mean
    gap_standard_error: float | None  # all models taken as independent, which runs from one original are not quite

    @classmethod
    def of(cls, unlearned: np.ndarray, retrained: np.ndarray) -> "Metric":
        """Return the metric from its values on unlearned (n,) and on retrained (m,) models; either may be empty."""
        ours, theirs = _mean(unlearned), _mean(retrained)
        our_sd, their_sd = _sd(unlearned), _sd(retrained)
        gap = None if ours is None or theirs is None else ours - theirs
        error = None
        if our_sd is not None and their_sd is not None:
            error = float(np.sqrt(our_sd**2 / len(unlearned) + their_sd**2 / len(retrained)))
        return cls(ours, our_sd, theirs, their_sd, gap, error)


@dataclass(frozen=True)
class FullStack:
    """All metrics of n unlearned beside m retrained models; `dataclasses.asdict` makes it ready for JSON.

    Two metrics of the slides are always None. The distance of the weights (consistency_theta) needs the weights of a
    retrained model with the original's initialisation and batch order, else it measures seeds. The mutual information
    of forget set and weights has upper bounds only, for methods that add noise of a known size.
    """

    n_unlearned: int
    n_retrained: int
    n_svc_models: int  # the first models of either side, which alone the SVC attacks
    n_members: int  # attacked, and as many non-members
    ua: Metric  # percent of forget examples misclassified
    mia_efficacy: Metric  # percent of forget examples that the SVC calls non-members
    mia_efficacy_threshold: Metric  # the same of the threshold attack, on all models
    mia_privacy: Metric  # percent, 50 = chance: the SVC's balanced accuracy on held-out retain and test examples
    mia_privacy_threshold: Metric  # the same of the threshold attack, on all models
    ra: Metric  # percent of retain examples classified correctly
    ta: Metric  # percent of test examples classified correctly
    rte: Metric  # seconds of a run / seconds of a training; retrained models were not timed one by one: None
    disparity_average: float  # percentage points, over UA, MIA-Efficacy (SVC), RA and TA; lower is better
    efficiency: float | None  # seconds of a training / mean seconds of a run; higher is better
    effectiveness: float  # percentage points, |TA - TA of retrained models|; lower is better
    consistency_y: Metric  # percent of test examples predicted as by a retrained model; higher is better
    consistency_kl: Metric  # nats on test examples, KL(unlearned || retrained); lower is better
    certifiability: float  # of the accuracy on the forget set, in [0, 1]; 0 is best. No certificate, despite its name
    asr: Metric | None = None  # percent of triggered test images called the trojan's target; None without a trojan
    sa: Metric | None = None  # percent of clean test examples classified correctly: TA by its name beside ASR
    consistency_theta: None = None  # |theta_u - theta_r|
    mutual_information: None = None  # I(D_f; theta_u)


def full_stack_metrics(
    unlearned: Predictions,
    retrained: Predictions,
    labels: Labels,
    *,
    trainings: Sequence[float] | None,
    seed: int,
) -> FullStack:
    """Return all metrics of n unlearned models beside m retrained ones.

    trainings: the seconds of every run over those of one training on retain and forget set, which stands for retraining
    and is longer than it by the forget set's share; None where none was timed, and then RTE and efficiency are None.
    seed: draws the attacked examples, the same for all models. Raises ValueError if labels and outputs do not fit.
    Takes 0.3-1.2 s per model under the SVC with 2,000 members and 4,500 forget examples, 0.03 s with 416 and 64.
    """
    for models in (unlearned, retrained):
        _check(models, labels)
    if trainings is not None and len(trainings) != len(unlearned):
        raise ValueError(f"the seconds of {len(trainings)} runs do not fit {len(unlearned)} models")
    chosen = draw_attack_set(labels, seed=seed)
    attack_success = _attack_success(unlearned, retrained)
    n_svc = min(MOST_SVC_MODELS, len(unlearned), len(retrained))
    ours, theirs = (_values(models, labels, chosen, n_svc) for models in (unlearned, retrained))
    rte = np.array([] if trainings is None else trainings)
    return FullStack(
        n_unlearned=len(unlearned),
        n_retrained=len(retrained),
        n_svc_models=n_svc,
        n_members=len(chosen.members),
        ua=Metric.of(ours.ua, theirs.ua),
        mia_efficacy=Metric.of(ours.svc.efficacy, theirs.svc.efficacy),
        mia_efficacy_threshold=Metric.of(ours.threshold.efficacy, theirs.threshold.efficacy),
        mia_privacy=Metric.of(ours.svc.privacy, theirs.svc.privacy),
        mia_privacy_threshold=Metric.of(ours.threshold.privacy, theirs.threshold.privacy),
        ra=Metric.of(ours.ra, theirs.ra),
        ta=Metric.of(ours.ta, theirs.ta),
        rte=Metric.of(rte, np.array([])),
        disparity_average=disparity_average(ours.of_disparity(), theirs.of_disparity()),
        efficiency=float(1 / rte.mean()) if len(rte) else None,
        effectiveness=float(abs(ours.ta.mean() - theirs.ta.mean())),
        consistency_y=_consistency(consistency_y, unlearned, retrained, itself=100.0),
        consistency_kl=_consistency(consistency_kl, unlearned, retrained, itself=0.0),
        certifiability=certifiability(100 - float(ours.ua.mean()), 100 - float(theirs.ua.mean())),
        asr=attack_success,
        sa=None if attack_success is None else Metric.of(ours.ta, theirs.ta),
    )


# ---- membership inference -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttackSet:
    """Whom attacks learn from: as many members as non-members, each half of either stratified by class."""

    members: np.ndarray  # (k,) indices into the retain set
    non_members: np.ndarray  # (k,) indices into the test set


def draw_attack_set(labels: Labels, *, seed: int) -> AttackSet:
    """Draw min(n_retain, n_test, 2,000) members and as many non-members, each side in its own proportions of classes.

    The paper's code takes all of the test set and the first n_test of the retain set, which are of one class after the
    other where data are sorted by class.
    """
    generator = np.random.default_rng(seed)
    count = min(len(labels.retain), len(labels.test), MOST_ATTACKED)
    return AttackSet(*(_draw_halves(side, count, generator) for side in (labels.retain, labels.test)))


def svc_attack(members: np.ndarray, non_members: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return 1 for every target called a member and 0 for the others, by the paper's attack.

    members, non_members, targets: logit-scaled confidences (n,) of one model. A support vector classifier with C = 3,
    rbf kernel, gamma 1, on the bare probability of the true class. Source: evaluation/SVC_MIA.py, `confidence`.
    """
    from sklearn.svm import SVC  # a second's import

    features = scipy.special.expit(np.concatenate([members, non_members]).astype(np.float64))[:, None]
    is_member = np.repeat([1, 0], [len(members), len(non_members)])
    classifier = SVC(C=ORIGINAL_SVC_C, kernel="rbf", gamma="auto").fit(features, is_member)
    return np.asarray(classifier.predict(scipy.special.expit(targets.astype(np.float64))[:, None]), np.float64)


def threshold_attack(members: np.ndarray, non_members: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return in [0, 1] how far every target is called a member, by "member if confidence >= t" with the best t.

    members, non_members, targets: confidences (n,) of one model, on any monotone scale. All cuts of the pooled sample
    are tried; of several that err least on members and non-members together the mean is returned, so that confidences
    that tell nothing give 1/2. Source: Yeom et al. 2018, Song and Mittal 2021; exact, fast, and immune to saturation.
    """
    members, non_members = np.sort(members.astype(np.float64)), np.sort(non_members.astype(np.float64))
    values = np.unique(np.concatenate([members, non_members]))
    cuts = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    kept = len(members) - np.searchsorted(members, cuts)
    rejected = np.searchsorted(non_members, cuts)
    hits = len(non_members) * kept + len(members) * rejected  # balanced accuracy in integers, so that ties are ties
    best = cuts[hits == hits.max()]
    return np.searchsorted(best, targets.astype(np.float64), side="right") / len(best)


def mia_efficacy(members: np.ndarray, non_members: np.ndarray, forget: np.ndarray, *, attack: Attack) -> float:
    """Return the percentage of forget examples that an attack calls non-members.

    members, non_members, forget: confidences (n,) of one model on attacked retain, attacked test and all forget
    examples. Higher: better forgotten or, above the retrained models' value, over-forgotten. 0 or 100 where members
    and non-members separate, about 50 where they do not differ. Source: main_forget.py, "MIA-Efficacy".
    """
    return float(100 * (1 - attack(members, non_members, forget).mean()))


def mia_privacy(members: np.ndarray, non_members: np.ndarray, *, attack: Attack) -> float:
    """Return the balanced accuracy, in percent, of an attack learnt on the first half of either side, on the second.

    members, non_members: confidences (n,) of one model on attacked retain and test examples, in the order of an
    AttackSet. Lower: less leakage of the retain set; 50 is chance. The paper's code has larger second halves, all that
    is left, which changes the noise alone. Source: main_forget.py, "MIA-Privacy".
    """
    half, other_half = len(members) // 2, len(non_members) // 2
    held_out = members[half:], non_members[other_half:]
    calls = attack(members[:half], non_members[:other_half], np.concatenate(held_out))
    true_positives, false_positives = np.split(calls, [len(held_out[0])])
    return float(50 * (true_positives.mean() + 1 - false_positives.mean()))


# ---- trojans -------------------------------------------------------------------------------------------------------


def attack_success_rate(hits: np.ndarray) -> np.ndarray:
    """Return ASR (n,), the percentage of triggered test images that each model calls the trojan's target.

    hits: (n, n_triggered) bool, of images whose class is another. Not 0 but what retrained models get is the goal: they
    too call some images the target, with a trigger or without. Source: main_backdoor.py, which counts images of the
    target's class as well.
    """
    return np.asarray(100 * hits.mean(axis=1))


def _attack_success(unlearned: Predictions, retrained: Predictions) -> Metric | None:
    ours, theirs = unlearned.triggered_hits, retrained.triggered_hits
    if ours is None and theirs is None:
        return None
    if ours is None or theirs is None:
        raise ValueError("one side has outputs on triggered images and the other has none")
    return Metric.of(attack_success_rate(ours), attack_success_rate(theirs))


# ---- against retrained models --------------------------------------------------------------------------------------


def disparity_average(unlearned: Sequence[float], retrained: Sequence[float]) -> float:
    """Return the mean absolute difference of UA, MIA-Efficacy, RA and TA, all in percent, in percentage points.

    unlearned, retrained: the four means over models, in one order. Lower is better. Retrained models themselves get
    not 0 but about 0.8 x sqrt(1/n + 1/m) of their mean SD. Source: paper, Table 3.
    """
    return float(np.abs(np.subtract(unlearned, retrained)).mean())


def consistency_y(logits: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return (n,), the percentage of examples on which each model predicts what a retrained one does.

    logits: (n, n_examples, n_classes); retrained: (m, n_examples, n_classes). A mean over all m retrained models, none
    being the counterpart of a run. Higher is better; retrained models agree among each other on less than 100.
    """
    n_models, n_examples, n_classes = retrained.shape
    predicted = retrained.argmax(-1)
    votes = np.stack([(predicted == label).sum(axis=0) for label in range(n_classes)], axis=1)
    agreeing = votes[np.arange(n_examples), logits.argmax(-1)]
    return np.asarray(100 * agreeing.mean(axis=1) / n_models)


def consistency_kl(logits: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return (n,), the mean over examples of KL(p of each model || p of a retrained one) in nats.

    logits: (n, n_examples, n_classes); retrained: (m, n_examples, n_classes). A mean over all m retrained models;
    probabilities below 1e-12 count as 1e-12. Lower is better; retrained models are above 0 among each other.
    """
    expected = sum(_log_probabilities(model) for model in retrained) / len(retrained)
    ours = (_log_probabilities(model) for model in logits)
    return np.array([(np.exp(log_p) * (log_p - expected)).sum(axis=-1).mean() for log_p in ours])


def certifiability(unlearned: float, retrained: float) -> float:
    """Return |u - r| / (|u| + |r|) of a metric on the forget set, here the accuracy; 0/0 is 0.

    0: as after retraining, 1: one of the two is 0. Symmetric. It certifies nothing: a number about one metric, with no
    (epsilon, delta) behind it.
    """
    total = abs(unlearned) + abs(retrained)
    return abs(unlearned - retrained) / total if total else 0.0


# ---- values of single models ---------------------------------------------------------------------------------------


class _Attacked(NamedTuple):
    efficacy: np.ndarray  # percent, one value per attacked model
    privacy: np.ndarray


class _Values(NamedTuple):
    """Metrics of every model, in percent, (n,); under the SVC of the first ones."""

    ua: np.ndarray
    ra: np.ndarray
    ta: np.ndarray
    svc: _Attacked
    threshold: _Attacked

    def of_disparity(self) -> list[float]:
        return [float(values.mean()) for values in (self.ua, self.svc.efficacy, self.ra, self.ta)]


def _values(models: Predictions, labels: Labels, chosen: AttackSet, n_svc: int) -> _Values:
    members = models.retain_confidence[:, chosen.members]
    non_members = _confidences(models.test_logits[:, chosen.non_members], labels.test[chosen.non_members])
    forget = _confidences(models.forget_logits, labels.forget)

    def attacked(attack: Attack, n: int) -> _Attacked:
        sides = list(zip(members[:n], non_members[:n], forget[:n], strict=True))
        return _Attacked(
            np.array([mia_efficacy(ours, theirs, targets, attack=attack) for ours, theirs, targets in sides]),
            np.array([mia_privacy(ours, theirs, attack=attack) for ours, theirs, _ in sides]),
        )

    return _Values(
        ua=100 - _accuracy(models.forget_logits, labels.forget),
        ra=100 * models.retain_correct.mean(axis=1),
        ta=_accuracy(models.test_logits, labels.test),
        svc=attacked(svc_attack, n_svc),
        threshold=attacked(threshold_attack, len(models)),
    )


def _check(models: Predictions, labels: Labels) -> None:
    """Raise ValueError unless there is a model, and for each of its outputs a label."""
    found = (models.retain_confidence.shape[1], models.forget_logits.shape[1], models.test_logits.shape[1])
    expected = (len(labels.retain), len(labels.forget), len(labels.test))
    if found != expected:
        raise ValueError(f"outputs on {found} retain, forget and test examples do not fit {expected} labels")
    if len(models) == 0 or min(expected) < 2:
        raise ValueError(f"a model and 2 examples of each set are needed, not {len(models)} and {expected}")


def _draw_halves(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return `count` indices, stratified by class; so is their first half, and so its complement."""
    drawn = _draw_stratified(labels, count, generator)
    first_half = _draw_stratified(labels[drawn], count // 2, generator)
    return np.concatenate([drawn[first_half], np.delete(drawn, first_half)])


def _draw_stratified(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return `count` indices without replacement, of each class its share to within one."""
    classes, sizes = np.unique(labels, return_counts=True)
    quotas, remainders = np.divmod(sizes * count, len(labels))
    largest = np.argsort(-remainders, kind="stable")[: count - quotas.sum()]
    quotas[largest] += 1
    of_class = [generator.permutation(np.flatnonzero(labels == label)) for label in classes]
    return np.concatenate([indices[:quota] for indices, quota in zip(of_class, quotas, strict=True)])


def _confidences(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return confidences (n, n_examples) in float32, as those of retain examples are stored."""
    return np.stack([logit_scaled_confidence(model, labels).astype(np.float32) for model in logits])


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the accuracy (n,) in percent."""
    return np.asarray(100 * (logits.argmax(-1) == labels).mean(axis=1))


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities (n_examples, n_classes), none below the floor's."""
    return np.maximum(scipy.special.log_softmax(logits.astype(np.float64), axis=-1), np.log(PROBABILITY_FLOOR))


def _consistency(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    unlearned: Predictions,
    retrained: Predictions,
    *,
    itself: float,
) -> Metric:
    """Return a consistency on the test set; that of retrained models leaves out what each gets against `itself`."""
    ours = measure(unlearned.test_logits, retrained.test_logits)
    return Metric.of(ours, _among(measure, retrained.test_logits, itself))


def _among(measure: Callable[[np.ndarray, np.ndarray], np.ndarray], logits: np.ndarray, itself: float) -> np.ndarray:
    """Return the measure of each model against the others, (m,); nothing of a single one."""
    m = len(logits)
    return (m * measure(logits, logits) - itself) / (m - 1) if m > 1 else np.array([])


def distances(logits: np.ndarray, retrained: np.ndarray) -> tuple[float, float | None]:
    """Return the mean `consistency_kl` of models and that of retrained ones among each other, None of a single one."""
    return float(consistency_kl(logits, retrained).mean()), _mean(_among(consistency_kl, retrained, 0.0))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _sd(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
