"""Membership attacks of the literature on fixed forget sets: U-LiRA, RULI, KLoM.

The first two score held-out models by the ratio of two fitted densities, one per side; they differ in the density.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.scoring.samples import check_samples, fold_count, fold_labels, pooled_counts

__all__ = ["Attack", "HeldOutScores", "auc", "gaussian_log_ratios", "klom", "ruli", "u_lira"]

LogDensity = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of training rows and of points: (n_points, n_examples)

LOG_2_PI = float(np.log(2 * np.pi))
FEWEST_FOR_1_PERCENT = 100
SILVERMAN = 1.06  # bandwidth 1.06 sd n^(-1/5); RULI's own code defaults to 1.0 whatever the scale
KLOM_BINS, KLOM_CLIP, KLOM_FLOOR = 20, 100.0, 1e-5


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of models by a rule that was fitted without them, larger for "unlearned", and the fold of each model."""

    unlearned: np.ndarray  # (n_unlearned, n_examples)
    retrained: np.ndarray  # (n_retrained, n_examples)
    unlearned_fold: np.ndarray  # (n_unlearned,)
    retrained_fold: np.ndarray  # (n_retrained,)

    @property
    def n_folds(self) -> int:
        return int(self.unlearned_fold.max()) + 1

    @property
    def n_pairs(self) -> float:
        """How many pairs of models of the same fold there are, to within the rounding of folds."""
        return len(self.unlearned) * len(self.retrained) / self.n_folds

    def mean_auc(self) -> np.ndarray:
        """Return the AUC averaged over folds, (n_examples,); scores of different folds are never compared."""
        ours, theirs = self.unlearned_fold, self.retrained_fold
        folds = [auc(self.unlearned[ours == f], self.retrained[theirs == f]) for f in range(self.n_folds)]
        return np.asarray(np.mean(folds, axis=0))


@dataclass(frozen=True)
class Attack:
    """How well an attack tells the sides apart, per example: arrays (n_examples,)."""

    accuracy: np.ndarray  # of "unlearned where the ratio is above 1", the sides weighing the same
    auc: np.ndarray
    tpr: np.ndarray  # unlearned models found at 1 % false alarms among retrained; NaN below 100 retrained models
    reversed_tpr: np.ndarray  # the same with the sides exchanged


def auc(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return P(unlearned > retrained) + P(equal) / 2 per example, (n_examples,); arrays (n_models, n_examples)."""
    counts = pooled_counts(unlearned, retrained)
    steps = np.diff(counts.unlearned, axis=1)
    pairs = (steps * (counts.retrained[:, 1:] + counts.retrained[:, :-1])).sum(axis=1)
    return np.asarray(pairs / (2.0 * len(unlearned) * len(retrained)))


def gaussian_log_ratios(
    unlearned: np.ndarray, retrained: np.ndarray, *, generator: np.random.Generator
) -> HeldOutScores:
    """Return the log ratio of two Gaussians fitted to the other folds, for every model and example, in nats.

    unlearned, retrained: (n_models, n_examples), finite, at least 4 models a side; 5 folds from 20 models on.
    """
    return _held_out(unlearned, retrained, _gaussian_log_density, generator)


def u_lira(unlearned: np.ndarray, retrained: np.ndarray, *, generator: np.random.Generator) -> Attack:
    """Attack every example by the ratio of two Gaussians: U-LiRA with the forget set held fixed.

    unlearned, retrained: confidences (n_models, n_examples), finite, at least 4 models a side.
    Null at N = 512: AUC .499 +- .024, accuracy .499 +- .020, TPR .010 +- .006. Power: accuracy .548 / .597 / .691 /
    .842 at a shift of .25 / .5 / 1 / 2 sd, .552 at std .8, .66 at std .5 or 2; TPR .016 / .032 / .092 / .388.
    Source: Hayes et al. (arXiv 2403.01218). Score retain examples too: unlearning can expose them.
    """
    return _attack(_held_out(unlearned, retrained, _gaussian_log_density, generator))


def ruli(unlearned: np.ndarray, retrained: np.ndarray, *, generator: np.random.Generator) -> Attack:
    """Attack every example by the ratio of two kernel densities, unlearned against retrained: RULI.

    Arguments as in `u_lira`, which it beats where a side has two modes. About 3 s for 500 examples at N = 512.
    Null: AUC .502 +- .022, accuracy .502 +- .019, TPR .009. Power: AUC .563 / .631 / .759 / .920 at a shift of
    .25 / .5 / 1 / 2 sd, .558 at std .8, .70 at std .5 or 2. Source: RULI (arXiv 2506.13009).
    """
    return _attack(_held_out(unlearned, retrained, _kernel_log_density, generator))


def klom(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    binning: Literal["exact_source", "include_max"] = "exact_source",
) -> np.ndarray:
    """Return the binned divergence KL(unlearned || retrained) of every example, (n_examples,), in nats: KLoM.

    unlearned, retrained: margins (n_models, n_examples), clipped to +-100; 20 equal bins over the pooled range; empty
    bins of retrained count as 1e-5, so that it ends at about 11.5. `exact_source` drops the pooled maximum, which the
    source's binning leaves out (NaN if that was all of unlearned); `include_max` puts it into the last bin.
    Null .86 / .33 / .05 / .011 at N = 50 / 100 / 512 / 2048: state N, subtract retrained against retrained. Power: .55
    at N = 100 and .19 at 512 for a shift of half a sd. Raises ValueError on another binning.
    Source: arXiv 2410.23232, appendix E.1; RoyRin/data-unlearning-bench, `src/eval.py`.
    """
    if binning not in ("exact_source", "include_max"):
        raise ValueError(f"binning must be exact_source or include_max, not {binning!r}")
    sides = [np.clip(side, -KLOM_CLIP, KLOM_CLIP) for side in check_samples(unlearned, retrained)]
    low = np.minimum(*(side.min(axis=0) for side in sides))
    high = np.maximum(*(side.max(axis=0) for side in sides))
    edges = np.linspace(low, np.where(high > low, high, low + 1), KLOM_BINS + 1)
    p, q = (_bin_shares(side, edges, include_max=binning == "include_max") for side in sides)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The source floors q where p > 0 only, and normalises it after that.
        q = np.where(p > 0, np.maximum(q, KLOM_FLOOR), q)
        terms = np.where(p > 0, p * np.log(p / (q / q.sum(axis=0))), 0.0)
    return np.where(p.any(axis=0), terms.sum(axis=0), np.nan)


def _bin_shares(values: np.ndarray, edges: np.ndarray, *, include_max: bool) -> np.ndarray:
    """Return the share of values (n_models, n_examples) in each bin [edge, next edge), (KLOM_BINS, n_examples)."""
    at_or_above = np.array([(values >= edge).sum(axis=0) for edge in edges])
    counts = at_or_above[:-1] - at_or_above[1:]
    if include_max:
        counts[-1] += at_or_above[-1]
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1))


def _held_out(
    unlearned: np.ndarray, retrained: np.ndarray, log_density: LogDensity, generator: np.random.Generator
) -> HeldOutScores:
    """Score every model by the log ratio of densities that were fitted to the folds it is not in."""
    unlearned, retrained = check_samples(unlearned, retrained, fewest=4)
    folds = fold_count(min(len(unlearned), len(retrained)))
    labels = [fold_labels(len(side), folds, generator) for side in (unlearned, retrained)]
    scores = [np.empty_like(side) for side in (unlearned, retrained)]
    for fold in range(folds):
        ours, theirs = unlearned[labels[0] != fold], retrained[labels[1] != fold]
        for side, label, score in zip((unlearned, retrained), labels, scores, strict=True):
            points = side[label == fold]
            score[label == fold] = log_density(ours, points) - log_density(theirs, points)
    return HeldOutScores(*scores, *labels)


def _gaussian_log_density(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the log density at points of the Gaussian fitted to rows."""
    deviation = _deviation(rows)
    return np.asarray(-0.5 * (((points - rows.mean(axis=0)) / deviation) ** 2 + LOG_2_PI) - np.log(deviation))


def _kernel_log_density(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the log density at points of Gaussian kernels on rows, one example after another to save memory."""
    bandwidth = SILVERMAN * _deviation(rows) * len(rows) ** -0.2
    densities = np.empty_like(points)
    for example, width in enumerate(bandwidth):
        squares = ((points[:, example, None] - rows[None, :, example]) / width) ** 2
        nearest = squares.min(axis=1, keepdims=True)  # taken out, so that a far point has a density and not log 0
        kernels = np.exp(-0.5 * (squares - nearest)).mean(axis=1)
        densities[:, example] = np.log(kernels) - 0.5 * (nearest[:, 0] + LOG_2_PI) - np.log(width)
    return densities


def _deviation(rows: np.ndarray) -> np.ndarray:
    """Return the standard deviation of every example, (n_examples,), kept above the rounding error of a constant."""
    return np.asarray(np.maximum(rows.std(axis=0, ddof=1), 1e-9 * np.maximum(np.abs(rows).max(axis=0), 1e-9)))


def _attack(scores: HeldOutScores) -> Attack:
    """Return what an attacker reaches with these scores."""
    found = (_above_zero(scores.unlearned) + 1 - _above_zero(scores.retrained)) / 2
    return Attack(
        accuracy=found,
        auc=scores.mean_auc(),
        tpr=_rate_at_1_percent(scores.unlearned, scores.retrained),
        reversed_tpr=_rate_at_1_percent(-scores.retrained, -scores.unlearned),
    )


def _above_zero(scores: np.ndarray) -> np.ndarray:
    """Return the share of scores above 0, a score of exactly 0 counting as a half."""
    return np.asarray((np.sign(scores) + 1).mean(axis=0) / 2)


def _rate_at_1_percent(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the share of positives strictly above a threshold that at most 1 % of negatives exceed, (n_examples,)."""
    if len(negatives) < FEWEST_FOR_1_PERCENT:
        return np.full(negatives.shape[1], np.nan)
    allowed = len(negatives) // 100
    threshold = np.sort(negatives, axis=0)[-1 - allowed]
    return np.asarray((positives > threshold).mean(axis=0))
