"""Every item once, nothing asked for long before its time, and errors stay loud."""

import threading
import time
import warnings
from collections.abc import Iterator

import joblib
import pytest

from harness.parallel import processes_may_end, run_each


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_item_has_one_result(jobs: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 * (3 - item % 3))
        return item

    assert sorted(run_each(slow_first, range(9), jobs=jobs)) == list(range(9))


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_result_comes_as_soon_as_it_is_there_whatever_is_still_in_flight(jobs: int) -> None:
    may_end = threading.Event()

    def first_waits(item: int) -> int:
        if item == 0 and jobs > 1:
            assert may_end.wait(60)
        return item

    results = run_each(first_waits, range(3), jobs=jobs)
    if jobs == 1:
        assert list(results) == [0, 1, 2]
        return
    assert {next(results), next(results)} == {1, 2}
    may_end.set()
    assert list(results) == [0]


@pytest.mark.parametrize("jobs", [1, 3])
def test_items_are_asked_for_shortly_before_they_are_started(jobs: int) -> None:
    is_over = False

    def items() -> Iterator[int]:
        for item in range(100):
            if is_over:
                return
            yield item

    def slowly(item: int) -> int:
        time.sleep(0.02)
        return item

    made = []
    for item in run_each(slowly, items(), jobs=jobs):
        made.append(item)
        is_over = is_over or item == 5
    assert 6 <= len(made) < 6 + 5 * jobs


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_of_ours_stays_loud(jobs: int) -> None:
    def fail(item: int) -> int:
        raise LookupError(item)

    with pytest.raises(LookupError):
        list(run_each(fail, range(3), jobs=jobs))


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_that_nobody_asks_for_any_more_are_dropped_in_silence(jobs: int) -> None:
    results = run_each(lambda item: item, range(100), jobs=jobs)
    assert next(results) in range(100)
    del results


def test_a_process_that_ends_between_two_calls_is_no_warning_and_others_are() -> None:
    said = "A worker stopped while some jobs were given to the executor. This can be caused by a memory leak."
    with processes_may_end():
        warnings.warn(said, UserWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)


@pytest.mark.slow
def test_processes_that_hold_much_memory_are_replaced_and_nobody_waits_for_ever() -> None:
    with processes_may_end():
        for _ in range(6):
            calls = (joblib.delayed(_hold)(number) for number in range(6))
            assert joblib.Parallel(n_jobs=2, timeout=60)(calls) == list(range(6))


_held: list[bytes] = []


def _hold(number: int) -> int:
    """Take memory for good; the processes look at it once a second."""
    _held.append(b"x" * 200_000_000)
    time.sleep(1.1)
    return number
