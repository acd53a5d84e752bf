"""Compare methods with a training side as Mercuri et al. do, "An Introduction to Machine Unlearning" (2022).

    python -m benchmarks.comparison [--seeds 3] [METHOD ...]

Every method of METHODS unlearns each request of each problem of its families, and is compared with a model that was
trained again from the same seed. What is measured is kept, so that the same command goes on where it was; so are rows
of the result that is there, if they are of the same files, versions and kind of machine. Given methods are measured
anew. Writes benchmarks/results/comparison.json, docs/comparison.svg and what stands between the marks of
docs/comparison.md.
"""

import itertools
from pathlib import Path
from typing import Any

import click

from benchmarks.comparison import page
from benchmarks.comparison.claims import claims
from benchmarks.comparison.measure import measured
from benchmarks.comparison.methods import METHODS
from benchmarks.comparison.problems import PROBLEMS, REQUESTS
from benchmarks.kept import kept_in
from benchmarks.pages import RESULTS
from data_prep.reference import prepare_process
from harness.environment import environment
from harness.report.style import svg
from harness.storage import read_json, write_bytes, write_json

Row = dict[str, Any]


@click.command()
@click.argument("names", nargs=-1, metavar="[METHOD ...]", type=click.Choice(list(METHODS)))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--state", type=click.Path(path_type=Path), help="Where measurements are kept, instead of HARNESS_HOME.")
def main(names: tuple[str, ...], seeds: int, state: Path | None) -> None:
    """Make the comparison."""
    state = state or kept_in("comparison")
    state.mkdir(parents=True, exist_ok=True)
    prepare_process()
    known, rows = rows_here(), list[Row]()
    for name, seed in itertools.product(METHODS, range(seeds)):
        is_anew = name in names
        found = None if is_anew else known.get((name, METHODS[name].source, seed))
        rows += found or rows_of(name, seed, state, is_anew=is_anew)
    sources = {name: METHODS[name].source for name in METHODS}
    verdicts = [one.to_json() for one in claims(rows)]
    result = {"seeds": seeds, **environment(), "sources": sources, "rows": rows, "claims": verdicts}
    write_json(RESULTS / f"{page.RESULT}.json", result)
    write_bytes(page.PAGE.with_suffix(".svg"), svg(page.figure(result)))
    for table in page.TABLES:
        table.write()


def rows_of(name: str, seed: int, state: Path, *, is_anew: bool) -> list[Row]:
    """Return what a method does on all requests of a seed, measured unless it is kept."""
    listed = METHODS[name]
    file = state / f"{name.replace(' ', '-').replace('/', '-')}-{listed.source}-{seed}.json"
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


def rows_here() -> dict[tuple[str, str, int], list[Row]]:
    """Return the rows of the stored result by method, source and seed; none if they are of another machine."""
    file = RESULTS / f"{page.RESULT}.json"
    stored = dict(read_json(file)) if file.is_file() else {}
    found: dict[tuple[str, str, int], list[Row]] = {}
    if all(stored.get(name) == value for name, value in environment().items()):
        for row in stored["rows"]:
            found.setdefault((row["method"], stored["sources"].get(row["method"], ""), row["seed"]), []).append(row)
    return found


if __name__ == "__main__":
    main()
