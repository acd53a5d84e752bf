"""Strangers' words, made safe to show: on a terminal, in a log, a table or a page."""

__all__ = ["escaped", "escaped_lines"]


def escaped(text: str) -> str:
    """Return a participant's text without what could steer a terminal, or a CI system that reads commands in logs."""
    printable = "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)
    return printable.replace("##", "# #")


def escaped_lines(text: str) -> str:
    """Return a text of several lines that may quote a participant, each line as `escaped` has it."""
    return "\n".join(map(escaped, text.split("\n")))
