"""Numbers as text."""

__all__ = ["UNKNOWN", "WITHHELD", "number"]

UNKNOWN = "\N{EN DASH}"
WITHHELD = "withheld"  # an official figure where too many examples are unresolved


def number(value: float | None, digits: int, sign: str = "") -> str:
    """Return a number as text, a dash where it is not known."""
    return UNKNOWN if value is None else f"{value:{sign}.{digits}f}"
