"""One run from start to outcome: the clock, the kill, and what came back. Trusted side."""

import hashlib
import hmac
import signal
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from harness.contract import CALLS, Call
from harness.runner.message import HEADER, Job, RunReport
from harness.runner.outcome import Outcome
from harness.runner.process import Ended, Launcher, LaunchError, Process

__all__ = ["KILL_FACTOR", "Finished", "execute", "how_it_died", "parts_of", "seeds_of"]

KILL_FACTOR = 2.0  # a run is killed at twice its limit
READY_SECONDS = 120.0
HARNESS_RETRIES = 2  # with the same seeds: a retry is no second throw of the dice
HINTS = (Outcome.IMPORT_ERROR, Outcome.EXCEPTION, Outcome.MEMORY_LIMIT, Outcome.BAD_OUTPUT)
AXES = ("torch", "numpy", "random")


@dataclass(frozen=True)
class Finished:
    """How a run ended; weights only if it is OK or NON_FINITE."""

    outcome: Outcome
    seconds: float  # the parent's clock, from "go" to the end of the process
    seconds_inside: float = 0.0  # of that within the submission, as it says itself: for information
    message: str = ""
    lines: tuple[str, ...] = ()  # of the submission's own file
    log: str = ""  # what it printed, capped
    weights: np.ndarray | None = None  # float32: parameters and float buffers in the architecture's order, of each net
    state: bytes = b""  # what a learner keeps; of its content nothing is known
    harness_errors: tuple[str, ...] = ()  # why the harness had to begin again, once for each time


def seeds_of(
    secret: bytes, code_hash: str, index: int, *, stage: str = "", axes: tuple[str, ...] = AXES
) -> dict[str, int]:
    """Return a run's seeds, one per random stream, 32 bits each; nobody without the secret can tell them.

    stage: a name that makes them independent of those of other stages.
    """
    run = f"{code_hash}/{stage}/{index}" if stage else f"{code_hash}/{index}"
    return {
        axis: int.from_bytes(hmac.digest(secret, f"{run}/{axis}".encode(), hashlib.sha256)[:4], "big") for axis in axes
    }


def execute(launcher: Launcher, job: Job, *, n_values: int) -> Finished:
    """Run a submission once; what the harness failed at is tried again with the same seeds.

    n_values: how many floats the weights have that it has to leave.
    """
    errors: list[str] = []
    while len(errors) <= HARNESS_RETRIES:
        try:
            return replace(_attempt(launcher, job, n_values), harness_errors=tuple(errors))
        except LaunchError as error:
            errors.append(str(error))
    return Finished(Outcome.HARNESS_ERROR, 0.0, message=errors[-1], harness_errors=tuple(errors))


def _attempt(launcher: Launcher, job: Job, n_values: int) -> Finished:
    n_bytes = n_values * np.dtype(np.float32).itemsize
    of_learner = HEADER.size + n_bytes * job.members + job.state_bytes
    process = launcher.start(job, n_bytes if job.call == "post-hoc" else of_learner)
    try:
        process.wait_ready(READY_SECONDS)
        ended_in_time, seconds = _clocked(process, KILL_FACTOR * job.time_limit_seconds)
        return _outcome_of(process.finish(), job, n_bytes, ended_in_time, seconds)
    finally:
        process.close()


def _clocked(process: Process, seconds: float) -> tuple[bool, float]:
    """Let a ready run go, and kill it after so many seconds; whether it ended by itself, and its time."""
    started = time.monotonic()
    try:
        process.go()
        ended = process.wait(seconds)
        elapsed = time.monotonic() - started
    except BaseException:  # a Ctrl-C, say: nothing is left running
        process.kill()
        raise
    if not ended:
        process.kill()
    return ended, elapsed


def _outcome_of(ended: Ended, job: Job, n_bytes: int, ended_in_time: bool, seconds: float) -> Finished:
    """Tell the outcome from what a dead process left; n_bytes: of the weights of one net."""
    report = RunReport.from_bytes(ended.report)
    finished = partial(Finished, seconds=seconds, log=ended.log)
    if ended.exceeded_memory:  # whatever it says of itself: the kernel may have killed a helper of it and spared it
        return finished(Outcome.MEMORY_LIMIT, message="processes of the run were killed at the memory limit")
    if not ended_in_time:
        limit = f"the limit is {job.time_limit_seconds:.2f} s"
        return finished(Outcome.TIME_LIMIT, message=f"killed after {seconds:.2f} s; {limit}")
    if report is None:
        return finished(Outcome.CRASHED, message=how_it_died(ended.status, CALLS[job.call]))
    if report.outcome != Outcome.OK:
        outcome = Outcome(report.outcome) if report.outcome in HINTS else Outcome.CRASHED
        return finished(outcome, message=report.message, lines=report.lines)
    content, state = parts_of(ended.result, job, n_bytes)
    weights = np.frombuffer(content, np.float32)
    if not np.isfinite(weights).all():
        return finished(Outcome.NON_FINITE, message="weights are NaN or inf", weights=weights)
    return finished(Outcome.OK, seconds_inside=report.seconds_inside, weights=weights, state=state)


def parts_of(result: bytes, job: Job, n_bytes: int) -> tuple[bytes, bytes]:
    """Return weights and state in what a run left, copied as they are; n_bytes: of the weights of one net.

    The numbers that a learner's result begins with are not trusted. Of the state nothing is looked into.
    """
    if job.call == "post-hoc":
        return result, b""
    n_nets, n_state = HEADER.unpack_from(result)
    end = HEADER.size + n_bytes * min(max(1, n_nets), job.members)
    return result[HEADER.size : end], result[end : end + min(n_state, job.state_bytes)]


def how_it_died(status: int, call: Call) -> str:
    """Return what is said of a process that ended with an exit status, or by a signal if that is negative."""
    if status >= 0:
        return f"the process ended with exit status {status} before {call.names[0]} returned"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    hint = "; shared memory may be full: load data without workers (num_workers=0)" if name == "SIGBUS" else ""
    return f"the process was ended by {name} before {call.names[0]} returned{hint}"
