"""Models are measured on the trusted side, on whatever device, as they were when the track was prepared."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from harness import models
from harness.runs.measure import Recorder, initial_weights
from harness.tracks.track import Track


def test_an_original_is_measured_as_it_was_at_preparation_also_from_several_threads(tiny: Track) -> None:
    recorder, expected = Recorder(tiny), tiny.originals()
    with ThreadPoolExecutor(4) as threads:
        records = list(threads.map(lambda index: recorder.record(tiny.original(index), original=index), [0, 1] * 4))
    for place, record in enumerate(records):
        before = expected[np.array([place % 2])]
        assert record.weights_sha256[0] == before.weights_sha256[0]
        assert np.allclose(record.forget_logits, before.forget_logits, atol=1e-4)
        assert np.allclose(record.accuracy, before.accuracy)
        assert record.distance[0] == 0


def test_initial_weights_are_those_of_the_seed_while_other_threads_get_ready_to_measure(
    tiny: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, build = initial_weights(tiny, 1), models.build

    def slowly(*names: Any, **options: Any) -> Any:
        time.sleep(0.02)  # once the stream is seeded
        return build(*names, **options)

    monkeypatch.setattr(models, "build", slowly)
    with ThreadPoolExecutor(3) as threads:
        measuring = [threads.submit(lambda: Recorder(tiny).n_values) for _ in range(10)]
        drawn = [initial_weights(tiny, 1) for _ in range(10)]
    assert {each.result() for each in measuring} == {len(expected)}
    assert all(np.array_equal(weights, expected) for weights in drawn)


@pytest.mark.gpu
def test_on_a_gpu_outputs_are_those_of_float32(tiny: Track) -> None:
    record, expected = Recorder(tiny, "cuda").record(tiny.original(0)), tiny.originals()
    assert np.allclose(record.forget_logits[0], expected.forget_logits[0], atol=1e-4)
    assert np.allclose(record.retain_confidence[0], expected.retain_confidence[0], atol=1e-3)


@pytest.mark.gpu
def test_runs_on_a_gpu_one_at_a_time_are_all_measured(
    harness: Callable[..., Result], submission: Callable[[str], Path], tiny_file: Path, tmp_path: Path
) -> None:
    file = submission("def unlearn(net, retain_loader, forget_loader, val_loader): net.fc.reset_parameters()")
    out = tmp_path / "result.json"
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 4, "--device", "cuda", "--json", out)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert (found["n_runs"], found["environment"]["device"]) == (4, "cuda")
