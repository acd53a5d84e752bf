"""One call of `harness leaderboard run`: files are entered on the board, and run here or on a cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

from harness.accelerator import of
from harness.errors import UsageError
from harness.leaderboard.batch.batch import Batch, Contender, Terms
from harness.leaderboard.batch.progress import Progress
from harness.leaderboard.batch.register import enrol
from harness.leaderboard.batch.teams import Candidate, Found, Quota
from harness.leaderboard.batch.watch import Watch
from harness.leaderboard.board.entries import BoardFile, Entry, board_folder, write_board
from harness.runner.isolation import Isolation
from harness.runs.conditions import Announce, conditions_here
from harness.runs.queue import Crew
from harness.runs.run import Conditions
from harness.runs.store import Results
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = ["Session", "Workplace"]


@dataclass(frozen=True)
class Workplace:
    """Where runs are made."""

    device: str
    isolation: Isolation
    hire: Callable[[], Crew]
    is_shared_gpu: bool = False  # several runs at once use one GPU
    gpus: frozenset[str] = frozenset()  # their names and drivers

    @classmethod
    def here(
        cls, track: Track, home: Path, *, device: str, jobs: int | None, isolation: Isolation, announce: Announce
    ) -> "Workplace":
        """Return this machine, which is made ready only once there is something to run."""

        @cache
        def hire() -> Crew:
            from harness.runs.local import Here  # imports torch

            return Here(
                track,
                conditions_here(track, home, device=device, isolation=isolation, jobs=jobs, announce=announce),
            )

        card = of(device)
        gpus = frozenset() if card.identity is None else frozenset((card.identity,))
        return cls(device, isolation, hire, is_shared_gpu=card.is_gpu and (jobs or 1) > 1, gpus=gpus)


@dataclass(frozen=True)
class Session:
    """One call of the command: it enters files on the board, and has them run."""

    track: Track
    home: Path
    place: Workplace
    terms: Terms
    zone: ZoneInfo
    max_per_day: int | None

    def run(self, found: Found, progress: Progress, *, is_whole: bool) -> list[Contender]:
        """Run what was found, which may be nothing unless it is the whole; return all that are on the board now."""
        for sentence in found.passed_over:
            progress.say(sentence)
        if not found.candidates and is_whole:
            raise UsageError("there is no submission to run: name files, or a folder with .py files or teams' folders")
        batch = self._batch(progress)
        entries = self._enrol(found.candidates)
        for candidate in found.candidates:
            if candidate.name not in entries:
                progress.say(f"{candidate.name} waits: {self._quota_sentence(candidate)}")
        contenders = [
            batch.contender(candidate, entries[candidate.name])
            for candidate in found.candidates
            if candidate.name in entries
        ]
        batch.run(contenders)
        return contenders

    def watch(self, places: Sequence[Path], progress: Progress) -> NoReturn:
        """Run files as they are dropped, until it is interrupted."""

        def enter(candidate: Candidate) -> Contender | str:
            entry = self._enrol([candidate]).get(candidate.name)
            return f"waits: {self._quota_sentence(candidate)}" if entry is None else batch.contender(candidate, entry)

        watch = Watch(places, source_kb=self.track.declaration.limits.source_kb, enter=enter)
        batch = self._batch(progress, on_change=watch.on_change)
        progress.say(f"watching {', '.join(map(str, places))}; Ctrl-C ends it")
        watch.run(batch)

    def _batch(self, progress: Progress, on_change: Callable[[Contender], None] | None = None) -> Batch:
        terms, place = self.terms, self.place
        board = BoardFile.of(self.track, runs=terms.runs, boundaries=terms.boundaries, device=place.device)
        write_board(board_folder(self.home, self.track), board)
        return Batch(
            self.track,
            self.home,
            place.device,
            terms,
            hire=place.hire,
            progress=progress,
            isolation=place.isolation,
            is_shared_gpu=place.is_shared_gpu,
            gpus=place.gpus,
            on_change=on_change,
        )

    def _enrol(self, candidates: list[Candidate]) -> dict[str, Entry]:
        conditions = Conditions(limit=None, isolation=self.place.isolation, device=self.place.device)

        def results(submission: Submission) -> str:
            return Results(self.home, self.track, submission, conditions).folder.name

        return enrol(
            candidates,
            board_folder(self.home, self.track),
            device=self.place.device,
            results=results,
            now=datetime.now(self.zone),
            quota=None if self.max_per_day is None else Quota(self.max_per_day),
        )

    def _quota_sentence(self, candidate: Candidate) -> str:
        today = datetime.now(self.zone).date()
        return f"{candidate.team} has entered its {self.max_per_day} submissions of {today} ({self.zone})"
