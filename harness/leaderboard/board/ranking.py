"""Ranks one can defend: ranges from stored half-samples, and exact tests where a prize depends on them.

Submissions of different numbers of runs are not compared, since fewer models make everything look alike: those that
went on to a later stage are ahead of those that were stopped before it.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np

from harness.evaluation.compare import exact_p_value
from harness.evaluation.reference import Reference, outputs
from harness.leaderboard.board.stored import Board, ScoredEntry
from harness.scoring.ranks import Places, better_than, places
from harness.scoring.uncertainty import CONFIDENCE, holm
from harness.seal import read_sealed, whole, write_sealed

__all__ = ["Boundary", "ExactTest", "Ranked", "Ranking", "rank", "stored_test"]

N_PERMUTATIONS = 999
ExactTest = Callable[["Ranked", "Ranked", int], float]  # both sides and the number of permutations -> p-value


@dataclass(frozen=True)
class Ranked:
    """What is ranked: a score with its noise."""

    entry: ScoredEntry
    value: float
    half_samples: tuple[float, ...]

    @property
    def n_runs(self) -> int:
        """The number of models it was scored with."""
        assert self.entry.scored is not None
        return self.entry.scored.n_runs


@dataclass(frozen=True)
class Boundary:
    """A place after which prizes differ, and who is tied across it."""

    place: int
    tied: tuple[Ranked, ...]  # in the order of their scores; empty if the boundary is decided


@dataclass(frozen=True)
class Ranking:
    """All that is ranked in its order, the best first, with the places each may hold."""

    ranked: tuple[Ranked, ...]
    places: tuple[Places, ...]
    boundaries: tuple[Boundary, ...]


def rank(contenders: Iterable[Ranked], boundaries: Sequence[int] = (), exact_test: ExactTest | None = None) -> Ranking:
    """Rank contenders; at the boundaries with `exact_test`, and with half-samples alone where it is None.

    Candidates of a boundary are those whose range from half-samples spans it. Each above it is tested against each
    below it, with Holm's correction over all pairs tested; these verdicts replace those of half-samples.
    """
    ordered = sorted(contenders, key=lambda one: (-one.n_runs, -one.value, one.entry.submission))
    better = _better(ordered)
    pairs = sorted({pair for boundary in boundaries for pair in _across(places(better), boundary)})
    if pairs and exact_test is not None:
        n_permutations = max(N_PERMUTATIONS, ceil(len(pairs) / (1 - CONFIDENCE)))  # fewer could not reject any
        p_values = [exact_test(ordered[i], ordered[j], n_permutations) for i, j in pairs]
        for pair, p_value in zip(pairs, holm(p_values), strict=True):
            better[pair] = p_value < 1 - CONFIDENCE and ordered[pair[0]].value > ordered[pair[1]].value
    undecided = [pair for pair in pairs if not better[pair]]
    return Ranking(
        tuple(ordered),
        tuple(places(better)),
        tuple(_boundary(boundary, undecided, ordered) for boundary in boundaries),
    )


def _better(ordered: Sequence[Ranked]) -> np.ndarray:
    """Return whether contender i is significantly better than j, (k, k): by half-samples, or by having more runs."""
    runs = np.array([contender.n_runs for contender in ordered], int)
    better: np.ndarray = runs[:, None] > runs
    for n in sorted({contender.n_runs for contender in ordered}):
        rows = np.flatnonzero(runs == n).tolist()
        values = np.array([ordered[row].value for row in rows])
        better[np.ix_(rows, rows)] = better_than(values, np.array([ordered[row].half_samples for row in rows]))
    return better


def _across(ranges: Sequence[Places], boundary: int) -> list[tuple[int, int]]:
    """Return the pairs that a boundary depends on: candidates that now hold a place above it, with those below."""
    candidates = [place for place, held in enumerate(ranges) if held.best <= boundary < held.worst]
    above, below = ([one for one in candidates if (one < boundary) == side] for side in (True, False))
    return list(product(above, below))


def _boundary(place: int, undecided: Iterable[tuple[int, int]], ordered: Sequence[Ranked]) -> Boundary:
    tied = {row for above, below in undecided if above < place <= below for row in (above, below)}
    return Boundary(place, tuple(ordered[row] for row in sorted(tied)))


def stored_test(
    board: Board, reference: Callable[[int], Reference], folder: Path, announce: Callable[[str], None]
) -> ExactTest:
    """Return the exact test on stored runs, whose p-values are kept in a folder; it announces those that it computes.

    reference: gives that of a number of runs. The draws are seeded: what was kept is what would come out again.
    """
    return partial(_stored_p_value, board, reference, folder, announce)


def _stored_p_value(
    board: Board,
    reference: Callable[[int], Reference],
    folder: Path,
    announce: Callable[[str], None],
    first: Ranked,
    second: Ranked,
    n_permutations: int,
) -> float:
    names = [f"{one.entry.key}/{one.entry.score}/{one.value!r}" for one in (first, second)]
    identity = "\0".join([*names, board.terms.rank_by, str(n_permutations)])
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    if (kept := whole(path, lambda file: float(read_sealed(file)["p_value"]))) is not None:
        return kept
    announce(f"exact test of {first.entry.submission} against {second.entry.submission}")
    found = reference(first.n_runs)
    ours, theirs = (outputs(board.records(one.entry, one.n_runs), found.forget_labels) for one in (first, second))
    p_value = exact_p_value(ours, theirs, found, rank_by=board.terms.rank_by, n_permutations=n_permutations)
    write_sealed(path, {"sides": names, "n_permutations": n_permutations, "p_value": p_value})
    return p_value
