"""What runs are scored against: the retrained models of a track, and the ends of the scale for any number of runs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.record import Records
from harness.scoring.alarms import Null, null_of
from harness.scoring.ceiling import Ceiling, ceiling
from harness.scoring.coupling import similarities
from harness.scoring.epsilons import min_count_epsilons, smooth_credits
from harness.scoring.score import (
    MIN_HALVED,
    SCORER_VERSION,
    HalfSamples,
    Outputs,
    Score,
    calibrated_score,
    half_sample_scores,
    score,
)
from harness.scoring.thresholds import FEWEST_RANKED
from harness.scoring.uncertainty import cluster_error
from harness.seal import read_sealed, whole, write_sealed
from harness.tracks.track import POOLS, Track

__all__ = [
    "Ends",
    "Reference",
    "Scored",
    "in_turns",
    "load_reference",
    "null_among",
    "outputs",
    "reference_name",
    "stored_ends",
    "unchanged",
]


@dataclass(frozen=True)
class Scored:
    """A score with its noise."""

    score: Score
    calibrated: float
    halves: HalfSamples | None  # None where there are too few models
    error_over_subjects: float | None  # of the calibrated score, had others been forgotten; None below two subjects


@dataclass(frozen=True)
class Reference:
    """The first n retrained models of each pool."""

    scoring: Outputs
    scoring_logits: np.ndarray  # (n, n_forget, n_classes)
    ceiling_outputs: Outputs  # of the other pool, which stands for a perfect submission
    forget_labels: np.ndarray
    forget_subjects: np.ndarray | None  # (n_forget,) whose image each example is; None where the track does not say
    ceiling: Ceiling
    floor: Score  # original models left as they are
    null: Null | None  # how retrained models behave among themselves; None below FEWEST_RANKED

    def score(self, unlearned: Outputs) -> Scored:
        """Score unlearned models, as many as this reference has retrained ones."""
        scored = score(unlearned, self.scoring)
        best = self.ceiling.smooth_quality
        halves = half_sample_scores(unlearned, self.scoring, best) if len(unlearned) >= MIN_HALVED else None
        calibrated = calibrated_score(scored, best)
        return Scored(scored, calibrated, halves, self._error_over_subjects(unlearned, calibrated))

    def _error_over_subjects(self, unlearned: Outputs, calibrated: float) -> float | None:
        if self.forget_subjects is None:
            return None
        credit = smooth_credits(min_count_epsilons(unlearned.confidences, self.scoring.confidences))
        error = cluster_error(credit / credit.mean(), self.forget_subjects)
        return None if error is None else calibrated * error


@dataclass(frozen=True)
class Ends:
    """The ends of the scale for a number of runs, as they are stored."""

    ceiling: Ceiling
    floor: Score
    null: Null | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        kept = {"floor": dataclasses.asdict(self.floor), "null": self.null and dataclasses.asdict(self.null)}
        return {"ceiling": dataclasses.asdict(self.ceiling), **kept}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Ends":
        """Return what `to_json` returned. Raises KeyError or TypeError if it is something else."""
        null = None if stored["null"] is None else Null(**stored["null"])
        return cls(Ceiling(**stored["ceiling"]), Score(**stored["floor"]), null)


def load_reference(track: Track, n: int, cache: Path) -> Reference:
    """Return the reference for n runs; ceiling and floor are computed once for each n and kept in `cache`."""
    forget = track.examples("forget")
    labels = forget.labels
    pools = [track.retrained(pool)[:n] for pool in POOLS]
    scoring, other_pool = (outputs(pool, labels) for pool in pools)
    name = reference_name(track, n)
    ends = stored_ends(cache, name)
    if ends is None:
        originals = track.originals()
        ends = Ends(
            ceiling=ceiling(scoring, other_pool),
            floor=score(unchanged(originals, n, labels), scoring),
            null=null_among(track, pools, (scoring, other_pool)) if n >= FEWEST_RANKED else None,
        )
        write_sealed(_ends_file(cache, name), ends.to_json())
    logits = pools[0].forget_logits
    return Reference(scoring, logits, other_pool, labels, forget.subjects, ends.ceiling, ends.floor, ends.null)


def stored_ends(cache: Path, name: str) -> Ends | None:
    """Return the ends of the scale of a reference, None if they are not stored, or not whole."""
    return whole(_ends_file(cache, name), lambda file: Ends.from_json(read_sealed(file)))


def _ends_file(cache: Path, name: str) -> Path:
    return cache / f"reference-{name}.json"


def null_among(track: Track, pools: Sequence[Records], scored: tuple[Outputs, Outputs]) -> Null:
    """Return how the models of two pools, n each, behave among themselves; scored: what is scored of them."""
    retrained = Records.concatenate(track.retrained(pool) for pool in POOLS)
    advantage = retrained.accuracy_on("val") - retrained.accuracy_on("test")
    first, second = (outputs.confidences for outputs in scored)
    similar = None
    if track.declaration.trojan is None:  # whose trigger no test image has: honest runs differ in how well they lose it
        logits = [np.concatenate([getattr(pool, f"{name}_logits") for pool in pools]) for name in ("forget", "test")]
        similar = similarities(logits[0]), similarities(logits[1])
    return null_of(first, second, val_advantage=advantage, similar=similar)


def reference_name(track: Track, n: int) -> str:
    """Return what scores of n runs are stored under: another reference or another scorer gives another name."""
    track.require_private()
    assert track.manifest.reference_hash is not None
    return f"{n}-{track.manifest.reference_hash[:12]}-v{SCORER_VERSION}"


def unchanged(originals: Records, n: int, forget_labels: np.ndarray) -> Outputs:
    """Return what is scored of n runs that leave original models as they are."""
    return outputs(in_turns(originals, n), forget_labels)


def in_turns(originals: Records, n: int) -> Records:
    """Return the records of n runs that leave original models as they are; run i starts from original i mod K."""
    turn = np.arange(n) % len(originals)
    return dataclasses.replace(originals[turn], original=turn, distance=np.zeros(n))


def outputs(records: Records, forget_labels: np.ndarray) -> Outputs:
    """Return what is scored of some models' records."""
    return Outputs.of(
        records.forget_logits,
        forget_labels,
        retain_accuracy=records.accuracy_on("retain"),
        test_accuracy=records.accuracy_on("test"),
        original=records.original,
    )
