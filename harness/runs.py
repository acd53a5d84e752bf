"""Makes runs on this machine: several at once, each measured as soon as it has ended."""

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch

from harness.environment import environment
from harness.measure import Meter, NonFiniteLogitsError
from harness.parallel import run_each
from harness.pending import Pending, Task
from harness.results import Conditions, Run
from harness.runner import launch
from harness.runner.launch import launcher
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runner.run import Finished, execute, seeds_of
from harness.runner.sandbox.sandboxes import Quota
from harness.submission import Submission
from harness.track import Track

__all__ = ["Here", "Runner", "run_in_foreground"]


class Here:
    """This machine as a crew."""

    def __init__(self, track: Track, conditions: Conditions) -> None:
        self.runner = Runner(track, conditions)
        # Beside the runs on a GPU, which leave the processor idle, another thread measures the last one. On the
        # processor a run has the cores it was calibrated with: there each thread measures what it ran.
        self.threads = conditions.jobs + (conditions.device == "cuda")

    def make(self, wanted: Iterable[tuple[Pending, Task]]) -> Iterator[tuple[Pending, Run]]:
        """Yield the runs as they are done, `conditions.jobs` at a time."""

        def run_unless_over(item: tuple[Pending, Task]) -> tuple[Pending, Run] | None:
            each, task = item
            return None if each.is_over(task.index) else (each, self.runner.run(task))

        with _interrupted_by(self.runner.launcher.close):
            yield from filter(None, run_each(run_unless_over, wanted, jobs=self.threads))


class Runner:
    """Runs submissions on one track and measures what comes back. Several threads may share it."""

    def __init__(self, track: Track, conditions: Conditions) -> None:
        assert conditions.limit is not None, "runs need a time limit"
        torch.set_num_threads(conditions.threads)  # of the measuring here, which shares the cores with the runs
        limits = track.declaration.limits
        self.track, self.conditions, self.limit = track, conditions, conditions.limit
        self.meter = Meter(track, conditions.device)
        self.slots = threading.Semaphore(conditions.jobs)  # one for each run at once; a model being measured takes none
        self.launcher = launcher(
            track.public,
            public_hash=track.manifest.public_hash,
            device=conditions.device,
            log_kb=limits.log_kb,
            isolation=conditions.isolation.level,
            quota=Quota(limits.memory_mb, limits.processes, limits.scratch_mb, conditions.threads),
            fork=conditions.fork,
        )

    def run(self, task: Task) -> Run:
        """Run a submission once and measure what came back."""
        submission, original = task.submission, task.index % len(self.meter.originals)
        with self.slots:
            started = time.monotonic()
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
