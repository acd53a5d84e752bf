"""How a run can end: a closed list, each with whose fault it is and one line of remedy."""

from enum import StrEnum
from pathlib import Path

from harness.quoting import quoted

__all__ = ["Outcome"]


class Outcome(StrEnum):
    """How one run ended, or a submission: that of its first failed run in the order of the indices."""

    OK = "OK"
    INVALID_SUBMISSION = "INVALID_SUBMISSION"
    IMPORT_ERROR = "IMPORT_ERROR"
    EXCEPTION = "EXCEPTION"
    TIME_LIMIT = "TIME_LIMIT"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    BAD_OUTPUT = "BAD_OUTPUT"
    NON_FINITE = "NON_FINITE"
    CRASHED = "CRASHED"
    HARNESS_ERROR = "HARNESS_ERROR"

    @property
    def is_fault_of_submission(self) -> bool:
        """Whether the file has to change; such a run is never repeated."""
        return self not in (Outcome.OK, Outcome.HARNESS_ERROR)

    def remedy(self, file: str | Path, *options: str) -> str:
        """Return what to do about it, for the author of a file; options: of a command on that file."""
        return _REMEDIES[self].replace("FILE", " ".join([quoted(file), *options]))


_REMEDIES = {
    Outcome.OK: "",
    Outcome.INVALID_SUBMISSION: "put that right; a file to start from: harness new submissions/foo.py",
    Outcome.IMPORT_ERROR: "import only packages that the contract lists, and no files of your own: "
    "python -m pydoc harness.contract",
    Outcome.EXCEPTION: "run it in the foreground, with prints and breakpoint(): harness check --debug FILE",
    Outcome.TIME_LIMIT: "do less: fewer epochs, larger batches; a run is killed at twice the limit",
    Outcome.MEMORY_LIMIT: "use less memory: smaller batches, fewer copies of the net and of the data, fewer workers",
    Outcome.BAD_OUTPUT: "return the net you were given, with its own layers and shapes, or None if changed in place",
    Outcome.NON_FINITE: "keep the weights finite: lower the learning rate, or clip the gradients",
    Outcome.CRASHED: "the process ended without returning: look for os._exit, native code, or a signal to itself",
    Outcome.HARNESS_ERROR: "not your fault: run it again, and report it if it comes back",
}
