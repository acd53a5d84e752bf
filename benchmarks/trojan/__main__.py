"""Makes the trojan study.

    python -m benchmarks.trojan [--data FOLDER] [--pixels "JPEG pixels"] [--seeds 5] [--jobs 1]

Source of the claims: Jia et al., "Model Sparsity Can Simplify Machine Unlearning" (NeurIPS 2023). 400 of 4,000 CIFAR-10
images of 16x16 pixels get a black square and the label of one class. Originals, dense and pruned by OMP, learn it; they
are then fine-tuned on the clean images under their masks, with and without the penalty of l1-sparse. Every sparsity of
every seed is kept once it is measured, so that the same command goes on where it was.

Writes benchmarks/results/trojan-cifar10.json, docs/trojan.svg and what stands between the marks of docs/trojan.md.
"""

import time
from pathlib import Path

import click
import joblib

from benchmarks.kept import kept_in
from benchmarks.pages import RESULTS
from benchmarks.trojan import page
from benchmarks.trojan.claims import SPARSITIES, findings
from benchmarks.trojan.models import cell, dense_models, drawn
from data_prep.datasets import load_dataset
from data_prep.reference import prepare_process
from data_prep.sources.dataset import Dataset
from harness.environment import environment, home
from harness.report.style import svg
from harness.storage import hash_arrays, read_json, write_bytes, write_json


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A copy of CIFAR-10.")
@click.option("--pixels", default="", help="What its pixels are if not the usual ones: said beside all figures.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=2))
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Seeds at once.")
@click.option("--state", type=click.Path(path_type=Path), help="Where measurements are kept, instead of HARNESS_HOME.")
def main(data: Path | None, pixels: str, seeds: int, jobs: int, state: Path | None) -> None:
    """Make the study."""
    loaded = load_dataset("torchvision:CIFAR10", folder=Path(), cache=home() / "data", copy=data, downscale=2)
    state = state or kept_in("trojan", hash_arrays(loaded.examples.arrays()), files=["prune_then_unlearn"])
    state.mkdir(parents=True, exist_ok=True)
    joblib.Parallel(n_jobs=jobs)(joblib.delayed(measure)(loaded, seed, state) for seed in range(seeds))
    rows = [read_json(file) for seed in range(seeds) for file in cells(seed, state).values()]
    found = {"seeds": seeds, "pixels": pixels, **environment(), "cells": rows, **findings(rows)}
    write_json(RESULTS / f"{page.RESULT}.json", found)
    write_bytes(page.PAGE.with_suffix(".svg"), svg(page.figure(rows)))
    for table in page.TABLES:
        table.write()


def measure(loaded: Dataset, seed: int, state: Path) -> None:
    """Measure and keep all sparsities of a seed that are not kept yet."""
    missing = {sparsity: file for sparsity, file in cells(seed, state).items() if not file.is_file()}
    if not missing:
        return
    prepare_process()
    images = drawn(loaded, seed)
    dense = dense_models(images, seed, state)
    for sparsity, file in missing.items():
        started = time.process_time()
        found = cell(images, dense, seed=seed, sparsity=sparsity)
        seconds = round(time.process_time() - started, 1)
        write_json(file, {"seed": seed, "sparsity": sparsity, "seconds": seconds, "models": found})
        click.echo(f"seed {seed}, {sparsity:.0%} sparse: {seconds} s", err=True)


def cells(seed: int, state: Path) -> dict[float, Path]:
    """Return the file of each sparsity of a seed."""
    return {sparsity: state / f"seed-{seed}-sparsity-{round(100 * sparsity)}.json" for sparsity in SPARSITIES}


if __name__ == "__main__":
    main()
