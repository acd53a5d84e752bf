"""Standard output and error as they come: of any encoding, cut off by `head`, closed, or on a full disk.

Nobody who reads no further keeps work from being done: what cannot be written is dropped, and what cannot be encoded is
written in plain signs.
"""

import codecs
import errno
import io
import os
import select
import sys
import unicodedata
from typing import Any, TextIO

__all__ = ["StandardStreams", "in_plain_signs"]

PLAIN = {"±": "+-", "\N{EN DASH}": "-", "\N{MULTIPLICATION SIGN}": "x", "…": "..."}
PLAIN_SIGNS = "plain-signs"  # the name of an error handler of encodings
OUTPUT_LOST = 4  # exit code


class StandardStreams:
    """Takes the place of this process's standard streams; to be made once, at its start."""

    def __init__(self) -> None:
        for descriptor in (0, 1, 2):
            _open_if_closed(descriptor)
        codecs.register_error(PLAIN_SIGNS, in_plain_signs)
        self._output, self._error = _Patient(1, "w", closefd=False), _Patient(2, "w", closefd=False)
        sys.stdout, sys.stderr = _text_stream(self._output, sys.stdout), _text_stream(self._error, sys.stderr)

    def exit_code(self, code: "int | str | None") -> "int | str | None":
        """Write what is left, and return the exit code: another one if output was lost that somebody waits for."""
        sys.stdout.flush()
        lost = self._output.failure
        if lost is not None and lost.errno != errno.EPIPE:
            print(f"Error: output is lost: {lost.strerror}; what was made is stored", file=sys.stderr)
            code = code or OUTPUT_LOST
        sys.stderr.flush()
        return code


class _Patient(io.FileIO):
    """A stream that takes whatever it is given; once it cannot write, it drops it."""

    failure: OSError | None = None

    def write(self, content: Any, /) -> int:
        while self.failure is None:
            try:
                written = super().write(content)
            except OSError as error:
                self.failure = error
            else:
                if written is not None:
                    return written
                select.select([], [self], [])  # it is non-blocking, and full
        return len(content)


def _text_stream(raw: _Patient, before: TextIO | None) -> io.TextIOWrapper:
    encoding = "utf-8" if before is None else before.encoding
    is_by_line = isinstance(before, io.TextIOWrapper) and before.line_buffering
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, PLAIN_SIGNS, line_buffering=is_by_line)


def _open_if_closed(descriptor: int) -> None:
    """Give a standard stream that was closed an empty one: the next file that is opened would take its place."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for signs that an encoding lacks, as an error handler of encodings does.

    A letter is written by its number, so that names stay apart.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(map(_in_plain_signs, signs)), error.end


def _in_plain_signs(sign: str) -> str:
    is_symbol = unicodedata.category(sign).startswith("S")
    return PLAIN.get(sign) or ("?" if is_symbol else ascii(sign)[1:-1])
