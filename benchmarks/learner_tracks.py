"""How much there is to forget on the tracks for learners: the floor of each, which is what doing nothing gets.

    python -m benchmarks.learner_tracks

Reads tracks that are prepared; nothing is trained. Writes benchmarks/results/learner-tracks.json and the table of
docs/learners.md. A learner is scored against models of its own, so boards show its own floor beside its score; that of
the track's recipe, here, says what to expect.
"""

from typing import Any

import click

import harness
from benchmarks.baselines import with_reach
from benchmarks.pages import RESULTS, ROOT, Table, machine, markdown, scored_with, stored
from harness.environment import home
from harness.evaluation.reference import load_reference, unchanged
from harness.runs.store import Results
from harness.scoring.uncertainty import interval
from harness.storage import write_json

__all__ = ["TABLE"]

TRACKS = ("digits-linear", "digits-forest", "digits-few", "digits-stream", "breast-cancer")


@click.command()
def main() -> None:
    """Write the floors."""
    write_json(RESULTS / "learner-tracks.json", {**scored_with(), "tracks": [row_of(name) for name in TRACKS]})
    TABLE.write()


def row_of(name: str) -> dict[str, Any]:
    """Return the two ends of a track's scale."""
    track = harness.open_track(name)
    reference = load_reference(track, track.usual_runs, Results.cache(home(), track))
    n, originals = len(reference.scoring), track.originals()
    idle = reference.score(unchanged(originals, n, reference.forget_labels))
    assert idle.halves is not None
    sides = {"": originals, "retrained_": track.retrained("scoring")}
    return {
        "track": name,
        "runs": n,
        "forget": len(reference.forget_labels),
        "training": len(reference.forget_labels) + len(track.examples("retain")),
        "floor": idle.score.score,
        "ceiling": reference.ceiling.score,
        "calibrated_floor": idle.calibrated,
        "calibrated_interval": list(interval(idle.calibrated, idle.halves.calibrated_score)),
        **{
            f"{side}{examples}_accuracy": float(records.accuracy_on(examples).mean())
            for side, records in sides.items()
            for examples in ("forget", "test")
        },
    }


def table() -> str:
    """Return a row for every track."""
    found = stored("learner-tracks")
    rows = []
    for one in found["tracks"]:
        accuracies = (one[f"{side}{name}_accuracy"] for name in ("forget", "test") for side in ("", "retrained_"))
        rows.append(
            [
                f"`{one['track']}`",
                f"{one['forget']} of {one['training']}",
                with_reach(one["calibrated_floor"], one["calibrated_interval"], 2),
                f"{one['floor']:.3f}",
                f"{one['ceiling']:.3f}",
                *(f"{100 * accuracy:.1f} %" for accuracy in accuracies),
                f"{one['runs']}",
            ]
        )
    head = ["track", "to forget", "calibrated floor", "official floor", "official ceiling"]
    head += ["forget set", "of retrained", "test set", "of retrained", "N"]
    return f"{markdown(head, rows)}\nAccuracies are means over original and over retrained models. {machine(found)}.\n"


TABLE = Table(ROOT / "docs" / "learners.md", "floors", "learner_tracks.py", table)

if __name__ == "__main__":
    main()
