"""Write the table of verdicts: what each study asks, what it found of each claim, and the command that asks again.

    python -m benchmarks.studies

Reads the lists `claims` of the studies' results; nothing is measured. `make studies` makes the studies themselves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from benchmarks.pages import RESULTS, ROOT, Table, markdown, stored

__all__ = ["STUDIES", "TABLE", "Study"]

PAGE = ROOT / "docs" / "studies.md"


class Study(NamedTuple):
    """A question, and where it is answered: by `python -m benchmarks.NAME` in docs/NAME.md."""

    question: str
    name: str
    result: str  # the name of its file in benchmarks/results/
    claims: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda found: list(
        found["claims"]
    )  # as Claim stores them


STUDIES = (
    Study("Do the winning recipes of 2023 beat fine-tuning?", "recipes", "recipes-cifar10-small"),
    Study("Are steps, share or scale why the recipes gain less than in 2023?", "causes", "causes"),
    Study("Does the unlearning error fall with sparsity?", "theorem", "theorem"),
    Study("Does sparsity simplify unlearning of colour images?", "sparse_images", "sparse-images"),
    Study("Does unlearning remove a trojan, and better from a sparse model?", "trojan", "trojan-cifar10"),
    Study("Does l1-sparse replace retraining before a transfer?", "transfer", "transfer"),
    Study("Do the baselines of batch removal repeat the published figures?", "cat_and_ship", "cat-and-ship"),
    Study("How do methods with a training side compare?", "comparison", "comparison"),
)


@click.command()
def main() -> None:
    """Write the table."""
    TABLE.write()


def table() -> str:
    """Return a row for every claim of every study that has a result."""
    rows = []
    for study in STUDIES:
        if not (RESULTS / f"{study.result}.json").is_file():
            continue
        firsts = f"[{study.question}]({study.name}.md)", f"`python -m benchmarks.{study.name}`"
        for number, one in enumerate(study.claims(stored(study.result))):
            question, again = firsts if number == 0 else ("", "")
            rows.append([question, one["claim"], f"**{one['verdict']}**", one["found"], again])
    return markdown(["question", "claim", "verdict", "found", "command"], rows)


TABLE = Table(PAGE, "verdicts", "studies.py", table)

if __name__ == "__main__":
    main()
