"""Measure the scorer: the official metric against a dense one, its time and memory, and what goes with a score.

    python -m benchmarks.scoring

Every measurement is a process of its own with one thread, so that its peak memory, interpreter and libraries included,
is its own. Confidences are standard Gaussians, the unlearned ones shifted by a quarter of a standard deviation.
Metric and half-samples are measured beside `one_by_one`, which takes one example after the other.
Prints a table and writes benchmarks/results/scoring.json.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import one_by_one
from harness.environment import environment
from harness.scoring.alarms import Behaviour, Standing, alarms, null_of
from harness.scoring.audit import audit
from harness.scoring.epsilons import min_count_epsilons, smooth_quality
from harness.scoring.official import example_epsilons, forgetting_quality
from harness.scoring.score import Outputs, half_sample_min_count, half_sample_rows, half_sample_scores, score
from harness.storage import write_json

RESULT = Path(__file__).parent / "results" / "scoring.json"
SIDE_BY_SIDE = (64, 256, 512)
GROWTH = (64, 128, 256, 512, 1024, 2048)
EXAMPLES = 500
DENSE_EXAMPLES = 20  # of half a second each at N = 512
AUDITED = 512
HALVED = ((64, 64), (512, 20))  # models and examples: those of `digits`, and as many as take half a minute one by one
SCORED = (64, 64)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
Compute = Callable[[np.ndarray, np.ndarray], list[float] | None]


@click.command()
def main() -> None:
    """Measure and write the results."""
    os.environ.update(ONE_THREAD)  # read by the processes of the measurements when they import numpy
    growth = [in_child(official, n, EXAMPLES) for n in GROWTH]
    others = {compute.__name__: in_child(compute, AUDITED, EXAMPLES) for compute in (default_audit, half_samples)}
    others["scored_runs"] = in_child(scored_runs, *SCORED)
    for row in (*growth, *others.values()):
        del row["epsilons"]  # of use for comparison only
    results = {
        **environment(),
        "side_by_side": [beside(dense, official, n, DENSE_EXAMPLES, EXAMPLES) for n in SIDE_BY_SIDE],
        "one_by_one": [beside(official_one_by_one, official, n, EXAMPLES, EXAMPLES) for n in SIDE_BY_SIDE],
        "halves_one_by_one": [beside(half_samples_one_by_one, half_samples, n, m, m) for n, m in HALVED],
        "growth": growth,
        **others,
    }
    write_json(RESULT, results)
    show(results)


def beside(slow: Compute, fast: Compute, n: int, slow_examples: int, fast_examples: int) -> dict[str, Any]:
    """Measure two ways to compute the same, one of them perhaps on fewer of the examples."""
    found = {way: in_child(way, n, examples) for way, examples in ((slow, slow_examples), (fast, fast_examples))}
    slow_values, fast_values = (one.pop("epsilons") for one in found.values())
    return {
        "n_models": n,
        **{way.__name__: one for way, one in found.items()},
        "ratio": found[slow]["seconds_per_example"] / found[fast]["seconds_per_example"],
        "equal": slow_values == fast_values[: len(slow_values)],
    }


def in_child(compute: Compute, n: int, examples: int) -> dict[str, Any]:
    """Return what `measure` finds in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, compute, n, examples).result()


def measure(compute: Compute, n: int, examples: int) -> dict[str, Any]:
    """Time one computation on drawn confidences (n, examples), after a short one that imports what it needs.

    Seconds are the processor's: with one thread those of the clock, and other work on the machine does not count.
    """
    generator = np.random.default_rng(n)
    pairs = generator.normal([[0.25], [0.0]], 1, (examples, 2, n))  # the first examples are the same, however many
    unlearned, retrained = pairs.transpose(1, 2, 0)
    compute(unlearned[:, :1], retrained[:, :1])
    started = time.process_time()
    epsilons = compute(unlearned, retrained)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "n_models": n,
        "examples": examples,
        "seconds": seconds,
        "seconds_per_example": seconds / examples,
        "peak_mb": peak / 1e6,
        "epsilons": epsilons,
    }


def official(unlearned: np.ndarray, retrained: np.ndarray) -> list[float]:
    """Return the harness's epsilons."""
    return [float(epsilon) for epsilon in example_epsilons(unlearned, retrained)]


def dense(unlearned: np.ndarray, retrained: np.ndarray) -> list[float]:
    """Return the same by asking every model about every threshold, one example after the other."""
    return [dense_epsilon(u, r) for u, r in zip(unlearned.T, retrained.T, strict=True)]


def official_one_by_one(unlearned: np.ndarray, retrained: np.ndarray) -> list[float]:
    """Return the same, one example after the other."""
    return [float(epsilon) for epsilon in one_by_one.example_epsilons(unlearned, retrained)]


def default_audit(unlearned: np.ndarray, retrained: np.ndarray) -> None:
    """Compute what every evaluation shows beside its score."""
    audit(unlearned, retrained, seed=0)


def half_samples(unlearned: np.ndarray, retrained: np.ndarray) -> list[float]:
    """Return the 200 scores of half-samples that every evaluation keeps, and Q on each."""
    halves = half_sample_scores(outputs(unlearned), outputs(retrained), 1.0)
    return [*halves.score.tolist(), *halves.smooth_quality.tolist()]


def half_samples_one_by_one(unlearned: np.ndarray, retrained: np.ndarray) -> list[float]:
    """Return the same, one half-sample after the other; with accuracies of 1 a score is a forgetting quality."""
    rows = half_sample_rows(outputs(unlearned), len(retrained))
    halves = [(unlearned[ours], retrained[theirs]) for ours, theirs in zip(*rows, strict=True)]
    n, k = len(halves[0][0]), half_sample_min_count(len(unlearned))
    scores = [forgetting_quality(one_by_one.example_epsilons(*half), n) for half in halves]
    return [*scores, *(smooth_quality(min_count_epsilons(*half, min_count=k)) for half in halves)]


def scored_runs(unlearned: np.ndarray, retrained: np.ndarray) -> None:
    """Compute all that an evaluation says of its runs: the score, its intervals, the audit and the alarms.

    The null of the alarms belongs to a track: it is made once, here from a few models and examples.
    """
    ours, theirs = outputs(unlearned), outputs(retrained)
    score(ours, theirs)
    half_sample_scores(ours, theirs, 1.0)
    audit(unlearned, retrained, logits=(logits(unlearned), logits(retrained)), seed=0)
    n, ones = len(unlearned), np.ones(len(unlearned))
    few = retrained[:4, :1]
    null = null_of(few, few + 1, val_advantage=np.zeros(1))
    runs = Behaviour(unlearned, np.arange(n), ones, np.arange(n), ones, ones, ones, change_under_swap=None)
    alarms(runs, retrained, null, Standing(above_ceiling=0.0, standard_error=0.1, p_values=(1.0,)))


def outputs(confidences: np.ndarray) -> Outputs:
    """Return outputs with accuracies of 1 and a single original."""
    ones = np.ones(len(confidences))
    return Outputs(confidences, ones, ones, np.zeros(len(confidences), int))


def logits(confidences: np.ndarray) -> np.ndarray:
    """Return logits of ten classes (n_models, n_examples, 10), the first of which has the confidences."""
    others = np.random.default_rng(0).normal(0, 1, (*confidences.shape, 9))
    return np.concatenate([confidences[..., None], others], axis=2)


# ---- the definition as it reads: 160,000 intervals and a grid of half-lines, every model asked about each ----------


def dense_epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Return one example's epsilon from two samples of confidences (n_models,)."""
    swap = np.median(retrained) > np.median(unlearned)
    positive, negative = (retrained, unlearned) if swap else (unlearned, retrained)
    spans = np.ptp(positive), np.ptp(negative)
    if min(spans) < 0.01 * max(spans):
        return 50.0
    narrow, wide = (positive, negative) if spans[0] < spans[1] else (negative, positive)
    thresholds = half_lines(min(positive.min(), negative.min()), max(positive.max(), negative.max()))
    left, right = intervals(narrow.min(), narrow.max())
    single = [sample[:, None] >= thresholds for sample in (positive, negative)]
    double = [(left <= sample[:, None]) & (sample[:, None] <= right) for sample in (narrow, wide)]
    return min(float(np.nanmax([largest(*single), largest(*double)])), 50.0)


def half_lines(low: float, high: float) -> np.ndarray:
    """Return 100 thresholds per unit, (n_thresholds,), rounded to float32 as the framework of 2023 does."""
    first, last, count = np.float32(low), np.float32(high), int(np.ceil(100 * (high - low)))
    step, index = float((last - first) / np.float32(count - 1)), np.arange(count)
    upwards, downwards = float(first) + step * index, float(last) - step * index[::-1]
    return np.where(index < count // 2, upwards, downwards).astype(np.float32).astype(np.float64)


def intervals(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return left and right ends, (n_intervals,) each, on grids 2 around those of the narrower sample."""
    width = high - low
    start, stop = low + width - 2.0, high + 2.0
    right = np.linspace(start, stop, int(np.ceil(100 * (stop - start))))
    left = np.linspace((right - width) - 2.0, (right - width) + 2.0, 400, axis=1)
    return left.ravel(), np.repeat(right, 400)


def largest(positive_called: np.ndarray, negative_called: np.ndarray) -> float:
    """Return the largest epsilon over thresholds from who is called positive, (n_models, n_thresholds) each."""
    tpr, fpr = (called.mean(axis=0, dtype=np.float32) for called in (positive_called, negative_called))
    fnr, tnr = ((~called).mean(axis=0, dtype=np.float32) for called in (positive_called, negative_called))
    if ((fpr + fnr == 0) & (tpr + tnr == 2)).any():
        return np.inf
    one, delta = np.float32(1), np.float32(1e-5)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.fmax(np.log(one - delta - fpr) - np.log(fnr), np.log(one - delta - fnr) - np.log(fpr))
    kept = both[(fpr * fnr != 0) & ~np.isnan(both)]
    return max(float(kept.max()), 0.0) if len(kept) else np.nan


def show(results: dict[str, Any]) -> None:
    """Print what was measured as tables."""
    click.echo("| N | dense, per example | peak memory | harness, per example | peak memory | ratio | equal |")
    click.echo("|---|---|---|---|---|---|---|")
    for row in results["side_by_side"]:
        slow, fast = (
            f"{1000 * row[way]['seconds_per_example']:#.3g} ms | {row[way]['peak_mb']:.0f} MB"
            for way in ("dense", "official")
        )
        click.echo(f"| {row['n_models']} | {slow} | {fast} | {row['ratio']:.0f} | {row['equal']} |")
    click.echo(f"\n| {EXAMPLES} examples | N | seconds | peak memory |\n|---|---|---|---|")
    rows = [("official metric", row) for row in results["growth"]]
    rows += [("audit", results["default_audit"]), ("200 half-samples", results["half_samples"])]
    rows += [("all of a score", results["scored_runs"])]
    for name, row in rows:
        click.echo(f"| {name} | {row['n_models']} | {row['seconds']:.2f} | {row['peak_mb']:.0f} MB |")
    click.echo("\n| what | N | times as fast as one by one | equal |\n|---|---|---|---|")
    for name, key in (("official metric", "one_by_one"), ("200 half-samples", "halves_one_by_one")):
        for row in results[key]:
            click.echo(f"| {name} | {row['n_models']} | {row['ratio']:.1f} | {row['equal']} |")


if __name__ == "__main__":
    main()
