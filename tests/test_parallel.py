"""Order, early end, and that nothing is started after it."""

import time

import pytest

from harness.parallel import run_in_order


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_items(jobs: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 * (3 - item % 3))
        return item

    assert list(run_in_order(slow_first, range(9), jobs=jobs)) == list(range(9))


@pytest.mark.parametrize("jobs", [1, 3])
def test_nothing_is_started_after_the_last_result(jobs: int) -> None:
    started = []

    def record(item: int) -> int:
        started.append(item)
        time.sleep(0.02)
        return item

    assert list(run_in_order(record, range(100), jobs=jobs, is_last=lambda item: item == 5)) == list(range(6))
    assert max(started) < 6 + 3 * jobs


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_of_ours_stays_loud(jobs: int) -> None:
    def fail(item: int) -> int:
        raise LookupError(item)

    with pytest.raises(LookupError):
        list(run_in_order(fail, range(3), jobs=jobs))
