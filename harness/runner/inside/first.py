"""The first process of a run: takes its descriptors, enters the sandbox, forks the process that runs the submission.

Then it only waits. Where it is the first of a pid namespace, the kernel ends everything in there together with it;
elsewhere the zygote ends what it leaves. No line of a submission is ever executed in it.
"""

import os
import socket
import sys
from types import ModuleType
from typing import NoReturn

from harness.runner.message import Job
from harness.runner.sandbox import privileges
from harness.runner.sandbox.enter import enter
from harness.runner.sandbox.plan import Plan
from harness.runner.sandbox.syscalls import prctl

__all__ = ["N_DESCRIPTORS", "be_first"]

N_DESCRIPTORS = 5  # job, result, report, log, channel
PR_SET_CHILD_SUBREAPER = 36


def be_first(descriptors: list[int], plan: Plan, worker: ModuleType, world: object) -> NoReturn:
    """Be a run, from "enter" to its end; the exit status is that of the process that ran the submission."""
    status = 1
    try:
        os.setsid()
        privileges.die_with_parent()
        job_descriptor, result, report, log, channel = _keep_only(descriptors)
        control = socket.socket(fileno=channel)
        if control.recv(16) == b"enter":  # it has been put under its limits
            try:
                job = Job.from_bytes(_read_all(job_descriptor))
                os.close(job_descriptor)
                _redirect(log)
                if plan.level != "none":
                    enter(
                        plan,
                        scratch=job.scratch,
                        time_limit_seconds=job.time_limit_seconds,
                        threads=job.threads,
                    )
                prctl(PR_SET_CHILD_SUBREAPER, 1)
                runner = os.fork()
            except Exception as error:
                control.send(f"failed: {type(error).__name__}: {error}".encode()[:2000])
                raise
            if runner == 0:
                _be_runner(worker, world, job, result, report, control)
            control.close()
            _let_go(result, report)
            status = _wait_for(runner)
    finally:
        os._exit(status)


def _be_runner(
    worker: ModuleType, world: object, job: Job, result: int, report: int, control: socket.socket
) -> NoReturn:
    """Run the submission once."""
    status = 1
    try:
        privileges.die_with_parent()
        privileges.be_dumpable()

        def wait_for_go() -> None:
            with control:
                control.send(b"ready")
                if control.recv(16) != b"go":
                    os._exit(1)

        try:
            worker.make_own(job)
            worker.run(world, job, result, report, wait_for_go)
        except Exception as error:
            if control.fileno() >= 0:
                control.send(f"failed: {type(error).__name__}: {error}".encode()[:2000])
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        status = 0
    finally:
        os._exit(status)  # no exit handlers, and no waiting for threads a submission left


def _keep_only(descriptors: list[int]) -> range:
    """Move the run's descriptors to 3, 4, ... and close all others but the standard ones."""
    high = [os.dup(descriptor) for descriptor in descriptors]
    first = 3 + max(high)
    moved = [os.dup2(descriptor, first + place) for place, descriptor in enumerate(high)]
    kept = range(3, 3 + len(moved))
    for descriptor, place in zip(moved, kept, strict=True):
        os.dup2(descriptor, place, inheritable=False)
    os.closerange(kept.stop, os.sysconf("SC_OPEN_MAX"))
    return kept


def _read_all(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _redirect(log: int) -> None:
    """Send standard output and error to the log, line by line, and leave nothing to read on standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.close(nothing)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _let_go(result: int, report: int) -> None:
    """Keep nothing of the run open, so that its log ends with the processes that can write to it."""
    os.close(result)
    os.close(report)
    for descriptor in (1, 2):
        os.dup2(0, descriptor)


def _wait_for(runner: int) -> int:
    """Reap every process of the run until that of the submission ends; return its status as shells do."""
    while True:
        pid, status = os.wait()
        if pid == runner:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
