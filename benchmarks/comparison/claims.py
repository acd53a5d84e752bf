"""What is asked of the comparison. All criteria were fixed before its result was looked at."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.claims import Claim
from benchmarks.verdicts import Interval, Verdict, above, below, t_interval

__all__ = ["claims"]

Rows = Sequence[dict[str, Any]]
EXACT = ("sisa", "dare_forest, RANDOM_LEVELS 0", "dare_forest, RANDOM_LEVELS 4")


def claims(rows: Rows) -> list[Claim]:
    """Return the verdicts."""
    return [*exact(rows), *batches(rows), deltagrad(rows), speed(rows)]


def exact(rows: Rows) -> list[Claim]:
    """Return whether the exact methods give, bit for bit, what training again gives, and whether others never do."""
    found = []
    for name in EXACT:
        equal = [bool(row["exact"]) for row in _of(rows, name)]
        verdict = Verdict.HOLDS if all(equal) else Verdict.REFUTED
        found.append(Claim(f"`{name}` is exact, bit for bit", verdict, f"{sum(equal)} of {len(equal)} requests"))
    return found


def batches(rows: Rows) -> list[Claim]:
    """Return whether eight batches come closer to the twin than one, and take longer."""
    said = []
    for name in ("fisher_removal", "influence_removal"):
        closer = _paired(rows, f"{name}, m/8", f"{name}, m", lambda row: float(np.log10(row["distance"] + 1e-12)))
        slower = _paired(rows, f"{name}, m/8", f"{name}, m", lambda row: float(np.log10(row["efficiency"])))
        said.append(_below(f"`{name}`: batches of m/8 end closer to retraining than one of m", closer))
        said.append(_below(f"`{name}`: batches of m/8 gain less time than one of m", slower))
    return said


def deltagrad(rows: Rows) -> Claim:
    """Return whether more exact steps bring DeltaGrad closer to its twin."""
    closer = _paired(rows, "deltagrad, T0 5", "deltagrad, T0 50", lambda row: float(np.log10(row["distance"] + 1e-12)))
    return _below("`deltagrad`: T0 = 5 ends closer to retraining than T0 = 50", closer)


def speed(rows: Rows) -> Claim:
    """Return whether SISA gains time on single requests, as its work does by its formula."""
    single = [row for row in _of(rows, "sisa") if row["forgotten"] == 1]
    gained = _of_seeds([(row["seed"], float(np.log10(row["efficiency"]))) for row in single])
    return Claim("`sisa` is faster than training again on single requests", above(gained), _times(gained))


def _of(rows: Rows, name: str) -> Rows:
    return [row for row in rows if row["method"] == name]


def _paired(rows: Rows, one: str, other: str, of: Callable[[dict[str, Any]], float]) -> Interval:
    """Return the interval of a difference within requests and seeds."""
    pairs = zip(_of(rows, one), _of(rows, other), strict=True)
    return _of_seeds([(ours["seed"], of(ours) - of(theirs)) for ours, theirs in pairs])


def _of_seeds(values: Sequence[tuple[int, float]]) -> Interval:
    """Return the interval of the mean over seeds of each seed's own mean: its requests share their models."""
    seeds = sorted({seed for seed, _ in values})
    return t_interval([float(np.mean([value for other, value in values if other == seed])) for seed in seeds])


def _below(claim: str, interval: Interval) -> Claim:
    return Claim(claim, below(interval), f"{_times(interval)} as much")


def _times(interval: Interval) -> str:
    """Return an interval of a common logarithm as one of a factor."""
    return f"{10**interval.mean:.2g} times ({10**interval.low:.2g} to {10**interval.high:.2g})"
