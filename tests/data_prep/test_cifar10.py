"""CIFAR-10 through the command line, on a copy that HARNESS_CIFAR10 names: a slice on a CPU, the whole on a GPU.

The copy is a folder as `--data` takes it: what torchvision stores, or train.npz and test.npz. What needs no real images
takes noise of their shape.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from data_prep.draft import lay_out
from harness.cli.main import cli
from harness.tracks.declaration import read_declaration
from harness.tracks.track import load_track

ROOT = Path(__file__).parents[2]
FINETUNE = ROOT / "baselines" / "finetune.py"
# Of the declaration that is here: a tenth of the examples and few models, trained for an epoch or two.
SLICE = {
    'name = "cifar10"': 'name = "cifar10-slice"',
    "val = 5000\ntest = 5000": "train = 2000\nval = 500\ntest = 500",
    "count = 5000": "count = 200",
    "epochs = 120\nbatch_size = 128\nlearning_rate = 0.1": "epochs = 2\nbatch_size = 32\nlearning_rate = 0.01",
    "originals = 4\nretrained = 64": "originals = 1\nretrained = 4",
    "threads = 4": "threads = 1\nseconds = 300.0",
    "runs = 64": "runs = 4",
}

Harness = Callable[..., Result]


@pytest.fixture
def data() -> Path:
    """A local copy of the images."""
    named = os.environ.get("HARNESS_CIFAR10")
    if named is None:
        pytest.skip("no copy of CIFAR-10: name its folder with HARNESS_CIFAR10")
    return Path(named)


@pytest.fixture
def run(tmp_path: Path) -> Harness:
    """The command line, in a home of its own; a command that fails fails the test."""

    def call(*arguments: object) -> Result:
        home = {"HARNESS_HOME": str(tmp_path / "home")}
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env=home)
        assert result.exit_code == 0, result.output
        return result

    return call


def sliced(folder: Path) -> Path:
    """Write the declaration of the slice."""
    text = (ROOT / "data_prep" / "tracks" / "cifar10.toml").read_text()
    for whole, part in SLICE.items():
        assert text.count(whole) == 1, whole
        text = text.replace(whole, part)
    (folder / "slice.toml").write_text(text)
    return folder / "slice.toml"


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of the shape of CIFAR-10, as many images as `cifar10-small` needs."""
    folder, generator = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for name, n in (("train", 8000), ("test", 3000)):
        images = generator.integers(256, size=(n, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=np.arange(n) % 10)
    return folder


def test_the_small_track_is_laid_out_as_its_title_says(noise: Path, tmp_path: Path) -> None:
    file = ROOT / "data_prep" / "tracks" / "cifar10-small.toml"
    track = lay_out(read_declaration(file), file, tmp_path / "draft", cache=tmp_path, data=noise)
    sets = {name: track.examples(name) for name in ("retain", "forget", "val", "test")}
    assert [len(examples) for examples in sets.values()] == [7200, 800, 1000, 2000]
    assert {examples.images.shape[1:] for examples in sets.values()} == {(16, 16, 3)}
    assert "CIFAR-10 at 16x16 pixels: 800 of 8,000 training images to forget" in track.declaration.title
    assert track.manifest.n_classes == 10


@pytest.mark.slow
def test_the_small_track_is_estimated_with_a_copy_of_the_images(noise: Path, run: Harness) -> None:
    said = run("prepare", "cifar10-small", "--data", noise, "--device", "cpu", "--estimate").output
    assert "136 models; a step takes" in said
    assert "10% of it" in said


@pytest.mark.slow
def test_a_slice_is_estimated_prepared_and_fine_tuned_on_a_cpu(data: Path, run: Harness, tmp_path: Path) -> None:
    file = sliced(tmp_path)
    assert "9 models; a step takes" in run("prepare", file, "--data", data, "--device", "cpu", "--estimate").output
    run("prepare", file, "--data", data, "--device", "cpu")
    track = load_track(tmp_path / "home" / "tracks" / "cifar10-slice")
    assert [len(track.examples(name)) for name in ("retain", "forget", "val", "test")] == [1800, 200, 500, 500]
    assert track.originals().accuracy_on("test").mean() > 0.2  # two epochs; chance is 0.1
    run("evaluate", FINETUNE, "--track", file, "--runs", 4, "--device", "cpu", "--json", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["outcome"] == "OK"
    assert result["test_ratio"] > 0.3


@pytest.mark.gpu
def test_a_slice_is_prepared_and_fine_tuned_on_a_gpu(data: Path, run: Harness, tmp_path: Path) -> None:
    file = sliced(tmp_path)
    run("prepare", file, "--data", data, "--device", "cuda", "--jobs", 2)
    track = load_track(tmp_path / "home" / "tracks" / "cifar10-slice")
    assert track.manifest.prepared["device"] == "cuda"
    assert track.originals().accuracy_on("test").mean() > 0.2
    run("evaluate", FINETUNE, "--track", file, "--runs", 4, "--device", "cuda", "--json", tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["outcome"] == "OK"
