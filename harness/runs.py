"""Makes the runs that submissions lack, several at once, and stores each as soon as it is measured."""

import contextlib
import itertools
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from harness.environment import environment
from harness.measure import Meter, NonFiniteLogitsError
from harness.parallel import run_each
from harness.results import Conditions, Results, Run
from harness.runner import launch
from harness.runner.launch import launcher
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runner.run import Finished, execute, seeds_of
from harness.runner.sandbox.sandboxes import Quota
from harness.submission import Submission
from harness.track import Track

__all__ = ["Crew", "Here", "Pending", "Runner", "Task", "make_runs", "run_in_foreground"]


@dataclass(frozen=True)
class Task:
    """One run to be made: all that it takes beside the track."""

    submission: Submission
    index: int
    order: int  # its place among the submission's runs made this time, as they are started
    swap_forget_set: bool = False


@dataclass
class Pending:
    """The runs that one submission lacks. Once they have an end, none after that index is started."""

    submission: Submission
    results: Results
    indices: Sequence[int]
    swap_forget_set: bool = False  # the same runs with other examples to forget; they are stored apart
    end: int | None = None

    def end_at(self, index: int) -> None:
        """Let no run after this index be started."""
        self.end = index if self.end is None else min(self.end, index)

    def is_over(self, index: int) -> bool:
        """Whether the run of this index is not to be made any more."""
        return self.end is not None and index > self.end

    def tasks(self) -> Iterator[Task]:
        """Yield the runs in the order of their indices, as long as they are wanted."""
        for order, index in enumerate(self.indices):
            if self.is_over(index):
                return
            yield Task(self.submission, index, order, self.swap_forget_set)

    def store(self, run: Run) -> None:
        """Keep a run, whatever its outcome, unless the harness failed: that one is made again next time."""
        if run.outcome != Outcome.HARNESS_ERROR:
            self.results.save_run(run, swap_forget_set=self.swap_forget_set)


class Crew(Protocol):
    """What makes runs: this machine, or the workers of a cluster."""

    def make(self, wanted: Iterable[tuple[Pending, Task]]) -> Iterator[tuple[Pending, Run]]:
        """Yield the runs as they are done; those that are not wanted any more may be left out."""


def make_runs(pending: Sequence[Pending], crew: Crew) -> Iterator[tuple[Pending, Run]]:
    """Yield the runs that are pending, each once it is stored, as they are done.

    The first run of every submission comes first, since most that fail do so at once, and then one submission after
    another. A run that is not OK is the last that its submission starts.
    """
    for each in pending:
        each.results.begin(each.submission)
    queues = [(each, each.tasks()) for each in pending]
    first = ((each, task) for each, tasks in queues for task in itertools.islice(tasks, 1))
    others = ((each, task) for each, tasks in queues for task in tasks)
    for each, run in crew.make(itertools.chain(first, others)):
        if run.outcome != Outcome.OK:
            each.end_at(run.index)
        each.store(run)
        yield each, run


class Here:
    """This machine as a crew."""

    def __init__(self, track: Track, conditions: Conditions) -> None:
        self.runner, self.jobs = Runner(track, conditions), conditions.jobs

    def make(self, wanted: Iterable[tuple[Pending, Task]]) -> Iterator[tuple[Pending, Run]]:
        """Yield the runs as they are done, `conditions.jobs` at a time."""

        def run_unless_over(item: tuple[Pending, Task]) -> tuple[Pending, Run] | None:
            each, task = item
            return None if each.is_over(task.index) else (each, self.runner.run(task))

        with _interrupted_by(self.runner.launcher.close):
            yield from filter(None, run_each(run_unless_over, wanted, jobs=self.jobs))


class Runner:
    """Runs submissions on one track and measures what comes back. Several threads may share it."""

    def __init__(self, track: Track, conditions: Conditions) -> None:
        assert conditions.limit is not None, "runs need a time limit"
        torch.set_num_threads(conditions.threads)  # of the measuring here, which shares the cores with the runs
        limits = track.declaration.limits
        self.track, self.conditions, self.limit = track, conditions, conditions.limit
        self.meter = Meter(track)
        self.launcher = launcher(
            track.public,
            public_hash=track.manifest.public_hash,
            device=conditions.device,
            log_kb=limits.log_kb,
            isolation=conditions.isolation.level,
            quota=Quota(limits.memory_mb, limits.processes, limits.scratch_mb),
            fork=conditions.fork,
        )

    def run(self, task: Task) -> Run:
        """Run a submission once and measure what came back."""
        started = time.monotonic()
        submission, original = task.submission, task.index % len(self.meter.originals)
        finished = execute(
            self.launcher,
            source=submission.source,
            filename=submission.path.name,
            original=original,
            seeds=seeds_of(self.track.secret, submission.code_hash, task.index),
            device=self.conditions.device,
            threads=self.conditions.threads,
            limit_seconds=self.limit.seconds,
            n_values=self.meter.n_values,
            swap_forget_set=task.swap_forget_set,
        )
        record = None
        if finished.weights is not None:
            try:
                record = self.meter.record_run(finished.weights, original)
            except NonFiniteLogitsError:
                message = "the weights are finite, the outputs of the net are not"
                finished = replace(finished, outcome=Outcome.NON_FINITE, message=message)
        info = self._info(finished, task.order) | {"whole_seconds": time.monotonic() - started}
        return Run(task.index, finished.outcome, finished.seconds, info, record)

    def _info(self, finished: Finished, order: int) -> dict[str, Any]:
        return {
            "message": finished.message,
            "lines": list(finished.lines),
            "log": finished.log,
            "seconds_inside": finished.seconds_inside,
            "harness_errors": list(finished.harness_errors),
            "limit_seconds": self.limit.seconds,
            "calibration": self.limit.calibration,
            "order": order,
            "device": self.conditions.device,
            "isolation": self.launcher.isolation,
            "environment": environment(),
        }


@contextlib.contextmanager
def _interrupted_by(end_runs: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C end the runs in flight first: the threads that wait for them could not be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        end_runs()
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def run_in_foreground(submission: Submission, track: Track, conditions: Conditions) -> bool:
    """Run a submission once in the foreground, with the seeds of run 0; whether it returned a fit net."""
    assert conditions.limit is not None, "runs need a time limit"
    with tempfile.TemporaryDirectory(prefix="harness-scratch-") as scratch:
        job = Job(
            source=submission.source,
            filename=str(submission.path.resolve()),
            original=0,
            seeds=seeds_of(track.secret, submission.code_hash, 0),
            device=conditions.device,
            threads=conditions.threads,
            time_limit_seconds=conditions.limit.seconds,
            scratch=scratch,
        )
        return launch.run_in_foreground(track.public, job)
