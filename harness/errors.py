"""The two errors a person is told about in one line; anything else is a bug of ours and keeps its traceback."""

__all__ = ["MachineError", "UsageError"]


class UsageError(Exception):
    """What was asked for cannot be done as asked; the message names the next command. Exit code 2."""


class MachineError(Exception):
    """The harness's files or the machine failed (damaged track, full disk); the message says what to do. Exit 4."""
