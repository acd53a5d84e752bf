"""What runs are scored against: the retrained models of a track, and the ends of the scale for any number of runs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.record import Records
from harness.scoring.alarms import Alarm, Behaviour, Null, alarms, null_of
from harness.scoring.score import (
    SCORER_VERSION,
    HalfSamples,
    Outputs,
    Score,
    calibrated_score,
    half_sample_scores,
    score,
)
from harness.scoring.uncertainty import difference
from harness.storage import read_json, write_json
from harness.track import POOLS, Track

__all__ = ["Reference", "Scored", "load_reference", "outputs", "reference_name"]

MIN_ALARM_RUNS = 16  # fewer runs are not ranked either


@dataclass(frozen=True)
class Scored:
    """A score with its noise."""

    score: Score
    calibrated: float
    halves: HalfSamples | None  # None where there are too few models

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        halves = self.halves and {name: values.tolist() for name, values in dataclasses.asdict(self.halves).items()}
        return {"score": dataclasses.asdict(self.score), "calibrated": self.calibrated, "halves": halves}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Scored":
        """Return what `to_json` returned. Raises KeyError or TypeError if it is something else."""
        kept = stored["halves"]
        halves = HalfSamples(**{name: np.array(values) for name, values in kept.items()}) if kept else None
        return cls(Score(**stored["score"]), stored["calibrated"], halves)


@dataclass(frozen=True)
class Reference:
    """The first n retrained models of each pool."""

    scoring: Outputs
    ceiling_outputs: Outputs
    forget_labels: np.ndarray
    ceiling: Scored  # retrained models of the other pool, scored as if they were a submission
    floor: Score  # original models left as they are
    null: Null | None  # how retrained models behave among themselves; None below MIN_ALARM_RUNS

    def score(self, records: Records) -> Scored:
        """Score unlearned models, as many as this reference has retrained ones."""
        unlearned = outputs(records, self.forget_labels)
        scored = score(unlearned, self.scoring)
        base = self.ceiling.halves.smooth_quality if self.ceiling.halves else None
        halves = half_sample_scores(unlearned, self.scoring, ceiling_quality=base)
        return Scored(scored, calibrated_score(scored, self.ceiling.score), halves)

    def alarms(self, records: Records, order: Sequence[int], scored: Scored) -> list[Alarm] | None:
        """Return the alarms of some runs that were started in an order; None where there are too few to tell."""
        halves, ceiling_halves = scored.halves, self.ceiling.halves
        if self.null is None or halves is None or ceiling_halves is None:
            return None
        unlearned = outputs(records, self.forget_labels)
        behaviour = Behaviour(
            confidences=unlearned.confidences,
            weights=records.weights_sha256,
            distance=records.distance,
            order=np.array(order),
            val_accuracy=records.accuracy_on("val"),
            test_accuracy=records.accuracy_on("test"),
        )
        above = difference(
            scored.calibrated, self.ceiling.calibrated, halves.calibrated_score, ceiling_halves.calibrated_score
        )
        return alarms(behaviour, self.scoring.confidences, self.null, above)


def load_reference(track: Track, n: int, cache: Path) -> Reference:
    """Return the reference for n runs; ceiling and floor are computed once for each n and kept in `cache`."""
    labels = track.examples("forget").labels
    scoring, other_pool = (outputs(track.retrained(pool)[:n], labels) for pool in POOLS)
    path = cache / f"reference-{reference_name(track, n)}.json"
    try:
        stored = read_json(path)
        ceiling, floor = Scored.from_json(stored["ceiling"]), Score(**stored["floor"])
        null = None if stored["null"] is None else Null(**stored["null"])
    except (OSError, ValueError, KeyError, TypeError):
        originals = track.originals()
        best = score(other_pool, scoring)
        ceiling = Scored(best, calibrated_score(best, best), half_sample_scores(other_pool, scoring))
        floor = score(outputs(originals[np.arange(n) % len(originals)], labels), scoring)
        null = _null(track, scoring, other_pool) if n >= MIN_ALARM_RUNS else None
        kept = {"floor": dataclasses.asdict(floor), "null": null and dataclasses.asdict(null)}
        write_json(path, {"ceiling": ceiling.to_json(), **kept})
    return Reference(scoring, other_pool, labels, ceiling, floor, null)


def _null(track: Track, scoring: Outputs, ceiling: Outputs) -> Null:
    retrained = Records.concatenate(track.retrained(pool) for pool in POOLS)
    advantage = retrained.accuracy_on("val") - retrained.accuracy_on("test")
    return null_of(scoring.confidences, ceiling.confidences, val_advantage=advantage)


def reference_name(track: Track, n: int) -> str:
    """Return what scores of n runs are stored under: another reference or another scorer gives another name."""
    assert track.manifest.reference_hash is not None
    return f"{n}-{track.manifest.reference_hash[:12]}-v{SCORER_VERSION}"


def outputs(records: Records, forget_labels: np.ndarray) -> Outputs:
    """Return what is scored of some models' records."""
    return Outputs.of(
        records.forget_logits,
        forget_labels,
        retain_accuracy=records.accuracy_on("retain"),
        test_accuracy=records.accuracy_on("test"),
        original=records.original,
    )
