"""Names of files as they are typed in a command: messages name commands that people copy."""

import shlex
from pathlib import Path

__all__ = ["typed"]


def typed(file: Path | str) -> str:
    """Return a file's name as a shell reads it back, quoted if need be, and never an option."""
    name = str(file)
    return shlex.quote(f"./{name}" if name.startswith("-") else name)
