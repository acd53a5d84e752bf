"""File names as they are shown, and in commands that are printed to be copied."""

import os
import shlex
from pathlib import Path

__all__ = ["quoted", "readable"]


def quoted(path: str | Path) -> str:
    """Return a path as one word of a shell, whatever signs it has; one that begins with a dash is no option."""
    text = f"./{path}" if str(path).startswith("-") else str(path)
    if text.isprintable():
        return shlex.quote(text)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(text))
    return f"$'{''.join(plain)}'"  # of bash and zsh, and on one line


def readable(name: str) -> str:
    """Return a file's name as text that any file can hold, whatever the locale says of its bytes."""
    return os.fsencode(name).decode("utf-8", errors="replace")
