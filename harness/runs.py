"""Makes the runs of a submission that are missing, several at once, and stores each as soon as it is measured."""

import contextlib
import itertools
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from harness.environment import environment
from harness.measure import Meter, NonFiniteLogitsError
from harness.parallel import run_in_order
from harness.results import Conditions, Limit, Results, Run
from harness.runner import launch
from harness.runner.launch import launcher
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runner.process import Launcher
from harness.runner.run import Finished, execute, seeds_of
from harness.runner.sandbox.sandboxes import Quota
from harness.submission import Submission
from harness.track import Track

__all__ = ["make_runs", "run_in_foreground"]


@dataclass(frozen=True)
class _Stage:
    """All that the runs of one evaluation share."""

    submission: Submission
    track: Track
    conditions: Conditions
    limit: Limit
    launcher: Launcher
    meter: Meter
    slots: threading.Semaphore  # one for each run at once; a model being measured takes none
    swap_forget_set: bool

    def run(self, index: int, order: Iterator[int]) -> Run:
        """Run the submission once and measure what came back."""
        original = index % len(self.meter.originals)
        with self.slots:
            place = next(order)
            finished = execute(
                self.launcher,
                source=self.submission.source,
                filename=self.submission.path.name,
                original=original,
                seeds=seeds_of(self.track.secret, self.submission.code_hash, index),
                device=self.conditions.device,
                threads=self.conditions.threads,
                limit_seconds=self.limit.seconds,
                n_values=self.meter.n_values,
                swap_forget_set=self.swap_forget_set,
            )
        record = None
        if finished.weights is not None:
            try:
                record = self.meter.record_run(finished.weights, original)
            except NonFiniteLogitsError:
                message = "the weights are finite, the outputs of the net are not"
                finished = replace(finished, outcome=Outcome.NON_FINITE, message=message)
        return Run(index, finished.outcome, finished.seconds, self._info(finished, place), record)

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


def make_runs(
    submission: Submission,
    track: Track,
    conditions: Conditions,
    results: Results,
    indices: Sequence[int],
    *,
    on_run: Callable[[Run], None] = lambda run: None,
    swap_forget_set: bool = False,
) -> dict[int, Run]:
    """Return the runs of the given indices, in order, up to the first that fails.

    swap_forget_set: the same runs with other examples to forget; they are stored apart.
    Every finished run is stored, whatever its outcome, unless the harness failed: that one is made again next time.
    """
    assert conditions.limit is not None, "runs need a time limit"
    torch.set_num_threads(conditions.threads)  # of the measuring here, which shares the cores with the runs
    limits = track.declaration.limits
    processes = launcher(
        track.public,
        public_hash=track.manifest.public_hash,
        device=conditions.device,
        log_kb=limits.log_kb,
        isolation=conditions.isolation.level,
        quota=Quota(limits.memory_mb, limits.processes, limits.scratch_mb, conditions.threads),
        fork=conditions.fork,
    )
    stage = _Stage(
        submission=submission,
        track=track,
        conditions=conditions,
        limit=conditions.limit,
        launcher=processes,
        meter=Meter(track, conditions.device),
        slots=threading.Semaphore(conditions.jobs),
        swap_forget_set=swap_forget_set,
    )
    order = itertools.count()

    def run_and_store(index: int) -> Run:
        run = stage.run(index, order)
        if run.outcome != Outcome.HARNESS_ERROR:
            results.save_run(run, swap_forget_set=swap_forget_set)
        return run

    results.begin(submission)
    made = {}
    with _interrupted_by(processes.close):
        # Beside the runs on a GPU, which leave the processor idle, another thread measures the last one. On the
        # processor a run has the cores it was calibrated with: there each thread measures what it ran.
        threads = conditions.jobs + (conditions.device == "cuda")
        for run in run_in_order(run_and_store, indices, jobs=threads, is_last=lambda run: run.outcome != Outcome.OK):
            on_run(run)
            made[run.index] = run
    return made


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
