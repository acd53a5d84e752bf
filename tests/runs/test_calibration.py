"""The first use of a track on a machine: what is said before a training is timed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.runner.isolation import choose
from harness.runs import calibration, conditions
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
        conditions.conditions_here(
            track, tmp_path, device="cpu", isolation=choose("none"), jobs=jobs, announce=said.append
        )
    assert len(said) == 2
    assert "once per machine" in said[0]
    assert said[1] == f"... that takes {duration}, and is kept for the next time"
