"""The first use of a track on a machine: what is said before a training is timed."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.runner.isolation import choose
from harness.runs import calibration, conditions, floor
from harness.runs.conditions import conditions_here
from harness.runs.run import Limit
from harness.tracks.declaration import Limits
from harness.tracks.track import Track


@pytest.mark.parametrize(("jobs", "duration"), [(1, "about 60 s"), (2, "about 40 s"), (3, "about 20 s")])
def test_how_long_timing_a_training_takes_is_said_beforehand_and_once(
    jobs: int, duration: str, tiny: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def timed(*args: object, on_warm: Callable[[float], None]) -> list[float]:
        on_warm(20)
        return [1.0] * jobs

    monkeypatch.setattr(calibration, "_time_trainings", timed)
    monkeypatch.setattr(conditions, "floor_seconds", lambda *_: 0.1)
    track = replace(tiny, declaration=tiny.declaration.model_copy(update={"limits": Limits()}))
    for _ in range(2):  # the second time it is known
        conditions_here(track, tmp_path, device="cpu", isolation=choose("none"), jobs=jobs, announce=said.append)
    assert len(said) == 2
    assert "once per machine" in said[0]
    assert said[1] == f"... that takes {duration}, and is kept for the next time"


def test_the_share_that_is_asked_for_is_the_one_that_is_said(
    tiny: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(calibration, "_time_trainings", lambda *_, **__: [1.0])
    monkeypatch.setattr(conditions, "floor_seconds", lambda *_: 0.1)
    track = replace(tiny, declaration=tiny.declaration.model_copy(update={"limits": Limits()}))
    options = {"device": "cpu", "isolation": choose("none"), "announce": said.append}
    conditions_here(track, tmp_path, jobs=1, time_limit=0.125, **options)  # type: ignore[arg-type]
    conditions_here(track, tmp_path, jobs=2, **options)  # type: ignore[arg-type]
    assert ["a run may use 12.5% of one" in said[0], "a run may use 10% of one" in said[1]] == [True, True]


def test_of_two_first_commands_one_measures_and_the_other_waits_and_takes_what_it_found(
    tiny: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, waiting, measured = list[str](), threading.Event(), list[str]()

    def timed(*args: object, on_warm: Callable[[float], None]) -> list[float]:
        measured.append("trainings")
        assert waiting.wait(60), "nobody waits for this measurement"
        return [float(len(measured))] * calibration.N_SAMPLES

    def nothing_run(*args: object) -> list[float]:
        measured.append("floor")
        return [0.1]

    def announce(sentence: str) -> None:
        said.append(sentence)
        if sentence == conditions.WAITING:
            waiting.set()

    def first_command(_: int) -> Limit | None:
        return conditions_here(track, tmp_path, device="cpu", isolation=choose("none"), jobs=1, announce=announce).limit

    monkeypatch.setattr(calibration, "_time_trainings", timed)
    monkeypatch.setattr(floor, "_measured", nothing_run)
    track = replace(tiny, declaration=tiny.declaration.model_copy(update={"limits": Limits()}))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(first_command, range(2))
    assert measured == ["trainings", "floor"]
    assert first == second
    assert first is not None
    assert (first.training_seconds, first.floor_seconds) == (1.0, 0.1)
