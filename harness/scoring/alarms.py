"""Signs that a score may not mean what it seems to: each asks a person to look, none changes a score.

The official metric is not maximised by retraining: clipped or coordinated outputs score up to 2.5 times as much, since
it discards every threshold beyond the range of the unlearned models. What such games do to the distribution is
compared here with what retrained models do among themselves, on random splits of the two pools together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness.scoring.coupling import coupling
from harness.scoring.epsilons import interval_epsilons
from harness.scoring.leakage import cramer_von_mises, support_leak, tie_fraction, window_mass
from harness.scoring.official import EPSILON_CAP, example_epsilons
from harness.scoring.thresholds import FEWEST_RANKED

__all__ = [
    "MAX_CODE",
    "MAX_LITERALS",
    "N_SPLITS",
    "Alarm",
    "Behaviour",
    "Null",
    "Standing",
    "alarms",
    "null_of",
    "of_file",
]

N_SPLITS = 100
OF_ONE_SIDE = {"ties", "coupling"}  # statistics of the unlearned models alone
# Over splits of 2 n models a mean of n has half the variance that it has over new models. From the mean of the splits,
# which has this half too, n new models differ by three times the variance of the splits.
TO_NEW_MODELS = math.sqrt(3)
EXTREME = -NormalDist().inv_cdf(0.0025)  # beyond the 99.75 % quantile: six statistics, 1.5 % in all at most
LEVEL = 0.01  # of the test against the ceiling
BEYOND = -NormalDist().inv_cdf(LEVEL)  # standard errors, at that level
MORE_TIES = 0.01  # than retrained models have: those of most models have none, those of forests do
SAME_OUTPUT = 1e-3  # of what a run changed: one that reads its forget set at all differs by far more under another one
MAX_LITERALS = 1024  # bytes after compression: some times what any baseline has, `python -m benchmarks.lookup`
MAX_CODE = 8192  # the same of all code; a table for few examples fits into what this leaves over
MATCHING_LEVEL = 0.005  # of either classifier two-sample test, whose p-values are multiples of it
COUPLING_RATIO = 0.9  # of what retrained models have: their own spread is so small that a little less is no sign
WINDOW_RATIO = 2.0  # an honest method with less spread than retraining crowds a little; atoms and bumps crowd a lot


@dataclass(frozen=True)
class Alarm:
    """One sign, with the value that raised it and the bound it is beyond."""

    name: str
    message: str
    value: float
    bound: float


@dataclass(frozen=True)
class Behaviour:
    """What alarms look at of n runs, in the order of the runs."""

    confidences: np.ndarray  # (n, n_forget)
    weights: np.ndarray  # (n,) names of the weights that came back
    distance: np.ndarray  # (n,) L2 distance to the original it started from
    order: np.ndarray  # (n,) its place among the runs made in one go: the one after it has the next
    original: np.ndarray  # (n,) the original it started from
    val_accuracy: np.ndarray  # (n,)
    test_accuracy: np.ndarray  # (n,)
    change_under_swap: float | None  # of the outputs under another forget set, over what runs change; None: not known
    coupling: float | None = None  # of outputs on the forget set with those on the test set; None: not known


@dataclass(frozen=True)
class Standing:
    """Where a submission stands beside retraining."""

    above_ceiling: float  # calibrated score minus 1
    standard_error: float
    p_values: tuple[float, ...]  # of tests that look at more than the true class's confidence of one example
    above_floor: float = 0.0  # calibrated score minus that of doing nothing


@dataclass(frozen=True)
class Null:
    """Mean and standard deviation of each statistic over splits of retrained models."""

    mean: dict[str, float]
    deviation: dict[str, float]
    val_advantage: float  # of retrained models: mean of val minus test accuracy
    val_advantage_deviation: float  # of one model

    def beyond(self, name: str, value: float, *, above: bool = True) -> tuple[bool, float]:
        """Return whether a value is too extreme for retrained models, and the bound."""
        sign = 1 if above else -1
        deviation = self.deviation[name] * (TO_NEW_MODELS if name in OF_ONE_SIDE else 1.0)
        bound = self.mean[name] + sign * EXTREME * deviation
        if name == "ties":
            bound = max(bound, self.mean[name] + MORE_TIES)
        if name == "window":
            bound = max(bound, WINDOW_RATIO * self.mean[name])
        if name == "coupling":
            bound = min(bound, COUPLING_RATIO * self.mean[name])
        return sign * (value - bound) > 0, bound


def _gap(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Mean of exact interval epsilon minus official epsilon: structure the official thresholds do not see."""
    official = example_epsilons(unlearned, retrained)
    exact = np.minimum(interval_epsilons(unlearned, retrained, discard_zeros=True), EPSILON_CAP)
    seen = np.isfinite(official) & (official < EPSILON_CAP)
    return float(np.mean(exact[seen] - official[seen])) if seen.any() else 0.0


STATISTICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    # NaN: saturated for all models, which is nobody's fault
    "ties": lambda u, _: float(np.mean(np.nan_to_num(tie_fraction(u)))),
    "window": lambda u, r: float(np.mean(window_mass(u, r))),
    "leak": lambda u, r: float(np.mean(support_leak(u, r).retrained_outside.share)),
    "gap": _gap,
    "fit": lambda u, r: float(np.mean(cramer_von_mises(u, r))),
}


def null_of(
    first_pool: np.ndarray,
    second_pool: np.ndarray,
    *,
    val_advantage: np.ndarray,
    similar: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
) -> Null:
    """Return how the statistics come out between retrained models.

    first_pool, second_pool: confidences (n, n_forget) each. val_advantage: val minus test accuracy of some of them.
    similar: how alike they are (2 n, 2 n), by the forget set and by the test set, if that is known.
    """
    together = np.concatenate([first_pool, second_pool])
    n = len(first_pool)
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in (*STATISTICS, *(["coupling"] if similar else []))}
    for _ in range(N_SPLITS):
        order = generator.permutation(len(together))
        ours, theirs = together[order[:n]], together[order[n:]]
        for name, statistic in STATISTICS.items():
            drawn[name].append(statistic(ours, theirs))
        if similar:
            drawn["coupling"].append(coupling(*(side[np.ix_(order[:n], order[:n])] for side in similar)))
    return Null(
        {name: float(np.mean(values)) for name, values in drawn.items()},
        {name: float(np.std(values)) for name, values in drawn.items()},
        float(np.mean(val_advantage)),
        float(np.std(val_advantage)),
    )


def alarms(runs: Behaviour, retrained: np.ndarray, null: Null, standing: Standing) -> list[Alarm]:
    """Return the signs found in some runs, none for honest ones as a rule.

    retrained: confidences (n, n_forget) they were scored against.
    """
    found = [*_of_weights(runs), *_of_ceiling(standing), *_of_val(runs, null), *_of_forget_set(runs)]
    found += _of_coupling(runs, null, standing)
    if not any(alarm.name == "runs identical" for alarm in found):  # ties are then no news
        found += _of_distribution(runs.confidences, retrained, null)
        found += _of_order(runs)
        found += _of_matching(standing)
    return found


def of_file(literals: int, code: int) -> list[Alarm]:
    """Return the sign that a file holds more than a method needs.

    literals, code: bytes that its literals and all of its code take when compressed.
    """
    rest = "what does it hold beside a method?"
    if literals > MAX_LITERALS:
        message = f"numbers and texts in the file take {literals / 1024:.1f} KB when compressed: {rest}"
        return [Alarm("data in the file", message, literals, MAX_LITERALS)]
    if code > MAX_CODE:
        message = f"the code takes {code / 1024:.1f} KB when compressed: {rest}"
        return [Alarm("data in the file", message, code, MAX_CODE)]
    return []


def _of_weights(runs: Behaviour) -> list[Alarm]:
    n_distinct, unchanged = len(np.unique(runs.weights)), float(np.mean(runs.distance == 0))
    found = []
    if unchanged > 0:
        found.append(
            Alarm("weights unchanged", f"{unchanged:.0%} of the runs returned the original model", unchanged, 0)
        )
    if n_distinct < len(runs.weights):
        message = (
            f"only {n_distinct} of {len(runs.weights)} runs have weights of their own: the official score is low "
            "because runs repeat, not because nothing was forgotten; see the full-stack metrics"
        )
        found.append(Alarm("runs identical", message, float(n_distinct), float(len(runs.weights))))
    return found


def _of_ceiling(standing: Standing) -> list[Alarm]:
    z = standing.above_ceiling / standing.standard_error if standing.standard_error > 0 else 0.0
    message = "the calibrated score is above what retraining gets, beyond its noise"
    return [Alarm("above ceiling", message, z, BEYOND)] if z > BEYOND else []


def _of_matching(standing: Standing) -> list[Alarm]:
    """A score no lower than that of retraining, of models that are not like retrained ones in what is not scored."""
    reaches_ceiling = standing.above_ceiling + BEYOND * standing.standard_error >= 0
    p_value = min(standing.p_values, default=1.0)
    message = "scored like retraining, yet other outputs tell the models apart: only what is scored was matched"
    found = reaches_ceiling and p_value <= MATCHING_LEVEL
    return [Alarm("margin-only matching", message, p_value, MATCHING_LEVEL)] if found else []


def _of_forget_set(runs: Behaviour) -> list[Alarm]:
    change = runs.change_under_swap
    message = "the outputs were the same with other examples to forget: what is forgotten is not looked at"
    if change is None or change > SAME_OUTPUT:
        return []
    return [Alarm("same output for another forget set", message, change, SAME_OUTPUT)]


def _of_coupling(runs: Behaviour, null: Null, standing: Standing) -> list[Alarm]:
    """A score that is better than nothing, of models whose outputs on the forget set lead a life of their own.

    Methods that work on the forget set alone may come apart from the rest as well, and score below doing nothing.
    """
    if runs.coupling is None or "coupling" not in null.mean or standing.above_floor <= 0:
        return []
    beyond, bound = null.beyond("coupling", runs.coupling, above=False)
    message = (
        "how runs differ on the forget set does not go with how they differ on the test set: outputs from a table?"
    )
    return [Alarm("forget set apart", message, runs.coupling, bound)] if beyond else []


def _of_val(runs: Behaviour, null: Null) -> list[Alarm]:
    """Accuracy on val, compared with that on test, as no model has it that was not trained on val."""
    advantage = float(np.mean(runs.val_accuracy - runs.test_accuracy))
    bound = null.val_advantage + 4 * max(null.val_advantage_deviation, 1e-3)
    message = f"accuracy on val is {advantage - null.val_advantage:+.1%} beyond what test promises: trained on val?"
    return [Alarm("val accuracy", message, advantage, bound)] if advantage > bound else []


def _of_distribution(unlearned: np.ndarray, retrained: np.ndarray, null: Null) -> list[Alarm]:
    values = {name: statistic(unlearned, retrained) for name, statistic in STATISTICS.items()}
    found = []
    messages = {
        "ties": f"{values['ties']:.1%} of the confidences repeat: outputs were rounded or clipped",
        "window": "many models share almost the same confidence",
        "leak": "retrained models often lie outside the range of these: runs differ too little, or tails were cut",
        "gap": "the distributions differ in a way the official thresholds do not see",
    }
    for name, message in messages.items():
        beyond, bound = null.beyond(name, values[name])
        if beyond:
            found.append(Alarm(name, message, values[name], bound))
    beyond, bound = null.beyond("fit", values["fit"], above=False)
    if beyond:
        found.append(Alarm("fit", "the fit is better than independent runs give", values["fit"], bound))
    return found


def _of_order(runs: Behaviour) -> list[Alarm]:
    """Runs that depend on the one started before: their correlation along the first principal component.

    Originals come in turns, so what runs have of theirs is taken out first: it repeats in any case.
    """
    follows = np.flatnonzero(np.diff(runs.order) == 1)
    if len(follows) < FEWEST_RANKED - 1:
        return []
    component = np.linalg.svd(_less_original(runs), full_matrices=False)[0][:, 0]
    correlation = float(np.corrcoef(component[follows], component[follows + 1])[0, 1])
    bound = 4 / np.sqrt(len(follows))
    message = "a run's outputs depend on the run before: runs must be independent"
    return [Alarm("run dependence", message, correlation, bound)] if abs(correlation) > bound else []


def _less_original(runs: Behaviour) -> np.ndarray:
    """Return confidences (n, n_forget) less the mean of runs from the same original; of all, if one has one run."""
    _, member, counts = np.unique(runs.original, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        member, counts = np.zeros(len(member), int), np.array([len(member)])
    sums = np.zeros((len(counts), runs.confidences.shape[1]))
    np.add.at(sums, member, runs.confidences)
    return np.asarray(runs.confidences - (sums / counts[:, None])[member])
