"""Time: the clock is the harness's, and ends a run whatever it does."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from harness.runner.outcome import Outcome
from tests.attacks.attempts import THROUGH, Attacks, Attempt, each_level, source_of, submission_of

LIMIT, KILLED_AFTER = 0.3, 0.6


def sleep_on() -> None:
    time.sleep(600)


def ignore_signals_and_spin() -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep_on_together_with_a_child() -> None:
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    time.sleep(600)


def spin_in_compiled_code() -> None:
    matrix = torch.ones(2000, 2000)
    while True:
        matrix = matrix @ matrix * 1e-4


@each_level
@pytest.mark.parametrize(
    "attempt",
    [sleep_on, ignore_signals_and_spin, stop_itself, sleep_on_together_with_a_child, spin_in_compiled_code],
)
def test_a_run_is_killed_at_twice_its_limit(attacks: Attacks, attempt: Attempt, level: str) -> None:
    evaluation = attacks.evaluate(submission_of(attempt, {}), level=level, limit_seconds=LIMIT)
    assert evaluation.outcome == Outcome.TIME_LIMIT
    assert KILLED_AFTER <= evaluation.runs[0].seconds < KILLED_AFTER + 0.3


def turn_back_the_clocks() -> float:
    started = time.monotonic()
    time.sleep(0.2)
    for name in ("time", "monotonic", "perf_counter", "process_time", "time_ns", "monotonic_ns", "perf_counter_ns"):
        setattr(time, name, lambda: 0.0)
    return started


def set_the_clock_of_the_machine() -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))


@each_level
def test_the_time_told_is_the_true_one(attacks: Attacks, level: str) -> None:
    evaluation = attacks.evaluate(submission_of(turn_back_the_clocks, {}), level=level)
    assert evaluation.outcome == Outcome.OK
    run = evaluation.runs[0]
    assert 0.2 <= run.seconds < 5
    assert run.info.seconds_inside < 0.1  # what it says itself is for information only


@each_level
def test_the_clock_of_the_machine_cannot_be_set(attacks: Attacks, level: str) -> None:
    if level == "none" and os.geteuid() != 0:
        pytest.skip("the control takes root")
    end = attacks.make(set_the_clock_of_the_machine, level=level).end
    assert end == (THROUGH if level == "none" else "EPERM")


def work_after_returning(net: torch.nn.Module) -> torch.nn.Module:
    """Return at once, and change the weights from a thread when the clock has stopped."""
    import threading

    def work() -> None:
        while True:
            for parameter in net.parameters():
                parameter.data += 1

    threading.Thread(target=work, daemon=True).start()
    return net


@pytest.mark.parametrize("level", ["full", "none"])
def test_threads_left_behind_end_with_the_run(attacks: Attacks, level: str) -> None:
    source = source_of(work_after_returning) + "\nunlearn = lambda net, *loaders: work_after_returning(net)\n"
    evaluation = attacks.evaluate(source, level=level)
    assert evaluation.outcome in (Outcome.OK, Outcome.NON_FINITE)
    assert evaluation.runs[0].seconds < 5


def work_on_while_the_zygote_is_stopped() -> None:
    first = os.getppid()
    zygote = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(zygote, signal.SIGSTOP)
    if os.fork() == 0:
        time.sleep(1.0)  # what it would do with the result meanwhile
        os.kill(zygote, signal.SIGCONT)
        os._exit(0)


def test_without_a_sandbox_the_clock_runs_until_the_last_process_of_a_run_is_dead(attacks: Attacks) -> None:
    source = submission_of(work_on_while_the_zygote_is_stopped, {})
    evaluation = attacks.evaluate(source, level="none", limit_seconds=LIMIT)
    assert evaluation.outcome == Outcome.TIME_LIMIT
