"""The 160,000 intervals of the official metric, found without looking at each of them.

The released code compares every model with every interval. Here intervals that hold the same models are one. Which
models an interval may hold is bounded first, for all right ends at once; only pairs of ends that could tell the sides
apart better than the single thresholds do are looked for on the grids, the best first, to the last bit of every end.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from harness.scoring.pooled import NONE, Pooled, epsilons_of_errors, positions

__all__ = ["raise_by_intervals"]

THRESHOLDS_PER_UNIT = 100
BUFFER = 2.0  # how far intervals reach beyond the narrower sample, or fall short of it, in logits
N_LEFT = round(THRESHOLDS_PER_UNIT * 2 * BUFFER)  # left ends to every right end
STEP = 2 * BUFFER / (N_LEFT - 1)
SLACK = 1e-4  # in logits, far above what rounding moves an end by: bounds may let in too much, never too little
ROUNDING = 1e-3  # of sums of errors, far above that of epsilons
RUNS_AT_FIRST, RUNS_AT_ONCE = 2, 16  # of every example


def raise_by_intervals(pooled: Pooled, epsilons: np.ndarray) -> None:
    """Raise epsilons (n_examples,) float32 to the largest of "narrower sample within [left, right]", in place.

    pooled: the narrower sample is the first one. Both ends lie on grids about that sample's own.
    """
    right_ends = _RightEnds.around(pooled)
    runs, most = _runs(pooled, right_ends), RUNS_AT_FIRST
    penalties = _penalties(pooled, right_ends)
    while len(runs.example):
        sums = _least_sums(runs, pooled, penalties, epsilons)
        promising = sums < (1 + ROUNDING) * pooled.n_models
        runs, sums = runs.chosen(promising), sums[promising]
        now = _ranks(runs.example, sums) < most
        _raise_by_runs(runs.chosen(now), pooled, right_ends, epsilons)
        runs, most = runs.chosen(~now), min(2 * most, RUNS_AT_ONCE)


class _RightEnds(NamedTuple):
    """The grids of right ends, rounded as the released code rounds them; those of left ends hang on them."""

    low: np.ndarray  # (n_examples, 1), like the rest: smallest model of the narrower sample
    width: np.ndarray  # range of the narrower sample
    start: np.ndarray
    stop: np.ndarray
    n_rows: np.ndarray  # 400, or 401 where 100 times their reach is rounded up

    @classmethod
    def around(cls, pooled: Pooled) -> "_RightEnds":
        example, n = np.arange(len(pooled.values)), pooled.values.shape[1]
        low = pooled.values[example, pooled.is_first.argmax(axis=1)][:, None]
        high = pooled.values[example, n - 1 - pooled.is_first[:, ::-1].argmax(axis=1)][:, None]
        start, stop = low + (high - low) - BUFFER, high + BUFFER
        return cls(low, high - low, start, stop, np.ceil(THRESHOLDS_PER_UNIT * (stop - start)))

    @property
    def step(self) -> np.ndarray:
        """How far apart they are."""
        return np.asarray((self.stop - self.start) / (self.n_rows - 1))

    def of(self, example: np.ndarray) -> "_RightEnds":
        """Return those of some examples, (m,) each."""
        return _RightEnds(*(part[example, 0] for part in self))

    def at(self, row: np.ndarray) -> np.ndarray:
        """Return the right ends of rows of the grid."""
        return np.asarray(np.where(row == self.n_rows - 1, self.stop, row * self.step + self.start))

    def first_holding(self, values: np.ndarray) -> np.ndarray:
        """Return the row of the first right end at or above each value; the number of rows where there is none."""
        nearest = np.rint((values - self.start) / self.step)
        nearest = np.minimum(np.maximum(nearest, 0), self.n_rows - 1)
        return np.asarray(nearest + (self.at(nearest) < values), np.intp)

    def has_left_end(self, row: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
        """Return whether a left end to each row (m,) lies between two values, (m,) each; on the upper one counts."""
        middle = self.at(row) - self.width
        first, last = middle - BUFFER, middle + BUFFER
        step = (last - first) / (N_LEFT - 1)

        def left(column: np.ndarray) -> np.ndarray:
            return np.asarray(np.where(column == N_LEFT - 1, last, first + column * step))

        column = np.minimum(np.rint((above - first) / step), N_LEFT - 1)
        column -= left(column) > above
        return np.asarray((column >= 0) & (left(column) > below))


@dataclass(frozen=True)
class _Runs:
    """Right ends of an example that hold the same models, and the cuts that a left end may lie in. All (n_runs,)."""

    example: np.ndarray
    end: np.ndarray  # the cut after the last model up to them
    first_row: np.ndarray
    last_row: np.ndarray
    first_cut: np.ndarray
    last_cut: np.ndarray

    def chosen(self, which: np.ndarray | slice) -> "_Runs":
        """Return some of them."""
        return _Runs(*(getattr(self, field.name)[which] for field in fields(self)))


def _runs(pooled: Pooled, right_ends: _RightEnds) -> _Runs:
    """Return all runs of right ends whose intervals may err in both ways, or not at all."""
    rows = np.concatenate([right_ends.first_holding(pooled.values), right_ends.n_rows.astype(np.intp)], axis=1)
    example, last = positions(rows[:, :-1] < rows[:, 1:])
    end, first_row, last_row = last + 1, rows[example, last], rows[example, last + 1] - 1
    first_cut, last_cut = _reachable_cuts(pooled, right_ends, example, first_row, last_row)
    first_narrow = pooled.is_first.argmax(axis=1)[example]
    n_wide = pooled.second_below[example, end]
    last_cut = np.minimum(last_cut, _last_wide(pooled, example, n_wide))  # one false positive at least
    holds_all = pooled.first_below[example, end] == pooled.n_models
    first_cut = np.where(holds_all, np.maximum(first_cut, first_narrow + 1), first_cut)  # one false negative at least
    no_error = holds_all & (n_wide == pooled.second_below[example, first_narrow])
    first_cut, last_cut = (np.where(no_error, first_narrow, cut) for cut in (first_cut, last_cut))
    return _Runs(example, end, first_row, last_row, first_cut, last_cut).chosen(first_cut <= last_cut)


def _last_wide(pooled: Pooled, example: np.ndarray, n_wide: np.ndarray) -> np.ndarray:
    """Return the place of the n-th model of the wider sample in each example, (n_runs,); -1 where n is 0."""
    places = np.flatnonzero(~pooled.is_first).reshape(-1, pooled.n_models)
    return np.asarray(np.where(n_wide > 0, places[example, n_wide - 1] - pooled.values.shape[1] * example, -1))


def _reachable_cuts(
    pooled: Pooled, right_ends: _RightEnds, example: np.ndarray, first_row: np.ndarray, last_row: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last cut that left ends to some rows reach, or a little more.

    Measured from the smallest model of the narrower sample, left ends to row j reach from j steps less twice the buffer
    to j steps.
    """
    apart = 8 * BUFFER  # examples are laid out one after the other, for one search in all of them
    reach = 3 * BUFFER
    along = np.clip(pooled.values - right_ends.low, -reach, reach) + apart * np.arange(len(pooled.values))[:, None]
    origin, step = apart * example, right_ends.step[example, 0]
    highest, lowest = origin + last_row * step + SLACK, origin + first_row * step - 2 * BUFFER - SLACK
    first, last = (along.ravel().searchsorted(ends) - pooled.values.shape[1] * example for ends in (lowest, highest))
    return first, last


def _penalties(pooled: Pooled, right_ends: _RightEnds) -> np.ndarray:
    """Return 0 for every cut before a model (n_examples, 2 n), infinity where it surely has no left end to any row.

    So have the cuts up to the smallest model of the narrower sample, of which only the last one matters.
    """
    steps = (pooled.values - right_ends.low) / STEP
    shift = (right_ends.n_rows - 1) * (1 - right_ends.step / STEP)  # of the pattern of left ends, over all rows
    ends = np.floor(steps[:, 1:] + shift + SLACK / STEP) > np.floor(steps[:, :-1] - SLACK / STEP)
    ends &= pooled.values[:, 1:] > pooled.values[:, :-1]
    ends &= np.arange(1, steps.shape[1]) > pooled.is_first.argmax(axis=1)[:, None]
    penalties = np.full(steps.shape, np.inf)
    penalties[:, 1:] = np.array([np.inf, 0.0])[ends.view(np.int8)]
    return penalties


def _least_sums(runs: _Runs, pooled: Pooled, penalties: np.ndarray, epsilons: np.ndarray) -> np.ndarray:
    """Return for each run the least sum of errors that tells whether it may raise its example's epsilon, (n_runs,).

    An epsilon above e means (false positives) + exp(e) (false negatives) < n, or the same with the two exchanged.
    Either sum is a part of the right end's and one of the left end's, whose least value is known for every run.
    """
    weight = np.where(epsilons == NONE, 0.0, np.exp(epsilons, dtype=np.float64))
    outside = pooled.n_models - pooled.first_below[runs.example, runs.end]
    inside = pooled.second_below[runs.example, runs.end]
    of_runs, each = weight[runs.example], weight[:, None]
    narrow, wide = pooled.first_below[:, :-1], pooled.second_below[:, :-1]
    start = pooled.is_first.argmax(axis=1)[runs.example]

    def least(of_cuts: np.ndarray) -> np.ndarray:
        later = np.minimum.accumulate(of_cuts + penalties, axis=1)[runs.example, runs.last_cut]
        # Up to the smallest model of the narrower sample values fall from cut to cut.
        at_start = of_cuts[runs.example, np.minimum(start, runs.last_cut)]
        return np.asarray(np.where(runs.first_cut > start, later, np.minimum(later, at_start)))

    first_sum = inside + of_runs * outside + least(each * narrow - wide)
    second_sum = outside + of_runs * inside + least(narrow - each * wide)
    return np.asarray(np.minimum(first_sum, second_sum))


def _raise_by_runs(runs: _Runs, pooled: Pooled, right_ends: _RightEnds, epsilons: np.ndarray) -> None:
    """Raise epsilons to the largest of the intervals of some runs."""
    run, cut = _ranges(runs.first_cut, runs.last_cut)
    example, end = runs.example[run], runs.end[run]
    false_negatives = pooled.n_models - pooled.first_below[example, end] + pooled.first_below[example, cut]
    false_positives = pooled.second_below[example, end] - pooled.second_below[example, cut]
    found = epsilons_of_errors(false_negatives, false_positives, pooled.n_models)
    better = np.flatnonzero(found > epsilons[example])
    better = better[_may_exist(runs.chosen(run[better]), cut[better], pooled, right_ends)]
    run, cut, example, found = (part[better] for part in (run, cut, example, found))
    rank, looked_at = _ranks(example, -found), 1
    while len(run):
        now = rank < looked_at
        exists = _exist(runs.chosen(run[now]), cut[now], pooled, right_ends)
        np.maximum.at(epsilons, example[now][exists], found[now][exists])
        left = ~now & (found > epsilons[example])
        run, cut, example, found, rank = (part[left] for part in (run, cut, example, found, rank))
        looked_at = 2 * looked_at + 1


def _ranks(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the rank, from 0 for the smallest, of each value in its group, (n,)."""
    order = np.lexsort((values, group))
    ranks = np.empty(len(order), np.intp)
    ranks[order] = np.arange(len(order)) - group[order].searchsorted(group[order])
    return ranks


def _may_exist(runs: _Runs, cut: np.ndarray, pooled: Pooled, right_ends: _RightEnds) -> np.ndarray:
    """Return for each run whether its right ends may have a left end in a cut, (n_runs,); where not, they have none.

    Left ends to one right end are a step apart, and those to the next row lie a little lower, or none, in that pattern.
    """
    ends = right_ends.of(runs.example)
    shift = 1 - ends.step / STEP
    below, above = _sides(runs, cut, pooled)
    first, last = (below - ends.low - SLACK) / STEP, (above - ends.low + SLACK) / STEP
    return np.asarray(
        (below < above) & (np.floor(last + runs.last_row * shift) > np.floor(first + runs.first_row * shift))
    )


def _sides(runs: _Runs, cut: np.ndarray, pooled: Pooled) -> tuple[np.ndarray, np.ndarray]:
    """Return the values below and above a cut of each run's example, (n_runs,) each; -inf below the first."""
    below = np.where(cut > 0, pooled.values[runs.example, cut - 1], -np.inf)
    return below, pooled.values[runs.example, cut]


def _exist(runs: _Runs, cut: np.ndarray, pooled: Pooled, right_ends: _RightEnds) -> np.ndarray:
    """Return for each run whether some of its right ends has a left end in a cut, (n_runs,)."""
    below, above = _sides(runs, cut, pooled)
    found = right_ends.of(runs.example).has_left_end(runs.first_row, below, above)  # as a rule all rows are alike
    missing = np.flatnonzero(~found)
    run, row = _ranges(runs.first_row[missing] + 1, runs.last_row[missing])
    run = missing[run]
    found[run[right_ends.of(runs.example[run]).has_left_end(row, below[run], above[run])]] = True
    return found


def _ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all whole numbers from first to last (n,), and which of the n ranges each belongs to, before them."""
    lengths = last - first + 1
    which = np.repeat(np.arange(len(first)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths - first, lengths)
