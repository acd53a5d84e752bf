"""What a run says of an exception: its text, and the lines of the submission that it passed through.

An exception of a process that the submission started, such as a loader's worker, comes with its traceback as a text.
"""

import re
import traceback

from harness.runner.inside.returned import BadOutputError

__all__ = ["own_lines", "text_of"]

OF_A_WORKER = "\nOriginal Traceback (most recent call last):\n"  # in the text of what a loader raises


def text_of(error: BaseException) -> str:
    """Return the class and the text of an exception, without a traceback."""
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001 - whatever it is, it is the file's
        return f"{type(error).__name__} (its message cannot be printed)"
    if isinstance(error, BadOutputError):
        return said
    head, of_a_worker, trace = said.partition(OF_A_WORKER)
    if of_a_worker:
        said = f"{head} {_last_words(trace)}"
    return f"{type(error).__name__}: {said}"


def _last_words(trace: str) -> str:
    """Return the end of a traceback: what comes after its last frame, which is indented."""
    after = trace.rpartition("\n  File ")[2].splitlines()[1:]
    ends = [place for place, line in enumerate(after) if not line.startswith(" ")]
    return "\n".join(after[ends[0] :]) if ends else ""


def own_lines(error: BaseException, filename: str) -> tuple[str, ...]:
    """Return the traceback's lines within the submission's own file, without those of the harness and of packages."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    lines = [f"{filename}, line {frame.lineno}, in {frame.name}: {frame.line}" for frame in frames]
    if isinstance(error, SyntaxError) and error.filename == filename:
        lines.append(f"{filename}, line {error.lineno}: {error.text}")
    return (*lines, *_lines_of_a_worker(error, filename))


def _lines_of_a_worker(error: BaseException, filename: str) -> list[str]:
    """Return the lines in the traceback that another process sent: within the text, or as the cause in pools."""
    try:
        trace = f"{error}\n{error.__cause__}"
    except BaseException:  # noqa: BLE001
        return []
    frame = rf'^  File "{re.escape(filename)}", line (\d+), in (\S+)\n    (.*)'
    return [
        f"{filename}, line {line}, in {name}: {code}" for line, name, code in re.findall(frame, trace, re.MULTILINE)
    ]
