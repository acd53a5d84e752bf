"""Scores the stored runs of submissions: many of them in several processes, or early, beside the runs of others.

Never in this process while runs are made: scoring holds the interpreter, which also holds the clock of runs.
"""

import io
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import joblib
from joblib.externals.loky import ProcessPoolExecutor
from rich.console import Console, RenderableType

from harness.evaluation.evaluate import Evaluation, load_evaluation
from harness.evaluation.history import add_to_history
from harness.evaluation.score_file import ScoreFile
from harness.parallel import processes_may_end
from harness.processors import usable_processors
from harness.report.escaping import escaped
from harness.report.redaction import redacted
from harness.report.terminal import show
from harness.runner.isolation import Isolation
from harness.runner.outcome import Outcome
from harness.scoring.uncertainty import standard_error
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = ["EarlyScores", "Scorer", "ScoringResult", "one_line"]

MIN_PER_PROCESS = 8  # submissions; fewer are scored sooner than a process has started
MAX_LINE = 200


@dataclass(frozen=True)
class ScoringResult:
    """What became of a submission with all its runs there."""

    outcome: Outcome
    message: str  # why it failed, in one line
    report: str  # all of it, as its author is told
    score: ScoreFile | None


@dataclass(frozen=True)
class Scorer:
    """Scores submissions on one track and stores what it finds."""

    track: Track
    home: Path
    device: str
    isolation: Isolation
    is_hidden: bool

    def score(self, submission: Submission, runs: int, *, rescore: bool = True) -> ScoringResult:
        """Score a submission whose runs are stored, up to a failed one; without `rescore` a stored score is shown."""
        evaluation = load_evaluation(
            submission,
            self.track,
            self.device,
            runs=runs,
            home=self.home,
            isolation=self.isolation,
            rescore=rescore,
        )
        evaluation = redacted(evaluation) if self.is_hidden else evaluation
        report = _rounded(evaluation) if self.is_hidden and evaluation.scored else _as_text(show(evaluation, []))
        if evaluation.outcome != Outcome.OK:
            return ScoringResult(evaluation.outcome, _reason(evaluation), report, None)
        add_to_history(self.home, evaluation)
        return ScoringResult(evaluation.outcome, "", report, evaluation.score_file)

    def score_all(self, submissions: Sequence[Submission], runs: int) -> Iterator[ScoringResult]:
        """Yield the results in the order of the submissions."""
        processes = max(1, min(int(usable_processors()), len(submissions) // MIN_PER_PROCESS))
        parallel = joblib.Parallel(n_jobs=processes, return_as="generator")
        with processes_may_end():
            yield from parallel(joblib.delayed(self.score)(submission, runs) for submission in submissions)


class EarlyScores:
    """Scores of submissions whose runs are there, made on spare processors while others' are made. Use as a context."""

    def __init__(self, scorer: Scorer, runs: int, processors: int) -> None:
        """processors: to spare; with none, nothing is scored early."""
        self._scorer, self._runs, self._processors = scorer, runs, processors
        self._added: set[str] = set()
        self._waiting: deque[tuple[str, Submission]] = deque()
        self._begun: dict[str, Future[ScoringResult]] = {}
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)

    def add(self, name: str, submission: Submission) -> None:
        """Take a submission whose runs are there, once."""
        if name not in self._added:
            self._added.add(name)
            self._waiting.append((name, submission))

    def begin(self) -> None:
        """Have what was added scored, as far as processors are free. To be called once it is known that runs go on."""
        while self._waiting and len(self._begun) < self._processors:
            name, submission = self._waiting.popleft()
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._processors, initializer=_leave_interrupts)
            self._begun[name] = self._pool.submit(self._scorer.score, submission, self._runs)

    def take(self, *, wait: bool = False) -> Iterator[tuple[str, ScoringResult]]:
        """Yield the results that are there; with `wait` all that were begun."""
        for name in [name for name, future in self._begun.items() if wait or future.done()]:
            yield name, self._begun.pop(name).result()


def _leave_interrupts() -> None:
    """Leave it to the process that began the batch to end this one: a terminal interrupts both."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def one_line(text: str) -> str:
    """Return a participant's words as the start of one line that can be shown."""
    return escaped(" ".join(text.split()))[:MAX_LINE]


def _reason(evaluation: Evaluation) -> str:
    if evaluation.failed is None:
        return one_line("; ".join(evaluation.submission.problems))
    said = one_line(evaluation.failed.info.message)
    return f"run {evaluation.failed.index}: {said or evaluation.outcome.remedy(evaluation.submission.path.name)}"


def _rounded(evaluation: Evaluation) -> str:
    """Return what may be told of a score on a hidden forget set: no more digits than its noise is worth.

    Whoever sees a score in full can climb it, one small change after another.
    """
    scored = evaluation.scored
    assert scored is not None
    error = 0.0 if scored.halves is None else standard_error(scored.halves.calibrated_score)
    lines = [
        f"calibrated score {scored.calibrated:.2f}, standard error {error:.2f}; 1.00 is what retraining gets",
        f"time {evaluation.share_of_limit:.0%} of the limit",
        *(f"alarm ({alarm.name}): the organizers will look at it" for alarm in evaluation.alarms or ()),
    ]
    return "\n".join(lines) + "\n"


def _as_text(shown: RenderableType) -> str:
    """Return what is shown on a terminal as plain text."""
    file = io.StringIO()
    Console(file=file, width=120, highlight=False).print(shown)
    return file.getvalue()
