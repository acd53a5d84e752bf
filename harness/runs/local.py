"""Makes runs on this machine: several at once, each measured as soon as it has ended."""

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from harness.accelerator import Accelerator
from harness.contract import CALLS
from harness.environment import environment
from harness.parallel import run_each
from harness.quoting import readable
from harness.record import Records
from harness.runner import launch
from harness.runner.execution import Finished, execute, how_it_died, parts_of, seeds_of
from harness.runner.message import RESULT, SAID_FIT, SAID_WHY_NOT, Job, not_finite
from harness.runner.outcome import Outcome
from harness.runner.process import Launcher
from harness.runner.sandbox.scratch import scratch_place
from harness.runs.conditions import Announce
from harness.runs.launchers import launcher_for, training_folder, unlearning_folder
from harness.runs.learning import job_of_learner, training_job, unlearning_job, where
from harness.runs.measure import NoMemoryError, NonFiniteLogitsError, Recorder, initial_weights
from harness.runs.positions import ids_of_job
from harness.runs.run import Conditions, Run, RunInfo, Trained
from harness.runs.run_set import RunSet, Task
from harness.runs.stage import Stage
from harness.runs.stream import Call, as_one, request_job, requests_of, sets_of_requests
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = ["LocalExecutor", "Runner", "debug_run"]

FREE_SHARE = 0.75  # of a GPU's memory, before a run that is to have it alone
FREE_SECONDS, FREE_PAUSE = 20.0, 0.2  # how long it may take until the run before has given back its own


class LocalExecutor:
    """This machine as an executor."""

    def __init__(self, track: Track, conditions: Conditions) -> None:
        self.runner = Runner(track, conditions)

    def make(self, wanted: Iterable[tuple[RunSet, Task]]) -> Iterator[tuple[RunSet, Run]]:
        """Yield the runs as they are done, `conditions.jobs` at a time."""

        def run_unless_over(item: tuple[RunSet, Task]) -> tuple[RunSet, Run] | None:
            each, task = item
            return None if each.is_over(task.index) else (each, self.runner.run(task))

        with _interrupted_by(self.runner.close):
            yield from filter(None, run_each(run_unless_over, wanted, jobs=self.runner.conditions.jobs))


class Runner:
    """Runs submissions on one track and measures what comes back. Several threads may share it."""

    def __init__(self, track: Track, conditions: Conditions) -> None:
        assert conditions.limit is not None, "runs need a time limit"
        torch.set_num_threads(conditions.threads)  # of the measuring here, which shares the cores with the runs
        self.track, self.conditions, self.limit = track, conditions, conditions.limit
        self.recorder = Recorder(track, conditions.device)
        self.turns = _Turns(alone=self.recorder.accelerator.is_gpu)
        self.launcher = launcher_for(track, conditions)
        self._of_trainings: dict[tuple[str, ...], Launcher] = {}  # by what is trained on
        self._choosing = threading.Lock()
        self.ids = ids_of_job(track.training_ids())
        self.requests = {
            Stage.RUN: sets_of_requests(track),
            Stage.SWAPPED: sets_of_requests(track, swapped=True),
        }

    def run(self, task: Task) -> Run:
        """Run a submission once, by one call or one for each deletion request, and measure what came back."""
        given, calls, left = self.requests.get(task.stage, []), list[Call](), None
        original = task.index % len(self.recorder.originals)
        while not calls or (calls[-1].finished.outcome == Outcome.OK and len(calls) < len(given)):
            job = self._job(task, original)
            job = request_job(job, self.track, task, given, len(calls), left) if given else job
            call = self._call(task, job, original)
            left = call.left
            calls.append(call.spent)
        finished = as_one(calls, len(given))
        info = self._info(finished, task, job.time_limit_seconds, sum(call.whole_seconds for call in calls))
        run = Run(task.index, finished.outcome, finished.seconds, info, call.record, state_bytes=call.state_bytes)
        if finished.outcome != Outcome.OK:
            return run
        if task.stage == Stage.ORIGINAL:
            return replace(run, trained=left)
        return replace(run, requests=requests_of(calls, self.track)) if given and task.stage == Stage.RUN else run

    def _call(self, task: Task, job: Job, original: int) -> Call:
        """Call a function of a submission, and measure what comes back."""
        with self.turns.run():
            started = time.monotonic()
            finished = self._execute(task, job)
        record = None
        if finished.outcome == Outcome.NON_FINITE and finished.weights is not None:
            finished = replace(finished, message=not_finite(self._is_bad(finished.weights), self.recorder.sizes))
        elif finished.weights is not None:
            try:
                with self.turns.measurement():
                    record = self._record(task, finished.weights, original)
            except NonFiniteLogitsError:
                message = "the weights are finite, the outputs of the net are not"
                finished = replace(finished, outcome=Outcome.NON_FINITE, message=message)
            except NoMemoryError as error:
                finished = replace(finished, outcome=Outcome.HARNESS_ERROR, message=str(error))
        return Call(finished, record, len(finished.state), time.monotonic() - started)

    def _is_bad(self, weights: np.ndarray) -> np.ndarray:
        """Return which values are not finite, (n_values,), in any of a model's nets."""
        bad: np.ndarray = ~np.isfinite(weights.reshape(-1, self.recorder.n_values)).all(axis=0)
        return bad

    def _record(self, task: Task, weights: np.ndarray, original: int) -> Records:
        if task.submission.is_learner:
            start = None if task.start is None else task.start.weights
            return self.recorder.record_learned(weights, start, task.index)
        return self.recorder.record_run(weights, original)

    def _execute(self, task: Task, job: Job) -> Finished:
        if self.conditions.jobs == 1 and (taken := _why_taken(self.recorder.accelerator)) is not None:
            return Finished(Outcome.HARNESS_ERROR, 0.0, message=taken)
        return execute(self._launcher_of(task.stage), job, n_values=self.recorder.n_values)

    def _launcher_of(self, stage: Stage) -> Launcher:
        """Return what starts runs of a stage; once this is closed, one that starts none."""
        trained_on = stage.trained_on
        with self._choosing:
            if trained_on and trained_on not in self._of_trainings and not self.launcher.is_closed:
                self._of_trainings[trained_on] = launcher_for(self.track, self.conditions, trained_on)
            return self._of_trainings.get(trained_on, self.launcher)

    def close(self) -> None:
        """End the runs in flight, and let no other begin."""
        self.launcher.close()
        for each in list(self._of_trainings.values()):
            each.close()

    def _job(self, task: Task, original: int) -> Job:
        job = replace(
            _job(task.submission, self.track, self.conditions, task.index),
            original=original,
            swap_forget_set=task.stage == Stage.SWAPPED,
            ids=self.ids,
        )
        return job_of_learner(job, task, self.track, self.limit) if task.submission.is_learner else job

    def _info(self, finished: Finished, task: Task, limit_seconds: float, whole_seconds: float) -> RunInfo:
        return RunInfo(
            limit_seconds=limit_seconds,
            isolation=self.launcher.isolation,
            message=finished.message and where(task.stage) + finished.message,
            lines=finished.lines,
            log=finished.log,
            seconds_inside=finished.seconds_inside,
            harness_errors=finished.harness_errors,
            floor_seconds=self.limit.floor_seconds,
            calibration=self.limit.calibration,
            order=task.order,
            device=self.conditions.device,
            gpu=self.conditions.gpu,
            environment=environment(),
            whole_seconds=whole_seconds,
            dependencies=self.conditions.dependencies,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            limits=self.track.declaration.limits.model_dump(),
        )


def _why_taken(device: Accelerator) -> str | None:
    """Return why a run on a GPU would lack memory through no fault of its own; None if it would not."""
    deadline = time.monotonic() + FREE_SECONDS
    while (memory := device.memory()) is not None:
        free, total = memory
        if free >= FREE_SHARE * total:
            return None
        if time.monotonic() >= deadline:
            return (
                f"the GPU has {free / 2**30:.1f} of {total / 2**30:.1f} GB free, and a run is to have "
                f"{FREE_SHARE:.0%} of it; end what else uses it (nvidia-smi)"
            )
        time.sleep(FREE_PAUSE)
    return None


class _Turns:
    """Whose turn it is on a device. On a GPU nothing is measured beside a run, whose clock would see it."""

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone  # whether a measurement waits for the runs to end, and runs for it
        self._changed = threading.Condition()
        self._runs = self._measurements = self._waiting = 0

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Wait until no model is being measured or about to be, then keep measurements away."""
        with self._changed:
            self._changed.wait_for(lambda: not (self.alone and (self._measurements or self._waiting)))
            self._runs += 1
        try:
            yield
        finally:
            with self._changed:
                self._runs -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def measurement(self) -> Iterator[None]:
        """Wait, on a GPU, until nothing runs and nothing else is measured."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not (self.alone and (self._runs or self._measurements)))
                self._measurements += 1
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._changed:
                self._measurements -= 1
                self._changed.notify_all()


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


def debug_run(submission: Submission, track: Track, conditions: Conditions, announce: Announce) -> bool:
    """Run a submission once in the foreground, with the seeds of run 0; whether it returned a fit net.

    announce: hears how the process died, if it did: it has said nothing of that itself.
    """
    with tempfile.TemporaryDirectory(prefix="harness-scratch-", dir=scratch_place()) as scratch:
        job = _job(submission, track, conditions, 0)
        file = submission.path.resolve()
        if submission.excerpt is not None:  # a debugger shows the lines that are run
            file = Path(scratch) / f"{submission.path.stem}.py"
            file.write_bytes(submission.content)
        job = replace(job, filename=str(file), scratch=scratch, ids=ids_of_job(track.training_ids()))
        if submission.is_learner:
            return _debug_learner(submission, track, conditions, job, announce)
        return _debug_unlearn(submission, track, job, announce)


def _debug_learner(submission: Submission, track: Track, conditions: Conditions, job: Job, announce: Announce) -> bool:
    """Run both functions of a learner in the foreground, the second on what the first left."""
    assert conditions.limit is not None, "runs need a time limit"
    stage = Stage.ORIGINAL
    training = training_job(job, track, conditions.limit, submission.code_hash, 0, stage)
    if not _is_fit(training_folder(track, stage.trained_on), training, announce):
        return False
    left = _left(training, len(training.weights))
    return _debug_unlearn(submission, track, unlearning_job(job, track, left), announce)


def _debug_unlearn(submission: Submission, track: Track, job: Job, announce: Announce) -> bool:
    """Run `unlearn` in the foreground, once or once for each deletion request."""
    folder, task, left = unlearning_folder(track), Task(submission, 0, 0), None
    if not (given := sets_of_requests(track)):
        return _is_fit(folder, job, announce)
    n_bytes = initial_weights(track, seed=0).nbytes
    for number in range(len(given)):
        scratch = Path(job.scratch) / f"request-{number}"
        scratch.mkdir()
        own = replace(request_job(job, track, task, given, number, left), scratch=str(scratch))
        if not _is_fit(folder, own, announce):
            return False
        left = _left(own, n_bytes)
    return True


def _is_fit(folder: Path, job: Job, announce: Announce) -> bool:
    """Call a function of a submission in the foreground; whether it returned a fit net."""
    status = launch.run_in_foreground(folder, job)
    if status not in (SAID_FIT, SAID_WHY_NOT):
        announce(f"{Outcome.CRASHED}: {how_it_died(status, CALLS[job.call])}")
        announce(f"remedy: {Outcome.CRASHED.remedy(job.filename)}")
    return status == SAID_FIT


def _left(job: Job, n_bytes: int) -> Trained:
    """Return what a call in the foreground left for the next one; n_bytes: of the weights of one net."""
    weights, state = parts_of((Path(job.scratch) / RESULT).read_bytes(), job, n_bytes)
    return Trained(np.frombuffer(weights, np.float32), state)


def _job(submission: Submission, track: Track, conditions: Conditions, index: int) -> Job:
    """Return a run of a submission as the process that runs it gets it, from the first original."""
    assert conditions.limit is not None, "runs need a time limit"
    return Job(
        source=submission.source,
        filename=_shown_file(submission),
        original=0,
        seeds=seeds_of(track.secret, submission.code_hash, index),
        device=conditions.device,
        threads=conditions.threads,
        time_limit_seconds=conditions.limit.seconds,
    )


def _shown_file(submission: Submission) -> str:
    """Return what a traceback calls the file; the lines of a notebook are counted in what is taken of it."""
    name = readable(submission.path.name)
    return f"what is taken of {name}" if submission.path.suffix == ".ipynb" else name
