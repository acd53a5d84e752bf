"""Strangers' words, made safe to show: on a terminal, in a log, a table or a page."""

__all__ = ["escaped"]


def escaped(text: str) -> str:
    """Return a participant's text without what could steer a terminal, or a CI system that reads commands in logs."""
    printable = "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)
    return printable.replace("##", "# #")
