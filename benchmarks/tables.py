"""Compute the tables that the scorer is known by: null, power, games, coverage of intervals, false alarms.

    python -m benchmarks.tables [NAME ...]

Confidences are synthetic Gaussians; false alarms are counted on digits too. Tables say their models a side and
their draws, which are seeded 0, 1, 2, ... Writes benchmarks/results/scoring-tables.json;
tests/benchmarks/test_tables.py computes the same again.
"""

from collections.abc import Callable
from typing import Any

import click
import joblib
import numpy as np

from benchmarks.alarms import false_alarms, false_alarms_on, game_alarms, null
from benchmarks.coverage import coverage, separation
from benchmarks.games import GAMES, Draw, oracle
from benchmarks.pages import RESULTS, kept_rows, scored_with
from harness.scoring.official import example_credits, example_epsilons
from harness.storage import write_json

__all__ = ["MODELS", "STDS", "games", "quality", "scaled", "shifted"]

RESULT = RESULTS / "scoring-tables.json"
N, EXAMPLES = 512, 300
STDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10)
MODELS = (16, 32, 64, 128, 256, 512, 1024, 2048, 8192)
SHIFTS = (0, 0.1, 0.25, 0.5, 1, 2, 3)
RATIOS = (0.5, 0.8, 1.25, 2)
GAME_STDS = (0.3, 1, 3)
Row = dict[str, Any]


def shifted(shift: float) -> Draw:
    """Return the oracle, off by so many standard deviations."""
    return lambda generator, n, examples, sd: oracle(generator, n, examples, sd) + shift * sd


def scaled(ratio: float) -> Draw:
    """Return the oracle with another spread."""
    return lambda generator, n, examples, sd: ratio * oracle(generator, n, examples, sd)


def quality(draw: Draw, *, sd: float = 1.0, n: int = N, examples: int = EXAMPLES, seed: int = 0) -> Row:
    """Return F, its standard deviation per example, and the median epsilon, against retrained models N(0, sd^2)."""
    generator = np.random.default_rng([seed, n])
    epsilons = example_epsilons(draw(generator, n, examples, sd), oracle(generator, n, examples, sd))
    credit = example_credits(epsilons, n)
    return {
        "n_models": n,
        "examples": examples,
        "seed": seed,
        "quality": float(np.nanmean(credit)),
        "deviation": float(np.nanstd(credit)),
        "median_epsilon": float(np.nanmedian(epsilons)),
        "unresolved": int(np.isnan(epsilons).sum()),
    }


def games() -> list[Row]:
    """Return official quality and alarms of every game at every spread."""
    cells = [(name, draw, sd) for name, draw in {"oracle": oracle, **GAMES}.items() for sd in GAME_STDS]
    nulls = dict(zip(GAME_STDS, joblib.Parallel(-1)(joblib.delayed(null)(sd) for sd in GAME_STDS), strict=True))
    return [
        {"game": name, "std": sd, **quality(draw, sd=sd), "alarms": game_alarms(draw, nulls[sd], sd=sd)}
        for name, draw, sd in cells
    ]


TABLES: dict[str, Callable[[], list[Row]]] = {
    "null_by_std": lambda: [{"std": sd, **quality(oracle, sd=sd)} for sd in STDS],
    "null_by_models": lambda: [quality(oracle, n=n) for n in MODELS],
    "by_shift": lambda: [{"shift": shift, **quality(shifted(shift))} for shift in SHIFTS],
    "by_std_ratio": lambda: [{"ratio": ratio, **quality(scaled(ratio))} for ratio in RATIOS],
    "games": games,
    "coverage": lambda: [coverage(correlation=0.5, n=n) for n in (16, 64)],
    "separation": lambda: [separation(shift) for shift in (0.25, 0.35, 0.5)],
    "false_alarms": lambda: [false_alarms(sd) for sd in GAME_STDS],
    "false_alarms_on_digits": lambda: [false_alarms_on("digits", n=n) for n in (42, 64)],
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(tuple(TABLES)))
def main(names: tuple[str, ...]) -> None:
    """Compute the tables NAMES (default: all) and write them; the others stay as they are."""
    now = scored_with()
    rows: dict[str, list[Row]] = kept_rows(RESULT, now, leave_out="NAME") if names else {}
    for name in names or TABLES:
        rows[name] = TABLES[name]()
        for row in rows[name]:
            click.echo(f"{name}: {row}")
        write_json(RESULT, {**now, "rows": rows})


if __name__ == "__main__":
    main()
