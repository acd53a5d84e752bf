"""What the tables in the project's pages share: the names of metrics, and their place between two marks."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from harness.environment import environment
from harness.scoring.score import SCORER_VERSION
from harness.storage import write_bytes

__all__ = [
    "METRICS",
    "RESULTS",
    "ROOT",
    "Table",
    "kept_rows",
    "machine",
    "markdown",
    "scored_with",
    "stored",
]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
METRICS = {"ua": "UA", "mia_efficacy": "MIA-Efficacy", "ra": "RA", "ta": "TA"}  # of the disparity average


class Table(NamedTuple):
    """A place in a page between two marks, and what stands there: a function of stored results."""

    page: Path
    what: str  # it is, as the marks say it
    by: str  # what makes it, below benchmarks/
    text: Callable[[], str]  # ends with its last line

    @property
    def begin(self) -> str:
        """The mark before it, on a line of its own."""
        return f"<!-- {self.what}: made by benchmarks/{self.by} -->"

    @property
    def end(self) -> str:
        """The mark after it, on a line of its own."""
        return f"<!-- end of {self.what} -->"

    def write(self) -> None:
        """Put the table into its page."""
        before, _, rest = self.page.read_text().partition(self.begin)
        after = rest.partition(self.end)[2]
        write_bytes(self.page, f"{before}{self.begin}\n{self.text()}{self.end}{after}".encode())

    def written(self) -> str:
        """Return what stands in the page."""
        return self.page.read_text().partition(f"{self.begin}\n")[2].partition(self.end)[0]


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


def scored_with() -> dict[str, str]:
    """Return the environment of a result that holds scores: their intervals and alarms depend on the scorer too."""
    return {"scorer": SCORER_VERSION, **environment()}


def machine(found: dict[str, Any]) -> str:
    """Return where a result is from, and which scorer it is of, if of any."""
    scorer = f", scorer {found['scorer']}" if "scorer" in found else ""
    return f"{found['machine']}, torch {found['torch']}{scorer}"
