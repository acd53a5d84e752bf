"""Strangers' words, made safe to show: on a terminal, in a log, a table or a page."""

__all__ = ["escaped", "printable_lines"]


def escaped(text: str) -> str:
    """Return a participant's text without what could steer a terminal, or a CI system that reads commands in logs."""
    return _printable(text).replace("##", "# #")


def printable_lines(text: str) -> str:
    """Return a message of the harness without what could steer a terminal; it may quote a participant, and commands."""
    return "\n".join(map(_printable, text.split("\n")))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)
