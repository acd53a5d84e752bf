"""Write the table of verdicts: what each study asks, what it found of each claim, and the command that asks again.

    python -m benchmarks.studies

Reads the lists `claims` of the studies' results; nothing is measured. `make studies` makes the studies themselves.
"""

from typing import NamedTuple

import click

from benchmarks.pages import RESULTS, ROOT, Table, stored

__all__ = ["STUDIES", "TABLE", "Study"]

PAGE = ROOT / "docs" / "studies.md"
BEGIN, END = "<!-- verdicts: made by benchmarks/studies.py -->", "<!-- end of table -->"


class Study(NamedTuple):
    """A question, and where it is answered: docs/PAGE.md, from benchmarks/results/RESULT.json."""

    question: str
    page: str
    result: str
    command: str


STUDIES = (
    Study("Does the unlearning error fall with sparsity?", "theorem", "theorem", "theorem"),
    Study("Does l1-sparse replace retraining before a transfer?", "transfer", "transfer", "transfer"),
)


@click.command()
def main() -> None:
    """Write the table."""
    TABLE.write()


def table() -> str:
    """Return a row for every claim of every study that has a result."""
    lines = ["| question | claim | verdict | found | command |", "| --- " * 5 + "|"]
    for study in STUDIES:
        if not (RESULTS / f"{study.result}.json").is_file():
            continue
        command = f"`python -m benchmarks.{study.command}`"
        for number, one in enumerate(stored(study.result)["claims"]):
            question, again = (f"[{study.question}]({study.page}.md)", command) if number == 0 else ("", "")
            lines.append(f"| {question} | {one['claim']} | **{one['verdict']}** | {one['found']} | {again} |")
    return "\n".join(lines) + "\n"


TABLE = Table(PAGE, BEGIN, END, table)

if __name__ == "__main__":
    main()
