"""The way to train a track: chosen by timing, the same for all models of a track, kept for those that come later."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from data_prep import reference, ways
from data_prep.draft import lay_out
from data_prep.prepare import grow, prepare
from data_prep.reference import Stack, plan_stacks, train_models
from data_prep.ways import Way, chosen, recorded_way, time_ways, usual_way
from harness.cli.main import cli
from harness.runs.measure import Recorder
from harness.tracks.declaration import read_declaration
from harness.tracks.track import ORIGINALS, POOLS, Track, load_track, write_manifest

PLAIN, LAST, ROUNDED = Way(1), Way(1, "float32", "channels_last"), Way(1, "bfloat16", "channels_last")
STACK = Way(16)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({PLAIN: 2.0, LAST: 1.9, ROUNDED: 2.1, Way(4): 1.5, STACK: 0.8}, STACK),
        ({PLAIN: 99, LAST: 69, ROUNDED: 41, STACK: 200}, ROUNDED),
        ({PLAIN: 99, LAST: 69, ROUNDED: 60, STACK: 200}, LAST),  # rounding is not worth so little
        ({PLAIN: 99, LAST: 69, STACK: 200}, LAST),
        ({PLAIN: 99, LAST: 98, ROUNDED: 400, STACK: 200}, PLAIN),  # of a processor without bfloat16
        ({Way(4): 0.95, STACK: 1.0, PLAIN: 3.0, LAST: 2.0}, STACK),  # chance does not choose
        ({Way(4): 0.5, STACK: 1.0, PLAIN: 3.0, LAST: 2.0}, Way(4)),
        ({PLAIN: 1.0}, PLAIN),
    ],
)
def test_the_way_chosen_is_clearly_faster_than_the_usual_one(seconds: dict[Way, float], expected: Way) -> None:
    assert chosen(seconds) == expected
    assert chosen(dict(reversed(seconds.items()))) == expected


# ---- what is timed ------------------------------------------------------------------------------------------------


def draft_of(folder: Path, *, model: str = 'name = "small_resnet"\nwidth = 2', training: str = "") -> Track:
    """Return the draft of a track of a few coloured pictures."""
    generator = np.random.default_rng(0)
    np.savez(folder / "data.npz", images=generator.integers(0, 256, (60, 8, 8, 3), np.uint8), labels=np.arange(60) % 3)
    file = folder / "coloured.toml"
    file.write_text(
        f'name = "coloured"\ntitle = "t"\n[data]\nsource = "data.npz"\n[split]\ntrain = 40\nval = 10\n'
        f'[forget]\nkind = "random"\ncount = 8\n[model]\n{model}\n'
        f"[training]\nepochs = 2\nbatch_size = 8\nlearning_rate = 0.05\n{training}\n"
        "[reference]\noriginals = 1\nretrained = 4\n[limits]\nseconds = 1\n[evaluation]\nruns = 2\n"
    )
    return lay_out(read_declaration(file), file, folder / "draft", cache=folder)


def test_every_way_is_timed_but_bfloat16_where_a_track_asks_for_float32(tmp_path: Path) -> None:
    found = time_ways(draft_of(tmp_path), 2)
    assert {PLAIN, LAST, ROUNDED} <= set(found) <= {PLAIN, LAST, ROUNDED, Way(2)}
    assert all(seconds > 0 for seconds in found.values())
    track = draft_of(tmp_path, training='precision = "float32"')
    assert ROUNDED not in time_ways(track, 1)
    assert usual_way(track, "cuda").precision == "float32"


VIEWING = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 2, 3, padding=1), nn.Linear(128, 3)
    def forward(self, images):
        return self.fc(self.conv(images).view(len(images), 128))
def build(n_classes, channels):
    return Net()
"""


def test_a_net_of_ones_own_is_not_rounded_and_may_refuse_a_memory_format(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(VIEWING)
    track = draft_of(tmp_path, model='name = "own.py:build"')
    assert set(time_ways(track, 1)) == {PLAIN}


def test_models_that_are_trained_within_seconds_are_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "time_ways", None)
    assert ways.timed_way(draft_of(tmp_path), 1, "cpu") == usual_way(draft_of(tmp_path), "cpu")


def test_models_are_trained_in_stacks_no_larger_than_chosen(tmp_path: Path) -> None:
    track = draft_of(tmp_path)
    for way, expected in ((Way(3), {1, 2}), (ROUNDED, {1})):
        stacks = plan_stacks(track, 1, present={}, way=way)
        assert {len(stack.seeds) for stack in stacks} == expected
        assert {stack.way for stack in stacks} == {way}


# ---- what a track keeps -------------------------------------------------------------------------------------------


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> dict[Way, float]:
    """What timing finds, to be changed: at first bfloat16 is the fastest."""
    found = {PLAIN: 3.0, ROUNDED: 1.0}
    monkeypatch.setattr(ways, "SOON", 0.0)
    monkeypatch.setattr(ways, "time_ways", lambda track, most: found)
    return found


def trained_anew(track: Track, way: Way, kind: str = POOLS[0]) -> list[dict[str, torch.Tensor]]:
    stacks = [one for one in plan_stacks(track, 1, present={}, way=way) if one.kind == kind]
    return [weights for stack in stacks for weights in train_models(track, Stack(kind, stack.first, stack.seeds, way))]


def logits_of(track: Track, weights: dict[str, torch.Tensor]) -> np.ndarray:
    arrays = {name: value.numpy() for name, value in weights.items()}
    logits: np.ndarray = Recorder(track).record(arrays).forget_logits[0]
    return logits


def test_all_models_of_a_track_are_trained_in_the_way_chosen_first(
    tmp_path: Path, faster: dict[Way, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    draft_of(tmp_path)
    file, tracks, notes = tmp_path / "coloured.toml", tmp_path / "tracks", list[str]()
    declaration = read_declaration(file)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reference, "join", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(declaration, file, tracks, jobs=1)
    faster[ROUNDED] = 30.0  # as on another machine
    track = prepare(declaration, file, tracks, jobs=1, on_note=notes.append).track
    assert any('precision = "float32"' in note for note in notes)
    assert recorded_way(track) == ROUNDED
    assert track.manifest.prepared["precision"] == "bfloat16"
    assert not (track.folder / "way.json").exists()

    grown = grow(track, 6, jobs=1)
    assert recorded_way(grown) == ROUNDED
    for kind in (*POOLS, ORIGINALS):
        records = grown.originals() if kind == ORIGINALS else grown.retrained(kind)
        for logits, weights in zip(records.forget_logits, trained_anew(grown, ROUNDED, kind), strict=True):
            assert np.array_equal(logits, logits_of(grown, weights))
    exact = logits_of(grown, trained_anew(grown, PLAIN)[0])
    assert not np.allclose(grown.retrained(POOLS[0]).forget_logits[0], exact, atol=1e-5)

    faster |= {ROUNDED: 30.0, LAST: 1.0}
    again = prepare(declaration, file, tracks, jobs=1).track
    assert recorded_way(again) == LAST


def test_a_track_of_an_earlier_version_grows_as_it_was_made(tiny: Track, tmp_path: Path) -> None:
    shutil.copytree(tiny.folder, tmp_path / "tiny")
    before = {name: tiny.manifest.prepared[name] for name in ("torch", "device", "machine", "seconds")}
    write_manifest(tmp_path / "tiny", tiny.manifest.model_copy(update={"prepared": before}))
    assert recorded_way(load_track(tmp_path / "tiny")) == usual_way(tiny, "cpu")


def test_a_sibling_is_trained_in_the_way_of_the_originals_it_takes(tmp_path: Path, faster: dict[Way, float]) -> None:
    draft_of(tmp_path)
    file = tmp_path / "coloured.toml"
    file.write_text(file.read_text().replace("count = 8", "count = 8\nforget_sets = 2"))
    first, second = read_declaration(file).siblings
    prepare(first, file, tmp_path / "tracks", jobs=1)
    faster[ROUNDED] = 30.0
    prepared = prepare(second, file, tmp_path / "tracks", jobs=1)
    assert prepared.originals_of == first.name
    assert recorded_way(prepared.track) == ROUNDED


def test_an_estimate_says_which_way_is_the_fastest(
    tmp_path: Path, faster: dict[Way, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    draft_of(tmp_path)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(cli, ["prepare", str(tmp_path / "coloured.toml"), "--estimate", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "bfloat16" in result.output
    assert "one model at a time, channels last" in " ".join(result.output.split())
