"""What runs are scored against: the retrained models of a track, and the ends of the scale for any number of runs."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.record import Records
from harness.scoring.score import SCORER_VERSION, Outputs, Score, score
from harness.storage import write_json
from harness.track import Track

__all__ = ["Reference", "load_reference"]


@dataclass(frozen=True)
class Reference:
    """The first n retrained models of each pool."""

    scoring: Outputs
    forget_labels: np.ndarray
    ceiling: Score  # retrained models of the other pool, scored as if they were a submission
    floor: Score  # original models left as they are

    def score(self, records: Sequence[Records]) -> Score:
        """Score unlearned models, as many as this reference has retrained ones."""
        return score(_outputs(Records.concatenate(records)), self.scoring, self.forget_labels)


def load_reference(track: Track, n: int, cache: Path) -> Reference:
    """Return the reference for n runs; ceiling and floor are computed once for each n and kept in `cache`."""
    labels = track.examples("forget").labels
    scoring = _outputs(track.retrained("scoring")[:n])
    path = cache / f"reference-{reference_name(track, n)}.json"
    try:
        stored = json.loads(path.read_text())
        ceiling, floor = Score(**stored["ceiling"]), Score(**stored["floor"])
    except (OSError, ValueError, KeyError, TypeError):
        originals = track.originals()
        ceiling = score(_outputs(track.retrained("ceiling")[:n]), scoring, labels)
        floor = score(_outputs(originals[np.arange(n) % len(originals)]), scoring, labels)
        write_json(path, {"ceiling": dataclasses.asdict(ceiling), "floor": dataclasses.asdict(floor)})
    return Reference(scoring, labels, ceiling, floor)


def reference_name(track: Track, n: int) -> str:
    """Return what scores of n runs are stored under: another reference or another scorer gives another name."""
    assert track.manifest.reference_hash is not None
    return f"{n}-{track.manifest.reference_hash[:12]}-v{SCORER_VERSION}"


def _outputs(records: Records) -> Outputs:
    return Outputs(records.forget_logits, records.accuracy_on("retain"), records.accuracy_on("test"))
