"""One call of `harness leaderboard run`: files are entered on the board, and run here or on a cluster."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

from harness.contract import SUFFIXES
from harness.errors import UsageError
from harness.leaderboard.batch.backend import Backend
from harness.leaderboard.batch.batch import BatchEntry, SubmissionBatch, Terms
from harness.leaderboard.batch.progress import Progress
from harness.leaderboard.batch.reading import Candidate
from harness.leaderboard.batch.register import register
from harness.leaderboard.batch.scorer import one_line
from harness.leaderboard.batch.teams import DailyQuota, SubmissionsFound
from harness.leaderboard.batch.watch import Watch
from harness.leaderboard.board.entries import BoardFile, Entry, board_folder, stored_terms, write_board
from harness.leaderboard.board.known_code import shared_code, told_of_shared
from harness.locks import LockedError, locked
from harness.runs.store import Results
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = ["Session"]

NO_LEARNERS = (
    "the workers are on several machines, and a learner's models are compared bit for bit: use workers of one machine, "
    "or leave out --scheduler"
)


@dataclass(frozen=True)
class Session:
    """One call of the command: it enters files on the board, and has them run."""

    track: Track
    home: Path
    backend: Backend
    terms: Terms
    zone: ZoneInfo
    max_per_day: int | None
    is_device_given: bool  # by its name, so that a board of another one goes on here

    def run(self, found: SubmissionsFound, progress: Progress, *, is_whole: bool) -> list[BatchEntry]:
        """Run what was found, which may be nothing unless it is the whole; return all that are on the board now.

        Only parts of a whole may be run side by side.
        """
        with self._alone() if is_whole else contextlib.nullcontext():
            return self._run(found, progress, is_whole)

    def _run(self, found: SubmissionsFound, progress: Progress, is_whole: bool) -> list[BatchEntry]:
        for sentence in found.passed_over:
            progress.say(sentence)
        if not found.candidates and is_whole:
            kinds = " or ".join(SUFFIXES)
            raise UsageError(f"there is no submission to run: name {kinds} files, or a folder with some or with teams")
        batch = self._batch(progress)
        candidates = [each for each in found.candidates if self._can_be_made(each)]
        for candidate in found.candidates:
            if not self._can_be_made(candidate):
                progress.say(f"{candidate.name} is passed over: {NO_LEARNERS}")
        entries = self._register(candidates)
        for candidate in candidates:
            if candidate.name not in entries:
                progress.say(f"{candidate.name} {self._why_not_entered(candidate)}")
        for alike in shared_code(entries.values()).values():
            progress.say(told_of_shared([each.submission for each in alike]))
        batch_entries = [
            batch.open_entry(candidate, entries[candidate.name])
            for candidate in candidates
            if candidate.name in entries
        ]
        batch.run(batch_entries)
        return batch_entries

    def watch(self, places: Sequence[Path], progress: Progress) -> NoReturn:
        """Run files as they are dropped, until it is interrupted."""
        with self._alone():
            self._watch(places, progress)

    def _watch(self, places: Sequence[Path], progress: Progress) -> NoReturn:
        def enter(candidate: Candidate) -> BatchEntry | str:
            if not self._can_be_made(candidate):
                return f"waits: {NO_LEARNERS}"
            entry = self._register([candidate]).get(candidate.name)
            return self._why_not_entered(candidate) if entry is None else batch.open_entry(candidate, entry)

        watch = Watch(places, source_kb=self.track.declaration.limits.source_kb, enter=enter)
        batch = self._batch(progress, on_change=watch.on_change)
        progress.say(f"watching {', '.join(map(str, places))}; Ctrl-C ends it")
        watch.run(batch)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other calls off the board meanwhile. Raises UsageError if there is one."""
        try:
            with locked(board_folder(self.home, self.track) / ".lock", waits=False):
                yield
        except LockedError:
            raise UsageError(
                "another harness leaderboard run is at work on this board; wait until it ends, or give each call its "
                "part: --shard"
            ) from None

    def _batch(self, progress: Progress, on_change: Callable[[BatchEntry], None] | None = None) -> SubmissionBatch:
        terms, backend = self.terms, self.backend
        folder = board_folder(self.home, self.track)
        before = stored_terms(folder)
        if before is not None:
            self._check_goes_on(before, folder / "board.json")
        boundaries = terms.boundaries or (before.boundaries if before is not None else ())
        write_board(folder, BoardFile.of(self.track, runs=terms.runs, boundaries=boundaries, device=backend.device))
        return SubmissionBatch(self.track, self.home, terms, backend, progress=progress, on_change=on_change)

    def _check_goes_on(self, before: BoardFile, file: Path) -> None:
        """Raise UsageError if a board would lose its ranks, or make all its runs anew, and nobody asked for that."""
        if before.runs > self.terms.runs:
            raise UsageError(
                f"the board ranks {before.runs} runs of each, and {self.terms.runs} would take their ranks: leave out "
                f"--runs, or begin the board anew by removing {file}"
            )
        device = self.backend.device
        if before.device != device and not self.is_device_given:
            raise UsageError(
                f"the board ranks runs on {before.device}, and --device auto has found {device} (see harness doctor): "
                f"give --device {before.device}, or --device {device} to make all runs anew on it"
            )

    def _can_be_made(self, candidate: Candidate) -> bool:
        return self.backend.is_one_machine or not candidate.submission.is_learner

    def _register(self, candidates: list[Candidate]) -> dict[str, Entry]:
        def results(submission: Submission) -> str:
            return Results.of(self.home, self.track, submission, self.backend.device).folder.name

        return register(
            candidates,
            board_folder(self.home, self.track),
            device=self.backend.device,
            results=results,
            now=datetime.now(self.zone),
            quota=None if self.max_per_day is None else DailyQuota(self.max_per_day),
        )

    def _why_not_entered(self, candidate: Candidate) -> str:
        """Return what is told of a candidate over its team's quota."""
        today = f"{datetime.now(self.zone).date()} ({self.zone})"
        if not candidate.submission.problems:
            return (
                f"waits: {candidate.team} has entered {self.max_per_day} of {self.max_per_day} submissions of {today}"
            )
        told = f"{candidate.team} has been told of {self.max_per_day} files with a fault on {today}"
        return f"is passed over: {one_line('; '.join(candidate.submission.problems))}; {told}"
