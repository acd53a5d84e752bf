"""Compare methods with a training side as Mercuri et al. do, "An Introduction to Machine Unlearning" (2022).

    python -m benchmarks.comparison [--seeds 3] [METHOD ...]

Every method of METHODS unlearns each request of each problem of its families, and is compared with a model that was
trained again from the same seed. What is measured is kept, so that the same command goes on where it was; given methods
are measured anew. Writes benchmarks/results/comparison.json, docs/comparison.svg and what stands between the marks of
docs/comparison.md.
"""

import hashlib
from pathlib import Path
from typing import Any

import click

from benchmarks.comparison import page
from benchmarks.comparison.claims import claims
from benchmarks.comparison.measure import measured
from benchmarks.comparison.methods import METHODS
from benchmarks.comparison.problems import PROBLEMS, REQUESTS
from benchmarks.pages import RESULTS
from data_prep.reference import prepare_process
from harness.environment import environment, home
from harness.report.style import svg
from harness.storage import read_json, write_bytes, write_json


@click.command()
@click.argument("names", nargs=-1, metavar="[METHOD ...]", type=click.Choice(list(METHODS)))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--state", type=click.Path(path_type=Path), help="Where measurements are kept, instead of HARNESS_HOME.")
def main(names: tuple[str, ...], seeds: int, state: Path | None) -> None:
    """Make the comparison."""
    state = state or home() / "study" / "comparison"
    state.mkdir(parents=True, exist_ok=True)
    prepare_process()
    rows = [
        row for name in METHODS for seed in range(seeds) for row in rows_of(name, seed, state, is_anew=name in names)
    ]
    found = {"seeds": seeds, **environment(), "rows": rows, "claims": [one.to_json() for one in claims(rows)]}
    write_json(RESULTS / f"{page.RESULT}.json", found)
    write_bytes(page.PAGE.with_suffix(".svg"), svg(page.figure(found)))
    for table in page.TABLES:
        table.write()


def rows_of(name: str, seed: int, state: Path, *, is_anew: bool) -> list[dict[str, Any]]:
    """Return what a method does on all requests of a seed, measured unless it is kept."""
    listed = METHODS[name]
    source = hashlib.sha256(listed.source + repr(listed.constants).encode()).hexdigest()[:12]
    file = state / f"{name.replace(' ', '-').replace('/', '-')}-{source}-{seed}.json"
    if is_anew or not file.is_file():
        method = listed.loaded()
        rows = [
            {"method": name, "problem": problem.name, "request": str(request), "seed": seed}
            | measured(method, problem, request, seed)
            for family in listed.families
            for problem in PROBLEMS[family]
            for request in REQUESTS[family]
        ]
        write_json(file, rows)
        click.echo(f"{name}, seed {seed}: {len(rows)} requests", err=True)
    return list(read_json(file))


if __name__ == "__main__":
    main()
