"""Classifier two-sample tests on whole models: over confidences on the whole forget set, and over all logits.

Definition 3.1 of the challenge is about the set jointly; the largest epsilon of single examples is only a lower bound
of the joint one, and single examples see nothing but the true class. Here one row is one model.

p-values come from permuted labels. Comparing cross-validated accuracy with a binomial deviation would reject 13-15 %
of nulls at a nominal 5 %, because folds share their training rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.scoring.bounds import RATES_BOUNDED, Value, epsilon_value, held_out_value
from harness.scoring.samples import Samples, check_samples, fold_count, fold_labels, random_halves
from harness.scoring.tradeoff import mu_from_auc, mu_value

__all__ = ["TwoSampleTest", "logit_test", "set_level_test"]

# Of training rows and of other rows: their features, standardised by the training rows, (n_rows, n_features) each.
Expand = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

RIDGE = 0.3  # of a standardised feature's own sum of squares
SUMMARY_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST_MODELS = 8  # halves of 4, which cross-validate


@dataclass(frozen=True)
class TwoSampleTest:
    """How well a ridge classifier tells unlearned from retrained models it has not seen."""

    auc: float  # mean over folds
    mu: float  # sqrt 2 Phi^-1(auc)
    p_value: float  # share of relabelings that do as well, the actual labels among them
    mu_lower: float  # mu_L, at level 1 - alpha
    epsilon_lower: float  # in nats, at level 1 - alpha


def set_level_test(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    generator: np.random.Generator,
    permutations: int = 199,
    alpha: float = 0.05,
) -> TwoSampleTest:
    """Test whether a model's confidences on the whole forget set tell which side it is from.

    unlearned, retrained: (n_models, n_examples), finite, at least 8 models a side. Features are the confidences and
    their mean, deviation and quantiles. Any other matrix with one row per model will do as well.
    Null at N = 512: AUC .498 +- .027, p uniform. Power for examples correlated .3 and shifts of random sign: AUC .569 /
    .688 / .918 at .05 / .1 / .25 sd with 50 examples, .655 / .863 / .999 with 300.
    """
    unlearned, retrained = check_samples(unlearned, retrained, fewest=FEWEST_MODELS)
    sides = [np.concatenate([side, _summaries(side)], axis=1) for side in (unlearned, retrained)]
    return _test(sides[0], sides[1], _standardised, generator, permutations, alpha)


def logit_test(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    generator: np.random.Generator,
    permutations: int = 199,
    alpha: float = 0.05,
) -> TwoSampleTest:
    """Test whether a model's logits, and their squares and products, tell which side it is from.

    unlearned, retrained: (n_models, n_examples, n_classes), finite, at least 8 models a side; the logits of one
    example (`logits[:, [i]]`), of all or of a probe set. They are centred over classes and standardised per example;
    features are averages over examples, so that one rule serves them all.
    Null at N = 512: AUC .497 +- .026. Power with equal margins of the true class and a leak in the difference of two
    wrong logits: AUC .549 / .647 if it is shifted by .35 / .7 of its deviation, .65 if its spread is doubled.
    """
    sides = []
    for side in (unlearned, retrained):
        if np.ndim(side) != 3:
            raise ValueError(f"logits must be (n_models, n_examples, n_classes), not {np.shape(side)}")
        sides.append(np.asarray(side, np.float64))
    shape = sides[0].shape[1:]
    flat = [side.reshape(len(side), -1) for side in sides]
    checked = check_samples(*flat, fewest=FEWEST_MODELS)
    logits = [side.reshape(-1, *shape) for side in checked]
    centred = [side - side.mean(axis=2, keepdims=True) for side in logits]
    return _test(centred[0], centred[1], _with_products, generator, permutations, alpha)


def _summaries(confidences: np.ndarray) -> np.ndarray:
    """Return mean, deviation and quantiles over examples of every model, (n_models, 7)."""
    quantiles = np.quantile(confidences, SUMMARY_QUANTILES, axis=1)
    return np.column_stack([confidences.mean(axis=1), confidences.std(axis=1), *quantiles])


def _test(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    expand: Expand,
    generator: np.random.Generator,
    permutations: int,
    alpha: float,
) -> TwoSampleTest:
    """Cross-validate, relabel and bound; rows are models, whatever their further axes."""
    rows, labels = _pool(unlearned, retrained)
    folds = _stratified_folds(labels, generator)
    aucs = _mean_aucs(rows, _relabelled(labels, folds, permutations, generator), folds, expand)
    n_pairs = len(unlearned) * len(retrained) / (folds.max() + 1)
    mu_lower, epsilon_lower = _bounds(unlearned, retrained, expand, generator, alpha)
    return TwoSampleTest(
        auc=float(aucs[0]),
        mu=float(mu_from_auc(aucs[0], n_pairs=n_pairs)),
        p_value=float((aucs >= aucs[0]).mean()),
        mu_lower=mu_lower,
        epsilon_lower=epsilon_lower,
    )


def _pool(unlearned: np.ndarray, retrained: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all rows, unlearned first, and which of them are unlearned."""
    return np.concatenate([unlearned, retrained]), np.arange(len(unlearned) + len(retrained)) < len(unlearned)


def _stratified_folds(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the fold of every row, with equal shares of both sides in each."""
    n, m = int(labels.sum()), int((~labels).sum())
    folds = fold_count(min(n, m))
    return np.concatenate([fold_labels(n, folds, generator), fold_labels(m, folds, generator)])


def _relabelled(labels: np.ndarray, folds: np.ndarray, permutations: int, generator: np.random.Generator) -> np.ndarray:
    """Return labels (n_rows, 1 + permutations): the actual ones, then permutations within folds.

    Within folds, because the folds were drawn knowing the labels: any such relabeling would have drawn them too.
    """
    columns = np.tile(labels[:, None], (1, 1 + permutations))
    for fold in range(folds.max() + 1):
        members = folds == fold
        columns[members, 1:] = generator.permuted(columns[members, 1:], axis=0)
    return columns


def _mean_aucs(rows: np.ndarray, labels: np.ndarray, folds: np.ndarray, expand: Expand) -> np.ndarray:
    """Return the AUC averaged over folds for every column of labels, (n_columns,)."""
    scores = _held_out_scores(rows, labels, folds, expand)
    return np.asarray(np.mean([_aucs(scores[folds == f], labels[folds == f]) for f in range(folds.max() + 1)], axis=0))


def _aucs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the AUC of every column of scores against the same column of labels."""
    from scipy import stats  # a second's import

    n, m = labels.sum(axis=0), (~labels).sum(axis=0)
    ranks = (stats.rankdata(scores, axis=0) * labels).sum(axis=0)
    return np.asarray((ranks - n * (n + 1) / 2) / (n * m))


def _held_out_scores(rows: np.ndarray, labels: np.ndarray, folds: np.ndarray, expand: Expand) -> np.ndarray:
    """Score every row by the rule fitted to the other folds, (n_rows, n_columns), once per column of labels."""
    scores = np.empty(labels.shape)
    for fold in range(folds.max() + 1):
        held_out = folds == fold
        scores[held_out] = _fit(rows[~held_out], labels[~held_out], rows[held_out], expand)
    return scores


def _fit(train: np.ndarray, labels: np.ndarray, rows: np.ndarray, expand: Expand) -> np.ndarray:
    """Return the ridge regression of labels (n_train, n_columns) on train, taken at rows, (n_rows, n_columns).

    Features do not know the labels: all columns share one factorisation, and a permutation costs a multiplication.
    """
    features, others = expand(train, rows)
    targets = labels.astype(np.float64)  # no intercept: it would move all scores alike
    penalty = RIDGE * len(train)
    if features.shape[1] < len(train):
        gram = features.T @ features
        weights = _solve(gram, penalty, features.T @ targets)
    else:
        weights = features.T @ _solve(features @ features.T, penalty, targets)
    return np.asarray(others @ weights)


def _solve(gram: np.ndarray, penalty: float, targets: np.ndarray) -> np.ndarray:
    """Solve (gram + penalty) x = targets."""
    from scipy import linalg

    gram.flat[:: len(gram) + 1] += penalty
    return np.asarray(linalg.solve(gram, targets, assume_a="pos", overwrite_a=True))


def _standardised(train: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both with the training rows' mean and deviation taken out; a constant column becomes 0."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 1e-9 * np.abs(mean), deviation, np.inf)
    return (train - mean) / scale, (rows - mean) / scale


def _with_products(train: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return averages over examples of standardised logits and of their products, standardised once more."""
    first, second = np.triu_indices(train.shape[2])

    def averages(logits: np.ndarray) -> np.ndarray:
        products = logits.transpose(0, 2, 1) @ logits / logits.shape[1]
        return np.concatenate([logits.mean(axis=1), products[:, first, second]], axis=1)

    standardised = _standardised(train, rows)
    return _standardised(*map(averages, standardised))


def _bounds(
    unlearned: np.ndarray, retrained: np.ndarray, expand: Expand, generator: np.random.Generator, alpha: float
) -> tuple[float, float]:
    """Return mu_L and the lower bound of epsilon, both at least 0, from rules fitted and chosen on the other half."""
    first, second = random_halves(unlearned, retrained, generator)
    scored = [_scored(choose, judge, expand, generator) for choose, judge in ((first, second), (second, first))]

    def larger(value: Value) -> float:
        return max(0.0, *(float(held_out_value(*pair, value, level=alpha / RATES_BOUNDED)[0]) for pair in scored))

    return larger(mu_value), larger(epsilon_value)


def _scored(choose: Samples, judge: Samples, expand: Expand, generator: np.random.Generator) -> tuple[Samples, Samples]:
    """Return scores (n_models, 1) of both pairs of samples by a rule that knows `choose` only.

    Those of `choose` itself are cross-validated, or the threshold picked from them would be that of an overfit.
    """
    rows, labels = _pool(*choose)
    own = _held_out_scores(rows, labels[:, None], _stratified_folds(labels, generator), expand)
    other = _fit(rows, labels[:, None], np.concatenate(judge), expand)
    n, k = len(choose.unlearned), len(judge.unlearned)
    return Samples(own[:n], own[n:]), Samples(other[:k], other[k:])
