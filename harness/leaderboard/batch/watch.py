"""Evaluates files as teams drop them, in the order in which they are complete, and tells each team how it stands.

What a team is told lies beside its file, as `foo.py.log`: its place in the queue, then its score or what went wrong, or
why the file is passed over.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.leaderboard.batch.batch import BatchEntry, SubmissionBatch
from harness.leaderboard.batch.folders import LOG, File, files
from harness.leaderboard.batch.progress import ending
from harness.leaderboard.batch.reading import Candidate, Reader
from harness.storage import write_bytes

__all__ = ["Watch"]

POLL_SECONDS = 1.0  # between two looks at the folders
SETTLE_SECONDS = 2.0  # a file that has not changed for so long is complete
RETRY_SECONDS = 60.0  # until a file that has to wait for its team's quota is looked at again
MAX_NAME = 255  # bytes of a file's name
LOG_MODE = 0o644  # the harness may run as root, its teams do not


@dataclass
class Seen:
    """A file as it was at the last look."""

    status: tuple[int, int, int]  # size, time of the last change, inode
    since: float  # when it was first seen like this
    is_taken: bool = False
    waits: Candidate | None = None  # what was read of it, while its team is over its quota


class Watch:
    """Folders that are watched, and the queue of what was dropped there."""

    def __init__(
        self, places: Sequence[Path], *, source_kb: int, enter: Callable[[Candidate], BatchEntry | str]
    ) -> None:
        """enter: returns an entry of the batch for a candidate, or a sentence that says why it has to wait."""
        self.places, self.enter, self._reader = places, enter, Reader(source_kb)
        self.queue: list[BatchEntry] = []
        self._seen: dict[Path, Seen] = {}
        self._told: dict[Path, str] = {}
        self._polled_at = -POLL_SECONDS

    def run(self, batch: SubmissionBatch) -> NoReturn:
        """Evaluate what is dropped, one submission after another, until it is interrupted."""
        while True:
            self.poll()
            if self.queue:
                batch.run([self.queue.pop(0)])
            else:
                time.sleep(POLL_SECONDS)

    def on_change(self, batch_entry: BatchEntry) -> None:
        """Tell a team how its submission stands, and look at the folders in passing."""
        self._tell_of(batch_entry.candidate, _standing(batch_entry))
        self.poll()

    def poll(self) -> None:
        """Queue the files that have become complete, and tell teams their places."""
        if time.monotonic() - self._polled_at < POLL_SECONDS:
            return
        self._polled_at = time.monotonic()
        over_quota: set[str | None] = set()  # a thousand files of such a team are not tried at every look
        for file in files(self.places):
            is_waiting = file.team in over_quota and file.path in self._told
            if self._is_complete(file) and not is_waiting and not self._take(file):
                over_quota.add(file.team)
        for place, batch_entry in enumerate(self.queue, start=1):
            self._tell_of(batch_entry.candidate, f"queued: place {place} of {len(self.queue)}")

    def _is_complete(self, file: File) -> bool:
        """Whether a file has stopped changing and was not taken as it is now."""
        try:
            found = file.path.lstat()
        except OSError:
            return False
        status = (found.st_size, found.st_mtime_ns, found.st_ino)
        seen = self._seen.get(file.path)
        if seen is None or seen.status != status:
            self._seen[file.path] = seen = Seen(status, time.monotonic())
        return not seen.is_taken and time.monotonic() - seen.since >= SETTLE_SECONDS

    def _take(self, file: File) -> bool:
        """Queue a file, or say why it is passed over; return False if it has to wait, which its team is told."""
        seen = self._seen[file.path]
        if seen.waits is None and (refusal := self._reader.refusal(file)) is not None:
            self._tell(file.path, f"{file.name} waits: {refusal}\n")
            seen.since = time.monotonic() + RETRY_SECONDS - SETTLE_SECONDS
            return False
        try:
            candidate = seen.waits or self._reader.read(file)
        except OSError as error:
            seen.is_taken = True
            _write_log(file.path, f"{file.name} is passed over and is not evaluated: {error.strerror or error}\n")
            return True
        entered = self.enter(candidate)
        if isinstance(entered, str):
            self._tell_of(candidate, entered)
            seen.waits, seen.since = candidate, time.monotonic() + RETRY_SECONDS - SETTLE_SECONDS
            return False
        seen.is_taken, seen.waits = True, None
        self.queue = [waiting for waiting in self.queue if waiting.name != entered.name]  # an older version
        self.queue.append(entered)
        return True

    def _tell_of(self, candidate: Candidate, sentence: str) -> None:
        self._tell(candidate.path, f"{candidate.name}, sha256 {candidate.submission.sha256[:16]}\n{sentence}\n")

    def _tell(self, path: Path, text: str) -> None:
        if self._told.get(path) != text:
            self._told[path] = text
            _write_log(path, text)


def _standing(batch_entry: BatchEntry) -> str:
    entry = batch_entry.entry
    if batch_entry.is_open:
        return "queued: next" if entry.state == "queued" and not entry.runs else f"running: {entry.runs} runs made"
    return f"{ending(entry)}\n\n{batch_entry.report}"


def _write_log(path: Path, content: str) -> None:
    with contextlib.suppress(OSError):  # a team that took its folder away is not told
        write_bytes(path.with_name(_log_name(path.name)), content.encode(errors="replace"), mode=LOG_MODE)


def _log_name(name: str) -> str:
    """Return the name of a file's log; a name that would be too long for a file is cut, and told apart by a hash."""
    given = os.fsencode(name)
    if len(given) + len(LOG) <= MAX_NAME:
        return f"{name}{LOG}"
    end = f"-{hashlib.sha256(given).hexdigest()[:8]}{LOG}"
    return given[: MAX_NAME - len(end)].decode(errors="ignore") + end
