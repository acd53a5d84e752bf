"""Runs many submissions on one track: stage by stage as one queue, each scored when its runs are there.

A submission that fails is an entry like any other and stops nobody. All that is known lies in files, so the same batch
begun again goes on where it was, and a batch of more files or more runs makes only the new ones.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.evaluation.evaluate import N_SWAPPED, missing_runs, score_name, stored_score
from harness.evaluation.score_file import ScoreFile
from harness.leaderboard.batch.backend import Backend
from harness.leaderboard.batch.elimination import in_reach
from harness.leaderboard.batch.progress import Progress
from harness.leaderboard.batch.scorer import Scorer, one_line
from harness.leaderboard.batch.teams import Candidate
from harness.leaderboard.board.entries import Entry, board_folder, write_entry
from harness.runner.isolation import is_enough
from harness.runner.outcome import Outcome
from harness.runs.queue import Pending, make_runs
from harness.runs.run import Conditions, Run, RunInfo
from harness.runs.store import Results
from harness.scoring.thresholds import FEWEST_RANKED
from harness.tracks.track import Track

__all__ = ["BatchEntry", "SubmissionBatch", "Terms", "stages_of"]

WRITE_SECONDS = 1.0  # between two writes of an entry that only counts runs


@dataclass(frozen=True)
class Terms:
    """What every submission of a batch is given."""

    runs: int
    stages: tuple[int, ...]  # numbers of runs, the last being `runs`
    boundaries: tuple[int, ...] = ()  # ranks that more runs are spent on; none: everybody gets all
    required_isolation: str | None = None
    is_hidden: bool = False  # nothing that a run says is kept where its author sees it


class BatchEntry:
    """A submission on its way through a batch."""

    def __init__(
        self, candidate: Candidate, entry: Entry, results: Results, keep: Callable[["BatchEntry"], None]
    ) -> None:
        self.candidate, self.entry, self.results = candidate, entry, results
        self.is_open = True
        self.runs: dict[int, Run] = {}  # without their records
        self.harness_error: Run | None = None
        self.reaches: dict[int, tuple[float, float] | None] = {}  # of its scores by number of runs, see `_reach`
        self.report = ""  # what its team is told, once there is an evaluation
        self._keep, self._kept_at = keep, 0.0

    @property
    def name(self) -> str:
        """The name it is shown under."""
        return self.entry.submission

    def update(self, **changes: Any) -> None:
        """Change its entry, and keep it: at once if its state changes, else now and then."""
        changed = self.entry.model_copy(update=changes)
        if changed == self.entry:
            return
        is_new_state = changed.model_copy(update={"runs": 0}) != self.entry.model_copy(update={"runs": 0})
        self.entry = changed
        if is_new_state or time.monotonic() - self._kept_at >= WRITE_SECONDS:
            self._kept_at = time.monotonic()
            self._keep(self)

    def close(self, state: str, **changes: Any) -> None:
        """End its way through the batch."""
        self.is_open = False
        self.update(state=state, **changes)

    def learn(self, run: Run) -> None:
        """Take note of a run, new or stored."""
        if run.outcome == Outcome.HARNESS_ERROR:
            self.harness_error = run
        else:
            kept = RunInfo(run.info.limit_seconds, run.info.isolation)
            self.runs[run.index] = replace(run, record=None, info=kept)

    @property
    def n_ok(self) -> int:
        """How many of its runs are there and OK."""
        return sum(run.outcome == Outcome.OK for run in self.runs.values())

    def is_over_time(self, runs: int) -> bool:
        """Whether the mean time of so many runs is over the limit even if those to come took no time at all."""
        used: float = sum(run.seconds / run.info.limit_seconds for run in self.runs.values())
        return used > runs


class SubmissionBatch:
    """One track, one set of terms, and what makes the runs."""

    def __init__(
        self,
        track: Track,
        home: Path,
        terms: Terms,
        backend: Backend,
        *,
        progress: Progress,
        on_change: Callable[[BatchEntry], None] | None = None,
    ) -> None:
        """on_change hears of every change."""
        self.track, self.home, self.terms, self.backend = track, home, terms, backend
        self.progress, self.on_change = progress, on_change
        self.scorer = Scorer(track, home, backend.device, backend.isolation, terms.is_hidden)
        self.folder = board_folder(home, track)

    def contender(self, candidate: Candidate, entry: Entry) -> BatchEntry:
        """Return a candidate with its entry as a contender."""
        conditions = Conditions(limit=None, isolation=self.backend.isolation, device=self.backend.device)
        results = Results(self.home, self.track, candidate.submission, conditions)
        return BatchEntry(candidate, entry, results, self._keep)

    def run(self, contenders: Sequence[BatchEntry]) -> None:
        """Make and score the runs of all contenders, stage by stage."""
        for stage in self.terms.stages:
            unscored = [each for each in contenders if each.is_open and not self._has_score(each, stage)]
            self._make_runs(unscored, stage)
            self._settle(unscored, stage)
            if stage != self.terms.runs and self.terms.boundaries:
                self._close_out_of_reach(contenders, stage)
        for contender in contenders:
            if contender.is_open:
                self._close_as_done(contender)

    # ---- runs -----------------------------------------------------------------------------------------------------

    def _make_runs(self, contenders: Sequence[BatchEntry], stage: int) -> None:
        """Make the runs up to this stage that are not stored; submissions of the same code share theirs."""
        alike: dict[str, list[BatchEntry]] = {}
        for contender in contenders:
            if not contender.candidate.submission.problems:
                alike.setdefault(contender.results.folder.name, []).append(contender)
        pending = []
        done = {}
        for group in alike.values():
            stored = group[0].results.runs(range(stage), self.terms.required_isolation, gpus=self.backend.gpus)
            for contender, run in ((contender, run) for contender in group for run in stored.values()):
                contender.learn(run)
            missing = missing_runs(stored, stage)
            if missing and not group[0].is_over_time(self.terms.runs):
                for contender in group:
                    contender.update(state="queued", stage=stage)
                    done[contender.name] = len(stored)
                pending.append(Pending(group[0].candidate.submission, group[0].results, missing))
        self.progress.begin(f"stage of {stage} runs", done, stage)
        for each, run in self._made(pending):
            for contender in alike[each.results.folder.name]:
                self._count(contender, each, run)
        if stage >= FEWEST_RANKED:
            self._make_swapped_runs([group[0] for group in alike.values() if group[0].n_ok == stage])

    def _made(self, pending: Sequence[Pending]) -> Iterator[tuple[Pending, Run]]:
        """Yield the runs that are pending, all as one queue where that is allowed."""
        queues = [[each] for each in pending] if self.backend.is_shared_gpu else [list(pending)]
        for queue in queues:
            if queue:
                yield from make_runs(queue, self.backend.executor())

    def _count(self, contender: BatchEntry, pending: Pending, run: Run) -> None:
        """Take note of a run that was made, and end the submission's queue if it is over its time."""
        contender.learn(run)
        if contender.is_over_time(self.terms.runs):
            pending.end_at(run.index)
        contender.update(state="running", runs=contender.n_ok)
        self.progress.count(contender.name)
        if pending.end is not None:
            self.progress.drop(contender.name)

    def _make_swapped_runs(self, contenders: Sequence[BatchEntry]) -> None:
        """Make the few runs with other examples to forget that an alarm needs."""
        pending = []
        for contender in contenders:
            stored = contender.results.runs(range(N_SWAPPED), gpus=self.backend.gpus, swap_forget_set=True)
            if missing := missing_runs(stored, N_SWAPPED):
                pending.append(Pending(contender.candidate.submission, contender.results, missing, True))
        for _ in self._made(pending):
            pass

    # ---- scores ---------------------------------------------------------------------------------------------------

    def _has_score(self, contender: BatchEntry, stage: int) -> bool:
        """Whether the score of so many runs is stored, and those were isolated as is required now."""
        stored = stored_score(contender.results, self.track, stage)
        if stored is None or stored.n_runs != stage:
            return False
        if not is_enough(stored.isolation.level, self.terms.required_isolation):
            return False
        gpus = self.backend.gpus
        if gpus and len(contender.results.runs(range(stage), gpus=gpus)) < stage:
            return False  # of another card, or another driver
        contender.reaches[stage] = self._reach(stored)
        return True

    def _reach(self, score: ScoreFile) -> tuple[float, float] | None:
        """Return the interval of the score that ranks.

        It has no lower end while the submission would not be ranked: then it puts nobody out of reach.
        """
        is_official = self.track.declaration.evaluation.rank_by == "official"
        interval = score.score_interval if is_official else score.calibrated_interval
        if interval is None:
            return None
        return (interval[0] if score.ranked else -math.inf, interval[1])

    def _settle(self, contenders: Sequence[BatchEntry], stage: int) -> None:
        """Say what became of the contenders' runs: scored, failed, or stopped for its time."""
        complete = []
        for contender in contenders:
            has_problems = bool(contender.candidate.submission.problems)
            if has_problems or not missing_runs(contender.runs, stage):
                complete.append(contender)
            elif (error := contender.harness_error) is not None:
                message = f"{one_line(error.info.message)}; {error.outcome.remedy}"
                self._close(contender, "failed", outcome=error.outcome, message=message)
            else:
                message = "over the time limit, whatever the runs to come would take"
                score = self._standing(contender)["score"]
                self._close(contender, "stopped", score=score, outcome=Outcome.OK, message=message)
        self.progress.begin(f"scoring {len(complete)} submissions", {}, 0)
        results = self.scorer.score_all([each.candidate.submission for each in complete], stage)
        for contender, result in zip(complete, results, strict=True):
            contender.report = result.report
            if result.score is None:
                self._close(contender, "failed", outcome=result.outcome, message=result.message)
            else:
                contender.reaches[stage] = self._reach(result.score)
                contender.update(state="queued", **self._standing(contender))

    def _standing(self, contender: BatchEntry) -> dict[str, Any]:
        """Return what an entry says of the last score."""
        stage = max(contender.reaches, default=0)
        score = score_name(self.track, stage) if stage else None
        return {"stage": stage, "score": score, "runs": max(stage, contender.n_ok), "outcome": Outcome.OK}

    def _close_out_of_reach(self, contenders: Sequence[BatchEntry], stage: int) -> None:
        """Give no more runs to those that cannot reach the last boundary any more."""
        rank = max(self.terms.boundaries)
        reaches = {each.name: reach for each in contenders if (reach := each.reaches.get(stage)) is not None}
        stay = dict(zip(reaches, in_reach(list(reaches.values()), rank), strict=True))
        for contender in contenders:
            if contender.is_open and not stay.get(contender.name, True):
                self._close_as_done(contender, f"rank {rank} is out of reach after {stage} runs")

    def _close_as_done(self, contender: BatchEntry, message: str = "") -> None:
        standing = self._standing(contender)
        if self.on_change is not None and not contender.report:  # it was scored by an earlier batch
            result = self.scorer.score(contender.candidate.submission, standing["stage"], rescore=False)
            contender.report = result.report
        self._close(contender, "done", message=message, **standing)

    def _close(self, contender: BatchEntry, state: str, **changes: Any) -> None:
        contender.close(state, **{"runs": contender.n_ok, "score": None, **changes})
        if self.on_change is not None:
            self.on_change(contender)
        self.progress.end(contender.entry)

    def _keep(self, contender: BatchEntry) -> None:
        write_entry(self.folder, contender.entry)
        if self.on_change is not None:
            self.on_change(contender)


def stages_of(runs: int, stages: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of runs that submissions are given one after another, the last being `runs`."""
    return (*sorted({stage for stage in stages if stage < runs}), runs)
