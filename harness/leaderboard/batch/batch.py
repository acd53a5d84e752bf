"""Runs many submissions on one track: stage by stage as one queue, each scored once its runs are there.

A submission that fails is an entry like any other and stops nobody. All that is known lies in files, so the same batch
begun again goes on where it was, and a batch of more files or more runs makes only the new ones.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from harness.evaluation.figures import RANKING
from harness.evaluation.make import make_missing
from harness.evaluation.score_file import ScoreFile
from harness.evaluation.stored_score import score_name, stored_score
from harness.leaderboard.batch.backend import Backend
from harness.leaderboard.batch.elimination import in_reach
from harness.leaderboard.batch.progress import Progress
from harness.leaderboard.batch.reading import Candidate
from harness.leaderboard.batch.scorer import EarlyScores, Scorer, ScoringResult, one_line
from harness.leaderboard.board.entries import Entry, board_folder, write_entry
from harness.leaderboard.board.known_code import shipped_baselines
from harness.parallel import processes_may_end
from harness.report.score_columns import score_column
from harness.runner.outcome import Outcome
from harness.runs.learner_runs import run_set_of
from harness.runs.run_set import RunSet
from harness.runs.stage import Stage
from harness.runs.store import Results
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
    again: bool = False  # stored failures are made again, whatever they depend on


class Standing(TypedDict):
    """What an entry says of its last score."""

    stage: int
    score: str | None
    runs: int
    outcome: Outcome


class BatchEntry:
    """A submission on its way through a batch."""

    def __init__(
        self, candidate: Candidate, entry: Entry, results: Results, keep: Callable[["BatchEntry"], None]
    ) -> None:
        self.candidate, self.entry, self.results = candidate, entry, results
        self.is_open = True
        self.run_set: RunSet | None = None  # of the stage, once it is begun; shared with those of the same code
        self.intervals: dict[int, tuple[float, float] | None] = {}  # of its scores by number of runs, see `_interval`
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

    @property
    def n_ok(self) -> int:
        """How many of its runs are there and OK."""
        return 0 if self.run_set is None else self.run_set.n_ok


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

    def open_entry(self, candidate: Candidate, entry: Entry) -> BatchEntry:
        """Return a candidate with its entry as one on its way through the batch."""
        results = Results.of(self.home, self.track, candidate.submission, self.backend.device)
        return BatchEntry(candidate, entry, results, self._keep)

    def run(self, entries: Sequence[BatchEntry]) -> None:
        """Make and score the runs of all entries, stage by stage."""
        for stage in self.terms.stages:
            unscored = [each for each in entries if each.is_open and not self._has_score(each, stage)]
            with processes_may_end(), EarlyScores(self.scorer, stage, self.backend.free_processors) as early:
                self._make_runs(unscored, stage, early)
            self._settle([each for each in unscored if each.is_open and stage not in each.intervals], stage)
            if stage != self.terms.runs and self.terms.boundaries:
                self._close_out_of_reach(entries, stage)
        for batch_entry in entries:
            if batch_entry.is_open:
                self._close_as_done(batch_entry)

    # ---- runs -----------------------------------------------------------------------------------------------------

    def _make_runs(self, entries: Sequence[BatchEntry], stage: int, early: EarlyScores) -> None:
        """Make the runs up to this stage that are not stored; submissions of the same code share theirs."""
        alike: dict[str, list[BatchEntry]] = {}
        for batch_entry in entries:
            if not batch_entry.candidate.submission.problems:
                alike.setdefault(batch_entry.results.folder.name, []).append(batch_entry)
        run_sets = [self._run_set(group, stage) for group in alike.values()]
        waiting = [each for each in entries if each.run_set is not None and self._is_lacking(each.run_set)]
        for batch_entry in waiting:
            batch_entry.update(state="queued", stage=stage)
        counts = {each.name: each.run_set.counts for each in waiting if each.run_set is not None}
        self.progress.begin(f"stage of {stage} runs", counts)
        by_name = {each.name: each for each in entries}
        for run_set, run in make_missing(run_sets, self.backend.executor, one_by_one=self.backend.is_shared_gpu):
            group = alike[run_set.results.folder.name]
            for name, result in early.take():
                self._take_score(by_name[name], result, stage)
            early.begin()
            if run_set.stage != Stage.SWAPPED:
                self._count(run_set, run.index, group)
            if self.backend.free_processors and self._is_to_be_scored(group[0]):
                for batch_entry in group:
                    early.add(batch_entry.name, batch_entry.candidate.submission)
        for name, result in early.take(wait=True):
            self._take_score(by_name[name], result, stage)

    def _run_set(self, group: Sequence[BatchEntry], stage: int) -> RunSet:
        """Return the runs of submissions of the same code, nothing of which is made if they are over their time."""
        run_set = self._stored(group[0], stage)
        if self._is_over_time(run_set):
            run_set.end_at(-1)
        for batch_entry in group:
            batch_entry.run_set = run_set
        return run_set

    def _stored(self, batch_entry: BatchEntry, stage: int, *, in_brief: bool = False) -> RunSet:
        """Return the runs up to a stage as they are stored, those that count under these terms."""
        return run_set_of(
            batch_entry.candidate.submission,
            batch_entry.results,
            stage,
            required_isolation=self.terms.required_isolation,
            gpus=self.backend.gpus,
            in_brief=in_brief,
            failure_counts=lambda run: not self.terms.again and self.backend.failure_counts(run),
        )

    def _is_lacking(self, run_set: RunSet) -> bool:
        return bool(run_set.lacking) and not run_set.is_ended

    def _is_over_time(self, run_set: RunSet) -> bool:
        """Whether the mean time of all runs is over the limit even if those to come took no time at all."""
        return any(each.limits_used > self.terms.runs for each in run_set.timed)

    def _count(self, made: RunSet, index: int, group: Sequence[BatchEntry]) -> None:
        """Take note of a run that was made, and end the queue of its submissions if they are over their time."""
        run_set = group[0].run_set
        assert run_set is not None
        if self._is_over_time(run_set):
            run_set.end_at(index)
        for batch_entry in group:
            batch_entry.update(state="running", runs=run_set.n_ok)
            self.progress.count(batch_entry.name, "trainings" if made.stage.trained_on else "runs")
            if run_set.is_ended or run_set.failed is not None:
                self.progress.drop(batch_entry.name)

    # ---- scores ---------------------------------------------------------------------------------------------------

    def _has_score(self, batch_entry: BatchEntry, stage: int) -> bool:
        """Whether the score of so many runs is stored, and all that it was made from is there and counts now.

        Whoever is told of it gets the runs with it, which have to be whole then.
        """
        stored = stored_score(batch_entry.results, self.track, stage)
        if stored is None or stored.n_runs != stage:
            return False
        run_set = self._stored(batch_entry, stage, in_brief=self.on_change is None)
        if not run_set.is_complete or stored.runs_seal != run_set.seal:
            return False
        batch_entry.intervals[stage] = self._interval(stored)
        return True

    def _interval(self, score: ScoreFile) -> tuple[float, float] | None:
        """Return the interval of the score that ranks.

        It has no lower end while the submission would not be ranked: then it puts nobody out of reach.
        """
        interval = score_column(RANKING[self.track.declaration.evaluation.rank_by]).ends(score)
        if interval is None:
            return None
        return (interval[0] if score.ranked else -math.inf, interval[1])

    def _is_to_be_scored(self, batch_entry: BatchEntry) -> bool:
        """Whether all its runs are there, up to one that failed through no fault of the harness."""
        run_set = batch_entry.run_set
        if run_set is None:  # a fault of the file
            return True
        is_ours = run_set.failed is not None and run_set.failed.outcome == Outcome.HARNESS_ERROR
        return run_set.is_complete and not is_ours

    def _settle(self, entries: Sequence[BatchEntry], stage: int) -> None:
        """Say what became of the entries' runs: scored, failed, or stopped for its time."""
        complete = []
        for batch_entry in entries:
            if self._is_to_be_scored(batch_entry):
                complete.append(batch_entry)
            else:
                self._close_unscored(batch_entry)
        self.progress.begin(f"scoring {len(complete)} submissions", {})
        results = self.scorer.score_all([each.candidate.submission for each in complete], stage)
        for batch_entry, result in zip(complete, results, strict=True):
            self._take_score(batch_entry, result, stage)

    def _close_unscored(self, batch_entry: BatchEntry) -> None:
        failed = None if batch_entry.run_set is None else batch_entry.run_set.failed
        if failed is not None and failed.outcome == Outcome.HARNESS_ERROR:
            message = f"{one_line(failed.info.message)}; {failed.outcome.remedy(batch_entry.entry.file)}"
            self._close(batch_entry, "failed", outcome=failed.outcome, message=message)
        else:
            message = f"{self._over_time(batch_entry)}over the time limit, whatever the runs to come would take"
            score = self._standing(batch_entry)["score"]
            self._close(batch_entry, "stopped", score=score, outcome=Outcome.OK, message=message)

    def _over_time(self, batch_entry: BatchEntry) -> str:
        """Return that `train` is over its limit, if it is, to begin a message."""
        trainings = () if batch_entry.run_set is None else batch_entry.run_set.timed[:-1]
        return "train is " if any(each.limits_used > self.terms.runs for each in trainings) else ""

    def _take_score(self, batch_entry: BatchEntry, result: ScoringResult, stage: int) -> None:
        batch_entry.report = result.report
        if result.score is None:
            self._close(batch_entry, "failed", stage=stage, outcome=result.outcome, message=result.message)
            return
        batch_entry.intervals[stage] = self._interval(result.score)
        if stage == self.terms.runs:
            self._close_as_done(batch_entry)
        else:
            batch_entry.update(state="queued", **self._standing(batch_entry))

    def _standing(self, batch_entry: BatchEntry) -> Standing:
        stage = max(batch_entry.intervals, default=0)
        score = score_name(self.track, stage) if stage else None
        return {"stage": stage, "score": score, "runs": max(stage, batch_entry.n_ok), "outcome": Outcome.OK}

    def _close_out_of_reach(self, entries: Sequence[BatchEntry], stage: int) -> None:
        """Give no more runs to those that cannot reach the last boundary any more."""
        rank = max(self.terms.boundaries)
        intervals = {
            each.name: interval
            for each in entries
            if (interval := each.intervals.get(stage)) is not None and not each.entry.is_learner
        }
        stay = dict(zip(intervals, in_reach(list(intervals.values()), rank), strict=True))
        for batch_entry in entries:
            if batch_entry.is_open and not stay.get(batch_entry.name, True):
                self._close_as_done(batch_entry, f"rank {rank} is out of reach after {stage} runs")

    def _close_as_done(self, batch_entry: BatchEntry, message: str = "") -> None:
        notes = [message] if message else []
        if (baseline := shipped_baselines().get(batch_entry.entry.code_hash)) is not None:
            notes.append(f"its code is that of the baseline {baseline}, which is shown and not ranked")
        standing = self._standing(batch_entry)
        if self.on_change is not None and not batch_entry.report:  # it was scored by an earlier batch
            result = self.scorer.score(batch_entry.candidate.submission, standing["stage"], rescore=False)
            batch_entry.report = result.report
        self._close(batch_entry, "done", message="; ".join(notes), **standing)

    def _close(self, batch_entry: BatchEntry, state: str, **changes: Any) -> None:
        batch_entry.close(state, **{"runs": batch_entry.n_ok, "score": None, **changes})
        if self.on_change is not None:
            self.on_change(batch_entry)
        self.progress.end(batch_entry.entry)

    def _keep(self, batch_entry: BatchEntry) -> None:
        write_entry(self.folder, batch_entry.entry)
        if self.on_change is not None:
            self.on_change(batch_entry)


def stages_of(runs: int, stages: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of runs that submissions are given one after another, the last being `runs`."""
    return (*sorted({stage for stage in stages if stage < runs}), runs)
