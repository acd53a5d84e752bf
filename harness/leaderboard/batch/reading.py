"""Opens the files of strangers: no link is followed, none is opened twice, and no team's take all the time there is.

Teams may write to their folders while this reads them, so a file is opened once, looked at, and read from there.
"""

import errno
import os
import stat
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from harness.guarded import seconds_taken
from harness.leaderboard.batch.folders import File, link_problem
from harness.submission import MAX_NOTEBOOK_KB, Submission, submission_of

__all__ = ["Candidate", "Reader", "read_regular"]

MAX_BYTES = MAX_NOTEBOOK_KB * 1024  # of a file that is read at all; of code the track says how much there may be
PARSING_SECONDS = 60  # of processor time for the files of a team on one day; a file takes milliseconds


@dataclass(frozen=True)
class Candidate:
    """A file that somebody handed in, as it was when it was read."""

    name: str  # the name it is shown under: team/foo.py or foo.py
    team: str | None
    submission: Submission

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.submission.path


@dataclass
class Reader:
    """Reads what is handed in, as long as a team's files do not take the time of everybody else's."""

    source_kb: int
    # That parsing took, by team and day.
    _seconds: defaultdict[tuple[str, date], float] = field(default_factory=lambda: defaultdict(float))

    def refusal(self, file: File) -> str | None:
        """Return why a file is not read any more today, None if it is; one with a problem is not read anyway."""
        if file.team is None or file.problem is not None or self._seconds[file.team, _today()] < PARSING_SECONDS:
            return None
        return f"the files of {file.team} took {PARSING_SECONDS} s to be parsed, all that a team has on one day"

    def read(self, file: File) -> Candidate:
        """Return what is handed in with a file as it is now. Raises OSError that says why it is none.

        A whole file with no function to be run, nor one like it, is none: it is a helper, or somebody's notes.
        """
        if file.problem is not None:
            raise OSError(file.problem)
        content, before = read_regular(file.path, MAX_BYTES), seconds_taken()
        submission = submission_of(file.path, content, source_kb=self.source_kb)
        if file.team is not None:
            self._seconds[file.team, _today()] += seconds_taken() - before
        if submission.is_helper:
            raise OSError(submission.problems[0])
        return Candidate(file.name, file.team, submission)


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file that nobody else's link leads to. Raises OSError that says why not.

    A file may have several names, since anybody who can read it may have given it one. It counts in a folder of its
    owner's, or of ours. In the folder of another user it is a link that this one made.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(link_problem(path)) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if status.st_nlink > 1 and _is_strangers(status, path.parent.stat().st_uid):
            raise OSError("it is a link to the file of another user; a copy of one's own would count")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(f"it has more than {max_bytes >> 10} KB")
    return content


def _is_strangers(status: os.stat_result, folder_owner: int) -> bool:
    return folder_owner != status.st_uid and folder_owner != os.geteuid()


def _today() -> date:
    return datetime.now(UTC).date()
