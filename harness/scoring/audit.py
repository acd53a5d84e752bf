"""Everything the estimators say about one submission, as plain numbers: what is shown beside the official score."""

import zlib
from dataclasses import dataclass

import numpy as np

from harness.scoring.attacks import klom, u_lira
from harness.scoring.bounds import cross_fitted_bounds
from harness.scoring.epsilons import default_min_count, min_count_epsilons, smooth_quality
from harness.scoring.leakage import cramer_von_mises, support_leak, tie_fraction, window_mass
from harness.scoring.samples import check_samples
from harness.scoring.tradeoff import PROFILE_EPSILONS, divergences, mus
from harness.scoring.two_sample import TwoSampleTest, logit_test, set_level_test
from harness.scoring.uncertainty import half_samples

__all__ = ["Audit", "Estimates", "Traces", "audit"]

HALF_SAMPLES = 50  # gives the standard error itself to within 10 %
FEWEST_FOR_TRACES, FEWEST_FOR_ESTIMATES = 2, 8  # models a side; halves of 8 are just enough for folds


@dataclass(frozen=True)
class Estimates:
    """How far the sides are apart, over examples; the estimators' docstrings have units, null and power."""

    min_count: int  # k of the epsilons, on the smaller side
    epsilon_median: float  # of the min-count epsilons, nats
    epsilon_95: float  # 95 % quantile
    smooth_quality: float  # Q
    mu_mean: float  # of Gaussian differential privacy
    mu_se: float  # of mu_mean, over redraws of models
    mu_median: float
    mu_95: float
    certified_share: float  # examples whose cross-fitted bound is above 0, each at level .95
    certified_median: float  # median lower bound, nats
    divergences: dict[str, float]  # epsilon -> mean hockey-stick divergence
    lira_accuracy: float  # of U-LiRA, like the next three
    lira_auc: float
    lira_tpr: float | None  # at 1 % false alarms; None below 100 models
    lira_reversed_tpr: float | None
    set_level: TwoSampleTest  # on confidences on the whole forget set
    all_logits: TwoSampleTest | None  # None where no logits were given


@dataclass(frozen=True)
class Traces:
    """How the unlearned sample was made, as means over examples: the material of alarms."""

    retrained_outside: float  # share of retrained models outside the range of unlearned ones
    unlearned_outside: float
    tie_fraction: float | None  # None if all confidences are saturated
    window_mass: float
    cramer_von_mises: float
    klom: float | None  # nats; falls with the number of models


@dataclass(frozen=True)
class Audit:
    """What the estimators say of n unlearned against m retrained models; ready for JSON by `dataclasses.asdict`."""

    n_unlearned: int
    n_retrained: int
    n_examples: int
    estimates: Estimates | None  # None below 8 models a side
    traces: Traces


def audit(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    logits: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int,
    max_examples: int = 500,
) -> Audit:
    """Return the audit of n unlearned against m retrained models, in about 2 s at N = 512 and 500 examples.

    unlearned, retrained: confidences (n_models, n_examples), finite, at least 2 models a side. logits: of both sides,
    (n_models, n_examples, n_classes). Of more than `max_examples` examples a random subset is taken. The same seed
    gives the same numbers; each member draws by itself.
    """
    unlearned, retrained = check_samples(unlearned, retrained, fewest=FEWEST_FOR_TRACES)
    chosen = _choose(unlearned.shape[1], max_examples, _generator(seed, "examples"))
    unlearned, retrained = unlearned[:, chosen], retrained[:, chosen]
    chosen_logits = None if logits is None else (logits[0][:, chosen], logits[1][:, chosen])
    enough = min(len(unlearned), len(retrained)) >= FEWEST_FOR_ESTIMATES
    return Audit(
        n_unlearned=len(unlearned),
        n_retrained=len(retrained),
        n_examples=len(chosen),
        estimates=_estimates(unlearned, retrained, chosen_logits, seed) if enough else None,
        traces=_traces(unlearned, retrained),
    )


def _estimates(
    unlearned: np.ndarray, retrained: np.ndarray, logits: tuple[np.ndarray, np.ndarray] | None, seed: int
) -> Estimates:
    """Return what needs models to split and fit."""
    epsilons = min_count_epsilons(unlearned, retrained)
    mu = mus(unlearned, retrained, generator=_generator(seed, "mu"))
    bounds = cross_fitted_bounds(unlearned, retrained, generator=_generator(seed, "bounds"))
    profile = divergences(unlearned, retrained, generator=_generator(seed, "divergences")).mean(axis=1)
    attack = u_lira(unlearned, retrained, generator=_generator(seed, "attack"))
    return Estimates(
        min_count=default_min_count(min(len(unlearned), len(retrained))),
        epsilon_median=float(np.median(epsilons)),
        epsilon_95=float(np.quantile(epsilons, 0.95)),
        smooth_quality=smooth_quality(epsilons),
        mu_mean=float(mu.mean()),
        mu_se=_mu_standard_error(unlearned, retrained, seed),
        mu_median=float(np.median(mu)),
        mu_95=float(np.quantile(mu, 0.95)),
        certified_share=float((bounds > 0).mean()),
        certified_median=float(np.median(bounds)),
        divergences={f"{epsilon:g}": float(value) for epsilon, value in zip(PROFILE_EPSILONS, profile, strict=True)},
        lira_accuracy=float(attack.accuracy.mean()),
        lira_auc=float(attack.auc.mean()),
        lira_tpr=_mean(attack.tpr),
        lira_reversed_tpr=_mean(attack.reversed_tpr),
        set_level=set_level_test(unlearned, retrained, generator=_generator(seed, "set")),
        all_logits=None if logits is None else logit_test(*logits, generator=_generator(seed, "logits")),
    )


def _traces(unlearned: np.ndarray, retrained: np.ndarray) -> Traces:
    """Return what a single look at both samples shows."""
    leak = support_leak(unlearned, retrained)
    return Traces(
        retrained_outside=float(leak.retrained_outside.share.mean()),
        unlearned_outside=float(leak.unlearned_outside.share.mean()),
        tie_fraction=_mean(tie_fraction(unlearned)),
        window_mass=float(window_mass(unlearned, retrained).mean()),
        cramer_von_mises=float(cramer_von_mises(unlearned, retrained).mean()),
        klom=_mean(klom(unlearned, retrained)),
    )


def _generator(seed: int, member: str) -> np.random.Generator:
    """Return a generator of a member's own, so that a new member does not move the numbers of the others."""
    return np.random.default_rng([seed, zlib.crc32(member.encode())])


def _choose(n_examples: int, most: int, generator: np.random.Generator) -> np.ndarray:
    """Return which examples are audited, in their order."""
    if n_examples <= most:
        return np.arange(n_examples)
    return np.sort(generator.choice(n_examples, most, replace=False))


def _mean(values: np.ndarray) -> float | None:
    """Return the mean of the values that are numbers; None if there are none."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else None


def _mu_standard_error(unlearned: np.ndarray, retrained: np.ndarray, seed: int) -> float:
    """Return the standard error of the mean mu from half-samples of models, drawn for all examples jointly.

    The spread over examples would miss that they share their models. Unlike that of F it needs no inflation.
    """
    generator = _generator(seed, "half-samples")
    ours, theirs = (
        half_samples(np.zeros(len(side)), n_samples=HALF_SAMPLES, seed=seed + place)
        for place, side in enumerate((unlearned, retrained))
    )
    means = [mus(unlearned[u], retrained[r], generator=generator).mean() for u, r in zip(ours, theirs, strict=True)]
    return float(np.std(means))
