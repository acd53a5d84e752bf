"""Makes the study of sparsity on colour images.

    python -m benchmarks.sparse_images [--data FOLDER] [--pixels "JPEG pixels"] [--seeds 5] [--jobs 1]
    python -m benchmarks.sparse_images --size paper --device cuda

Source of the claims: Jia et al., "Model Sparsity Can Simplify Machine Unlearning" (NeurIPS 2023), Tables 2 and 3 and
Figures 4, 5 and A1. 4,000 CIFAR-10 images of 16x16 pixels are learnt by dense and by pruned originals; a tenth of them,
or a class, is then unlearned by the paper's methods under the masks, and compared with models retrained under them.
Size "paper" has 45,000 images of 32x32 and ResNet-18. Settings are tuned first, on images of another seed. What is
measured is kept, so that the same command goes on where it was.

Writes benchmarks/results/sparse-images.json, docs/sparse_images.svg and what stands between the marks of
docs/sparse_images.md; size "paper" writes benchmarks/results/sparse-images-paper.json alone.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import joblib

from benchmarks.kept import kept_in
from benchmarks.pages import RESULTS
from benchmarks.sparse_images import page
from benchmarks.sparse_images.claims import findings
from benchmarks.sparse_images.methods import METHODS, SCHEDULES, SETTINGS, Tuned, arms_of, constants_of, measured
from benchmarks.sparse_images.models import Metrics, Models
from benchmarks.sparse_images.protocol import CELLS, PAPER, SCENARIOS, SMALL, Cell, Protocol, drawn
from benchmarks.sparse_images.tuning import TUNING_SEED, tune
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
@click.option("--size", default="small", show_default=True, type=click.Choice(["small", "paper"]))
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option("--state", type=click.Path(path_type=Path), help="Where measurements are kept, instead of HARNESS_HOME.")
def main(data: Path | None, pixels: str, seeds: int, jobs: int, size: str, device: str, state: Path | None) -> None:
    """Make the study."""
    protocol = SMALL if size == "small" else PAPER
    source = load_dataset(
        "torchvision:CIFAR10", folder=Path(), cache=home() / "data", copy=data, downscale=protocol.downscale
    )
    files = {method.file for method in (METHODS | SCHEDULES).values()}
    images = hash_arrays(source.examples.arrays())
    folder = state or kept_in(f"sparse-images-{size}", repr(protocol), device, images, files=files)
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(source, protocol, folder, device)
    tuning = study.tuning()
    chosen = {scenario: found["chosen"] for scenario, found in tuning.items()}
    joblib.Parallel(n_jobs=jobs)(joblib.delayed(study.measure)(seed, chosen) for seed in range(seeds))
    rows = [read_json(study.file(seed, cell)) for seed in range(seeds) for cell in CELLS]
    found = {"seeds": seeds, "size": size, "pixels": pixels, "device": device, **environment(), "tuning": tuning}
    write(size, {**found, "rows": rows, **findings(rows)})


def write(size: str, found: dict[str, Any]) -> None:
    """Write the result and, of the small size, the page's plot and tables."""
    write_json(RESULTS / f"{page.RESULT if size == 'small' else f'{page.RESULT}-paper'}.json", found)
    if size == "small":
        write_bytes(page.PAGE.with_suffix(".svg"), svg(page.figure(found["rows"])))
        for table in page.TABLES:
            table.write()


@dataclass(frozen=True)
class Study:
    """The images, the sizes, and where measurements are kept."""

    source: Dataset
    protocol: Protocol
    folder: Path
    device: str

    def tuning(self) -> dict[str, Any]:
        """Return the tuning of each scenario, made if it is not kept yet."""
        files = {scenario: self.folder / f"tuning-{scenario}.json" for scenario in SCENARIOS}
        for scenario, file in files.items():
            if not file.is_file():
                prepare_process(self.device)
                write_json(file, tune(self._models(TUNING_SEED), scenario, say))
        return {scenario: read_json(file) for scenario, file in files.items()}

    def measure(self, seed: int, tuned: dict[str, Tuned]) -> None:
        """Measure and keep all cells of a seed that are not kept yet."""
        missing = [cell for cell in CELLS if not self.file(seed, cell).is_file()]
        if not missing:
            return
        prepare_process(self.device, seed)
        models = self._models(seed)
        for cell in missing:
            started = time.process_time()
            found = measured_cell(models, cell, tuned[cell.scenario])
            seconds = round(time.process_time() - started, 1)
            place = {"seed": seed, "scenario": cell.scenario, "pruner": cell.pruner, "sparsity": cell.sparsity}
            write_json(self.file(seed, cell), {**place, "seconds": seconds, "models": found})
            say(f"seed {seed}, {cell.name}: {seconds} s")

    def file(self, seed: int, cell: Cell) -> Path:
        """Return the file of a cell of a seed."""
        return self.folder / f"seed-{seed}-{cell.name}.json"

    def _models(self, seed: int) -> Models:
        return Models(drawn(self.source, self.protocol, seed), self.protocol, seed, self.folder, self.device)


def measured_cell(models: Models, cell: Cell, tuned: Tuned) -> dict[str, Metrics]:
    """Return the metrics of the original, of retrained models, and of what every method makes at every setting."""
    sets, original = models.images.sets(cell.scenario), models.original(cell)
    clock = time.perf_counter if models.device == "cuda" else time.process_time
    started = clock()
    retrained = models.net(models.retrained(cell, sets))
    seconds = clock() - started
    found = {
        "original": models.measured(models.net(original), sets),
        "retrained": {**models.measured(retrained, sets), "seconds": seconds},
    }
    if cell == CELLS[0]:
        again = models.retrained(cell, sets, again=True)
        found["retrained again"] = models.measured(models.net(again), sets)
    for name, method in arms_of(cell).items():
        for setting in SETTINGS:
            value = method.values[0] if setting == "published" else tuned[name]
            constants = constants_of(name, value, tuned if setting == "tuned" else None)
            found[f"{name}, {setting}"] = measured(models, original, sets, name, constants)
    return found


def say(what: str) -> None:
    """Say how far it is."""
    click.echo(what, err=True)


if __name__ == "__main__":
    main()
