"""A submission as text: read, named by hashes, checked without running it. It is never imported on this side."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.constants import Constant
from harness.contract import SUFFIXES
from harness.errors import UsageError
from harness.excerpt import Excerpt
from harness.guarded import guarded
from harness.information import NOTHING, Information
from harness.quoting import quoted, readable
from harness.shipped import all_baseline_names
from harness.source_text import as_utf8
from harness.spelling import did_you_mean_file

__all__ = ["MAX_NOTEBOOK_KB", "Submission", "constants_of", "read_submission", "submission_of"]

MAX_NOTEBOOK_KB = 16 * 1024  # with its pictures; of its code the track's limit holds


@dataclass(frozen=True)
class Submission:
    """One file: a module, a whole script, or a notebook.

    sha256 names the file's bytes. code_hash names its behaviour (comments and layout do not count, constants that were
    set do) and keys runs and seeds. problems: what the static check found; such a file is not run. information: how
    much its code says, the same for the same code_hash.
    """

    path: Path
    source: str  # what is run: the file or what was taken of it, with constants set
    sha256: str
    code_hash: str
    constants: dict[str, str]  # those set for this evaluation, as Python literals
    problems: tuple[str, ...]
    information: Information = NOTHING
    excerpt: Excerpt | None = None  # what was taken of a notebook or a whole script; None if all of the file is run
    is_helper: bool = False  # it has no function to be run, nor one like it: its only problem
    is_learner: bool = False  # it trains as well: its `unlearn` starts from what its own `train` left
    certificate: tuple[float, float] | None = None  # epsilon and delta that a learner claims

    @property
    def content(self) -> bytes:
        """What is run, as the content of a file that is this very submission."""
        return as_utf8(self.source)

    @property
    def name(self) -> str:
        """The file as it is shown: its path below a folder `submissions`, else its name."""
        parts = [readable(part) for part in self.path.parts]
        return "/".join(parts[parts.index("submissions") + 1 :]) if "submissions" in parts else parts[-1]


def read_submission(path: Path, *, source_kb: int, constants: Mapping[str, str] | None = None) -> Submission:
    """Return a submission, checked, with capital constants set as `--set NAME=VALUE` asks.

    A file with a fault is returned with its problems. Raises UsageError if there is no file to read or if a constant
    cannot be set.
    """
    try:
        if not path.exists():
            meant = did_you_mean_file(path, SUFFIXES, all_baseline_names())
            raise UsageError(f"no file {path}{meant}; start one: harness new {quoted(path.with_suffix('.py'))}")
        if not path.is_file():
            raise UsageError(f"{path} is not a file; name one submission, such as submissions/template.py")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    return submission_of(path, content, source_kb=source_kb, constants=constants)


def submission_of(
    path: Path,
    content: bytes,
    *,
    source_kb: int,
    constants: Mapping[str, str] | None = None,
    is_compact: bool = False,
) -> Submission:
    """Return the submission that a file with this content is; `path` only names it, and nothing is read.

    is_compact: let an excerpt have no gaps, so that its lines have other numbers than those of the file.
    Whatever is wrong with the content is a problem of the submission.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    constants = dict(constants or {})
    is_notebook = path.suffix == ".ipynb"
    try:
        _check_size("file", content, MAX_NOTEBOOK_KB if is_notebook else source_kb)
        found = guarded("source", content, constants=constants, is_notebook=is_notebook, is_compact=is_compact)
        _check_size("code taken from it", found["source"].encode(), source_kb)
    except ValueError as error:
        return Submission(path, "", sha256, sha256, constants, (str(error),))
    excerpt = found["excerpt"]
    return Submission(
        path,
        found["source"],
        sha256,
        found["code_hash"],
        constants,
        tuple(found["problems"]),
        Information(**found["information"]),
        excerpt and Excerpt(**{name: tuple(lines) for name, lines in excerpt.items()}),
        found["is_helper"],
        found["is_learner"],
        found["certificate"] and tuple(found["certificate"]),
    )


def constants_of(submission: Submission) -> dict[str, Constant]:
    """Return the constants in capitals of a submission by name, in the order of the file, with those that were set.

    Raises UsageError if one of them is too much for Python to write out.
    """
    try:
        found = guarded("constants", submission.source.encode())
    except ValueError as error:
        raise UsageError(f"the constants of {submission.path} cannot be read: {error}") from None
    return {name: Constant(**constant) for name, constant in found.items()}


def _check_size(what: str, content: bytes, most_kb: int) -> None:
    """Raise ValueError if there is more than that."""
    if len(content) > most_kb * 1024:
        raise ValueError(f"the {what} has {len(content) / 1024:.0f} KB, the limit is {most_kb} KB")
