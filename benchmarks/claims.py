"""What a study says of each claim it asks about: in its stored result, and as a table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.pages import markdown
from benchmarks.verdicts import Verdict

__all__ = ["Claim", "claims_table"]


@dataclass(frozen=True)
class Claim:
    """A claim, the verdict on it, and the intervals behind the verdict, in words."""

    claim: str
    verdict: Verdict
    found: str

    def to_json(self) -> dict[str, str]:
        """Return what a result stores in its list `claims`."""
        return {name: str(value) for name, value in asdict(self).items()}


def claims_table(claims: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of some stored claims."""
    rows = ([one["claim"], f"**{one['verdict']}**", one["found"]] for one in claims)
    return markdown(["claim", "verdict", "found"], rows).splitlines()
