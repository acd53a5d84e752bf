"""Every item once, nothing asked for long before its time, and errors stay loud."""

import threading
import time
from collections.abc import Iterator

import pytest

from harness.parallel import run_each


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
