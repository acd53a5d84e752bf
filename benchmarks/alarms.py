"""Which alarms games fire, and how often the oracle fires any, on Gaussians and on a track's retrained models.

`benchmarks.tables` writes the tables, `tests/benchmarks/test_tables.py` checks them.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import harness
from benchmarks.games import Draw, oracle
from harness.evaluation.findings import findings_of
from harness.evaluation.reference import load_reference
from harness.record import Records
from harness.runner.outcome import Outcome
from harness.runs.run import Run, RunInfo
from harness.scoring.alarms import Alarm, Behaviour, Null, Standing, alarms, null_of
from harness.scoring.ceiling import ceiling
from harness.scoring.score import Outputs, half_sample_qualities, min_count_quality
from harness.scoring.two_sample import set_level_test
from harness.scoring.uncertainty import standard_error
from harness.storage import write_arrays
from harness.tracks.track import POOLS, Track

__all__ = ["false_alarms", "false_alarms_on", "game_alarms", "honest", "null"]

Row = dict[str, Any]
N, EXAMPLES = 512, 60


def honest(confidences: np.ndarray, generator: np.random.Generator) -> Behaviour:
    """Return runs with these confidences (n, n_forget) in which there is nothing else to see."""
    n = len(confidences)
    return Behaviour(
        confidences=confidences,
        weights=np.arange(n).astype(str),
        distance=np.ones(n),
        order=np.arange(n),
        original=np.zeros(n, int),
        val_accuracy=generator.normal(0.95, 0.01, n),
        test_accuracy=generator.normal(0.95, 0.01, n),
        change_under_swap=0.5,
    )


def null(sd: float, *, n: int = N, examples: int = EXAMPLES, seed: int = 0) -> Null:
    """Return how two pools of retrained models behave among themselves."""
    generator = np.random.default_rng([seed, n])
    pools = [oracle(generator, n, examples, sd) for _ in POOLS]
    return null_of(*pools, val_advantage=generator.normal(0, 0.01, 2 * n))


def game_alarms(draw: Draw, of: Null, *, sd: float, n: int = N, examples: int = EXAMPLES) -> list[str]:
    """Return the names of the alarms that a draw fires by its distribution alone, whatever it scores."""
    generator = np.random.default_rng([1, n])
    runs = honest(draw(generator, n, examples, sd), generator)
    return _names(alarms(runs, oracle(generator, n, examples, sd), of, Standing(-1.0, 0.0, ())))


def false_alarms(sd: float, *, pools: int = 20, oracles: int = 5, n: int = 64, examples: int = EXAMPLES) -> Row:
    """Return how often oracles fire alarms on Gaussians, several on each pair of pools."""

    def of_pools(seed: int) -> list[list[str]]:
        generator = np.random.default_rng([seed, n])

        def drawn() -> Outputs:
            return Outputs(oracle(generator, n, examples, sd), np.ones(n), np.ones(n), np.arange(n) % 8)

        scoring, others = drawn(), drawn()
        of = null_of(scoring.confidences, others.confidences, val_advantage=generator.normal(0, 0.014, 2 * n))
        best = ceiling(scoring, others)
        found = []
        for unlearned in (drawn() for _ in range(oracles)):
            above = min_count_quality(unlearned, scoring) / best.smooth_quality - 1
            error = standard_error(half_sample_qualities(unlearned, scoring)) / best.smooth_quality
            test = set_level_test(unlearned.confidences, scoring.confidences, generator=generator)
            runs = honest(unlearned.confidences, generator)
            found.append(_names(alarms(runs, scoring.confidences, of, Standing(above, error, (test.p_value,)))))
        return found

    by_pools = joblib.Parallel(-1)(joblib.delayed(of_pools)(seed) for seed in range(pools))
    found = [names for of_one in by_pools for names in of_one]
    return {"pools": f"Gaussian, std {sd}", "n_models": n, "examples": examples, **_counted(found)}


def false_alarms_on(track_name: str, *, n: int, draws: int = 100) -> Row:
    """Return how often n of a track's retrained models fire alarms when they are scored as if they were a submission.

    Of both pools together n are drawn to score against, n for the other pool, and n to be scored: models that are in
    neither pool if there are 3 n, else those of the other pool.
    """
    track = harness.open_track(track_name)
    together = Records.concatenate(track.retrained(pool) for pool in POOLS)

    def once(seed: int) -> list[str]:
        rows = np.random.default_rng([seed, n]).permutation(len(together))
        with tempfile.TemporaryDirectory() as folder:
            redrawn = _with_pools(track, Path(folder), together[rows[:n]], together[rows[n : 2 * n]])
            reference = load_reference(redrawn, n, redrawn.folder)
        unlearned = together[rows[-n:]]
        runs = [Run(i, Outcome.OK, 0.0, RunInfo(1.0, "none", order=i), unlearned[i : i + 1]) for i in range(n)]
        found = findings_of(runs, [], track.originals(), reference)
        assert found.alarms is not None
        return _names(found.alarms)

    found = joblib.Parallel(-1)(joblib.delayed(once)(seed) for seed in range(draws))
    return {"pools": track.name, "n_models": n, "examples": len(track.examples("forget")), **_counted(found)}


def _names(found: Iterable[Alarm]) -> list[str]:
    return sorted({alarm.name for alarm in found})


def _with_pools(track: Track, folder: Path, first: Records, second: Records) -> Track:
    """Return the track with other models in its two pools, in a new folder."""
    (folder / "private").mkdir()
    (folder / "public").symlink_to(track.public.absolute())
    for file in track.private.iterdir():
        (folder / "private" / file.name).symlink_to(file.absolute())
    redrawn = replace(track, folder=folder)
    for pool, records in zip(POOLS, (first, second), strict=True):
        redrawn.records_file(pool).unlink()
        write_arrays(redrawn.records_file(pool), records.arrays())
    return redrawn


def _counted(found: list[list[str]]) -> Row:
    """Return the share of draws without an alarm, and how often each alarm was fired."""
    names = [name for alarms_ in found for name in alarms_]
    quiet = sum(not alarms_ for alarms_ in found) / len(found)
    return {"draws": len(found), "quiet": quiet, "fired": {name: names.count(name) for name in sorted(set(names))}}
