"""What the tables in the project's pages share: the names of metrics, and their place between two marks."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from harness.storage import write_bytes

__all__ = [
    "METRICS",
    "RESULTS",
    "ROOT",
    "Table",
    "between",
    "kept_rows",
    "machine",
    "markdown",
    "stored",
    "write_between",
]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
METRICS = {"ua": "UA", "mia_efficacy": "MIA-Efficacy", "ra": "RA", "ta": "TA"}  # of the disparity average


class Table(NamedTuple):
    """A place in a page between two marks, and what stands there: a function of stored results."""

    page: Path
    begin: str
    end: str
    text: Callable[[], str]

    def write(self) -> None:
        """Put the table into its page."""
        write_between(self.page, self.begin, self.end, self.text())


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands in a page between two marks, each on a line of its own; text ends with its last line."""
    before, _, rest = page.read_text().partition(begin)
    write_bytes(page, f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}".encode())


def between(page: Path, begin: str, end: str) -> str:
    """Return what stands in a page between two marks."""
    return page.read_text().partition(f"{begin}\n")[2].partition(end)[0]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table's text."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def stored(name: str) -> dict[str, Any]:
    """Return a stored result by the name of its file."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def kept_rows(path: Path, now: Mapping[str, object], *, leave_out: str | None = "FILES") -> dict[str, Any]:
    """Return the rows of a result measured before; none if what holds for them is not what holds now.

    leave_out: the argument without which all rows are measured anew; UsageError says so then. None if it is not given.
    """
    if not path.is_file():
        return {}
    before: dict[str, Any] = json.loads(path.read_text())
    changed = [name for name, value in now.items() if before.get(name) != value]
    if changed and leave_out is not None:
        raise click.UsageError(
            f"the other rows were measured under another {', '.join(changed)}; leave out {leave_out}"
        )
    rows: dict[str, Any] = {} if changed else before["rows"]
    return rows


def machine(found: dict[str, Any]) -> str:
    """Return where a result is from."""
    return f"{found['machine']}, torch {found['torch']}"
