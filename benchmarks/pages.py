"""What the tables in the project's pages share: the names of metrics, and their place between two marks."""

from pathlib import Path

from harness.storage import write_bytes

__all__ = ["METRICS", "write_between"]

METRICS = {"ua": "UA", "mia_efficacy": "MIA-Efficacy", "ra": "RA", "ta": "TA"}  # of the disparity average


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands in a page between two marks, each on a line of its own; text ends with its last line."""
    before, _, rest = page.read_text().partition(begin)
    write_bytes(page, f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}".encode())
