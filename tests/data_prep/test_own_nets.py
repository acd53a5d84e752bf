"""Nets of one's own are ordinary Python: they work, or one sentence says why not before anything is trained."""

import itertools
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.numpy import load_file

from data_prep.draft import lay_out
from data_prep.reference import plan_stacks
from data_prep.sources.dataset import Dataset
from data_prep.splits import split_indices
from data_prep.training import initial_net, train, train_stack
from harness import models
from harness.errors import UsageError
from harness.runner.inside.returned import flat_weights, schema_of
from harness.runner.inside.worker import _keep_source
from harness.runs.calibration import calibrate
from harness.runs.measure import build_model
from harness.tracks.archive import export_track
from harness.tracks.declaration import Training, read_declaration
from harness.tracks.track import Examples, Track, load_track

Harness = Callable[..., Result]
COUNTER = itertools.count()

OWN = """
name = "own"
title = "a net of one's own"

[data]
source = "four.npz"

[split]
train = 93
val = 40

[forget]
kind = "random"
count = 12

[model]
name = "net.py:build"

[training]
epochs = 1
batch_size = 16
learning_rate = 0.05

[reference]
originals = 2
retrained = 4

[limits]
seconds = 5

[evaluation]
runs = 2
"""

BEGIN = """
import torch
from torch import nn


class Net(nn.Module):
    def logits(self, images):
        return self.head(self.stem(images.flatten(1)).relu())

    def __init__(self, n_classes, channels):
        super().__init__()
        self.stem = nn.Linear(channels * 16, 8)
        self.head = nn.Linear(8, n_classes)
"""
END = """

def build(n_classes, channels):
    return Net(n_classes, channels)
"""


def net(*, init: str = "", forward: str = "return self.logits(images)") -> str:
    """Return the source of a small net with more in its constructor, or with another forward."""
    indented = "".join(f"        {line}\n" for line in init.splitlines())
    body = "".join(f"        {line}\n" for line in forward.splitlines())
    return f"{BEGIN}{indented}\n    def forward(self, images):\n{body}{END}"


TIED = net(
    init="self.first = nn.Linear(8, 8)\nself.second = nn.Linear(8, 8)\nself.second.weight = self.first.weight",
    forward="return self.head(self.second(self.first(self.stem(images.flatten(1))).relu()))",
)
LOOKS = net(forward="if images.abs().max().item() > 50:\n    images = images / 255\nreturn self.logits(images)")
NORMED = """
from torch import nn


def build(n_classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 8), nn.BatchNorm1d(8), nn.Linear(8, n_classes))
"""
ORDINARY = '''
"""Ordinary Python."""

from __future__ import annotations

import copy
import pickle
import typing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

THIS = Path(__file__).read_text()


@dataclass
class Sizes:
    hidden: int = 8
    more: list[int] = field(default_factory=list)


class Base(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes


class Net(Base):
    def __init__(self, inputs: int, n_classes: int, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, sizes.hidden), nn.ReLU())
        self.head = nn.Linear(sizes.hidden, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(images))


def build(n_classes: int, channels: int) -> nn.Module:
    assert "Ordinary Python" in THIS
    return copy.deepcopy(pickle.loads(pickle.dumps(Net(channels * 16, n_classes, Sizes()))))


if __name__ == "__main__":
    from training_script import main

    main()
'''


def write(folder: Path, source: str, *changes: tuple[str, str]) -> Path:
    """Write data, declaration and net into a folder; changes: what in the declaration, and what is there instead."""
    generator = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = (labels[:, None, None, None] * 50 + generator.integers(0, 60, (160, 4, 4, 1))).astype(np.uint8)
    np.savez(folder / "four.npz", images=images, labels=labels)
    text = OWN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "own.toml").write_text(text)
    (folder / "net.py").write_text(source)
    return folder / "own.toml"


def draft(folder: Path, source: str, *changes: tuple[str, str], notes: list[str] | None = None) -> Track:
    file, told = write(folder, source, *changes), [] if notes is None else notes
    place = folder / f"draft-{next(COUNTER)}"
    return lay_out(read_declaration(file), file, place, cache=folder, on_note=told.append)


@pytest.fixture
def own(harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """The command line with an empty HARNESS_HOME, where byte code lies beside its source as usual."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own-home"))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return harness


# ---- what works -----------------------------------------------------------------------------------------------------


def test_a_track_with_an_own_net_is_prepared_evaluated_and_whole_afterwards(own: Harness, tmp_path: Path) -> None:
    demanding = net(  # tied, looking at values, and not to be trained on the single example that 81 leave
        init="self.first = nn.Linear(8, 8)\nself.second = nn.Linear(8, 8)\nself.second.weight = self.first.weight\n"
        "self.norm = nn.BatchNorm1d(8)",
        forward="hidden = self.norm(self.stem(images.flatten(1)))\nif hidden.sum().item() > 9e9:\n    hidden = 0\n"
        "return self.head(self.second(self.first(hidden).relu()))",
    )
    file = write(tmp_path, demanding)
    prepared = own("prepare", file, "--jobs", 1)
    assert prepared.exit_code == 0, prepared.output
    for _ in range(2):  # the second finds the track as the first left it
        result = own("evaluate", "baselines/finetune.py", "--track", file, "--runs", 2, "--jobs", 1)
        assert result.exit_code == 0, result.output
    track = load_track(tmp_path / "own-home" / "tracks" / "own")
    assert not list(track.folder.rglob("__pycache__"))
    for index in range(2):
        weights = track.original(index)
        assert np.array_equal(weights["first.weight"], weights["second.weight"])


def test_what_programs_leave_in_a_track_does_no_harm_and_does_not_travel(tiny: Track, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny.folder, tmp_path / "tiny")
    for name in ("public/.DS_Store", "public/._net.py", "public/__pycache__/net.cpython-311.pyc", "track.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    export_track(load_track(folder), tmp_path / "tiny.track", private=True)
    names = zipfile.ZipFile(tmp_path / "tiny.track").namelist()
    assert not [name for name in names if "DS_Store" in name or "._" in name or "pyc" in name or "html" in name]


def test_ordinary_python_is_taken(tmp_path: Path) -> None:
    track = draft(tmp_path, ORDINARY)
    first, second = build_model(track), build_model(track)
    assert type(first) is type(second)
    assert type(pickle.loads(pickle.dumps(first))) is type(first)
    assert plan_stacks(track, 1, present={})[0].seeds[1:]


def test_two_files_of_one_name_are_two_modules_and_a_changed_one_is_another(tmp_path: Path) -> None:
    kinds = set()
    for folder, source in (("a", NORMED), ("b", ORDINARY), ("a", ORDINARY)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "net.py").write_text(source)
        kinds.add(type(models.build("net.py:build", n_classes=3, channels=1, folder=tmp_path / folder)))
    assert len(kinds) == 3


ALONE = {
    "item": LOOKS,
    "a condition": net(forward="if images.sum() > 1e9:\n    images = -images\nreturn self.logits(images)"),
    "shapes of values": net(
        forward="hidden = self.stem(images.flatten(1))\nreturn self.head(hidden) + 0 * hidden[hidden > 0].sum()"
    ),
    "a buffer replaced": net(
        init="self.register_buffer('steps', torch.zeros(()))",
        forward="if self.training:\n    self.steps = self.steps + 1\nreturn self.logits(images)",
    ),
}


@pytest.mark.parametrize("kind", ALONE)
def test_nets_that_cannot_be_stacked_are_trained_one_by_one(kind: str, tmp_path: Path) -> None:
    assert {len(stack.seeds) for stack in plan_stacks(draft(tmp_path, ALONE[kind]), 1, present={})} == {1}


STACKED = {
    "tied": TIED,
    "normed": NORMED,
    "dropout": net(forward="return self.head(torch.dropout(self.stem(images.flatten(1)), 0.5, self.training))"),
    "changed in place": net(
        forward="hidden = self.stem(images.flatten(1))\nhidden += 1\nreturn self.head(hidden.relu_())"
    ),
    "frozen": net(init="self.stem.weight.requires_grad_(False)"),
    "double": net(init="self.double()", forward="return self.logits(images.double())"),
    "a buffer that is not stored": net(
        init="self.register_buffer('share', torch.tensor(0.5), persistent=False)",
        forward="return self.share * self.logits(images)",
    ),
    "a table for all nets": net(
        init="self.register_buffer('table', TABLE)",
        forward="return self.head(self.stem(images.flatten(1)) + self.table)",
    )
    + "\n\nTABLE = torch.arange(8)\n",
    "buffers of all kinds": net(
        init="self.register_buffer('a', torch.tensor([float('inf'), 1]))\nself.register_buffer('b', torch.ones(2) > 0)"
    ),
    "a shared buffer": net(
        init="self.register_buffer('a', torch.ones(8))\nself.register_buffer('b', self.a)",
        forward="return self.head(self.a * self.b * self.stem(images.flatten(1)))",
    ),
}


@pytest.mark.parametrize("kind", STACKED)
def test_nets_that_can_be_stacked_are_and_become_what_they_would_alone(kind: str, tmp_path: Path) -> None:
    track = draft(tmp_path, STACKED[kind])
    assert max(len(stack.seeds) for stack in plan_stacks(track, 1, present={})) > 1
    if kind == "dropout":
        return

    def build() -> torch.nn.Module:
        return build_model(track)

    generator = torch.Generator().manual_seed(0)
    data = torch.randn(20, 1, 4, 4, generator=generator), torch.arange(20) % 4
    recipe = Training(epochs=2, batch_size=8, learning_rate=0.05)
    stacked = train_stack(build, *data, recipe, seeds=[3, 4])[1]
    alone = train(build, *data, recipe, seed=4).state_dict()
    torch.testing.assert_close(stacked, dict(alone), atol=1e-4, rtol=1e-4)
    if kind == "frozen":
        torch.testing.assert_close(stacked["stem.weight"], _initial(build, 4)["stem.weight"])


def _initial(build: Callable[[], torch.nn.Module], seed: int) -> dict[str, torch.Tensor]:
    return initial_net(build, seed).state_dict()


# ---- wrapped nets ---------------------------------------------------------------------------------------------------

OF_TORCH = pytest.mark.filterwarnings("ignore:`torch.jit")  # its class differs from one torch to the next
WRAPPED = ("nn.DataParallel", "torch.compile", "torch.optim.swa_utils.AveragedModel")


@OF_TORCH  # torch.compile uses it
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_what_is_around_a_net_is_taken_off(wrapper: str, tmp_path: Path) -> None:
    track = draft(
        tmp_path, net().replace("return Net(n_classes, channels)", f"return {wrapper}(Net(n_classes, channels))")
    )
    assert set(build_model(track).state_dict()) == {"stem.weight", "stem.bias", "head.weight", "head.bias"}


@OF_TORCH
@pytest.mark.parametrize("part", ["nn.DataParallel(self.stem)", "torch.jit.script(self.stem)"])
def test_weights_come_back_from_a_net_that_has_a_wrapped_part(part: str, tmp_path: Path) -> None:
    track = draft(tmp_path, net(init=f"self.stem = {part}"))
    given = build_model(track)
    _keep_source(given)
    weights = flat_weights(given, schema_of(given))
    state = given.state_dict()
    torch.testing.assert_close(weights, torch.cat([value.flatten() for value in state.values()]))


# ---- what is refused ------------------------------------------------------------------------------------------------

REFUSED = {
    "a package that is missing": (
        "import no_such_package\n" + NORMED,
        "line 1: ModuleNotFoundError: No module",
    ),
    "a relative import": (
        "from .blocks import Block\n" + NORMED,
        "net.py imports .blocks; an architecture is one",
    ),
    "a module beside": ("import four_blocks\n" + NORMED, "net.py imports four_blocks; an architecture is one"),
    "a syntax error": ("def build(:\n", "net.py, line 1: SyntaxError: "),
    "a script": ("import sys\nsys.exit(2)\n", "net.py, line 2: SystemExit: 2"),
    "a file beside": (
        "SIZES = open('sizes.txt').read()\n" + NORMED,
        "line 1: FileNotFoundError: [Errno 2] No such file or directory: 'sizes.txt'; the track takes this one file",
    ),
    "other arguments": (
        NORMED.replace("n_classes, channels)", "classes)", 1),
        "net.py: build must be def build(n_classes, channels): missing a required argument: 'classes'",
    ),
    "no function at all": ("build = 3\n", "net.py: build must be def build(n_classes, channels): 3 is not a callable"),
    "the same net again": (
        f"import functools\n{NORMED}\n\nbuild = functools.cache(build)\n",
        "to train one net changes 1.weight of another; make the layers anew in each call of the function",
    ),
    "another form each time": (
        NORMED.replace("8", "WIDTH").replace("    return", "    global WIDTH\n    WIDTH += 1\n    return")
        + "\n\nWIDTH = 8\n",
        "1.bias is (9,) in one net and (10,) in another; build all nets of one form",
    ),
    "weights by a hook": (
        net(init="nn.utils.prune.l1_unstructured(self.stem, 'weight', 0.5)").replace(
            "nn\n", "nn\nimport torch.nn.utils.prune\n", 1
        ),
        "stem.weight is computed by a hook; use torch.nn.utils.parametrizations, or compute it in forward",
    ),
    "an attribute that cannot be copied": (
        net(init="self.torch = torch"),
        "nets of it cannot be copied (cannot pickle 'module' object); keep layers",
    ),
    "images changed in place": (
        "from torch import nn\n\n\ndef build(n_classes, channels):\n"
        "    first = nn.Hardtanh(0, 0.1, inplace=True)\n"
        "    return nn.Sequential(nn.Flatten(), first, nn.Linear(channels * 16, n_classes))\n",
        "forward changes the images it is given; change a copy",
    ),
    "no finite outputs": (
        net(init="nn.init.constant_(self.head.bias, float('inf'))"),
        "its outputs are no finite numbers before any training",
    ),
    "no net": (NORMED.replace("return nn.Sequential", "return list") + "\n", "list expected at most 1 argument"),
    "a function": (
        "def build(n_classes, channels):\n    return build\n",
        "net.py:build returned function, not a",
    ),
    "a fault of its own": (net(forward="return self.missing(images)"), "net.py, line 16: AttributeError: 'Net' object"),
    "a tuple": (
        net(forward="return self.logits(images), images"),
        "outputs are tuple, not one tensor",
    ),
    "a tuple in training": (
        net(forward="logits = self.logits(images)\nreturn (logits, 0) if self.training else logits"),
        "outputs are in training tuple, not one tensor of logits",
    ),
    "one image squeezed": (
        net(forward="return self.logits(images).squeeze()"),
        "outputs are (4,) for 1 image of 4 classes, not (1, 4)",
    ),
    "probabilities": (
        net(forward="return self.logits(images).softmax(dim=1)"),
        "outputs are probabilities; leave out the softmax at the end",
    ),
    "another size of images": (
        NORMED.replace("channels * 16", "channels * 15"),
        "; images are 4 x 4 with 1 channel",
    ),
    "classes of predictions": (
        net(forward="return self.logits(images).round().long()"),
        "outputs are torch.int64 for 2 images of 4 classes, not logits",
    ),
    "a lazy layer": (
        net(init="self.stem = nn.LazyLinear(8)"),
        "stem.weight has no size yet; give layers their sizes instead of lazy ones",
    ),
    "complex weights": (
        net(init="self.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))"),
        "is complex64",
    ),
    "halves": (
        net(init="self.scale = nn.Parameter(torch.ones(2).bfloat16())"),
        "scale is bfloat16; make",
    ),
    "memory shared": (
        net(init="self.second = nn.Linear(8, 16)\nself.second.weight.data = self.stem.weight.data.t()"),
        "stem.weight and second.weight share memory without being one tensor; assign the parameter itself",
    ),
    "dropout in eval mode": (
        net(forward="return self.head(nn.functional.dropout(self.stem(images.flatten(1))))"),
        "its outputs change from call to call in eval mode; switch dropout off there",
    ),
    "weights that are not stored": (
        net(
            init="self.mixing = torch.randn(8, 8)",
            forward="return self.head(self.stem(images.flatten(1)) @ self.mixing)",
        ),
        "two nets with the same weights have other outputs; keep all that forward uses in parameters and buffers",
    ),
    "a step that fails": (
        net(forward="return self.head(self.stem(images.flatten(1)).detach().numpy())"),
        "net.py, line 16: TypeError: linear(): argument 'input'",
    ),
    "no gradient": (
        net(forward="with torch.no_grad():\n    return self.logits(images)"),
        "element 0 of tensors does not require grad",
    ),
    "nothing to train": (net(init="self.requires_grad_(False)"), "it has no parameters to train"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_net_that_cannot_work_is_refused_in_one_sentence_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    source, sentence = REFUSED[kind]
    (tmp_path / "four_blocks.py").write_text("")
    with pytest.raises(UsageError) as error:
        draft(tmp_path, source)
    assert sentence in str(error.value)
    assert str(error.value).startswith("model: ")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("draft-*"))


def test_nets_that_all_begin_with_the_same_weights_are_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    draft(tmp_path, net(init="torch.manual_seed(0)\nself.head.reset_parameters()"), notes=notes)
    assert notes == []  # the stem is not seeded
    draft(
        tmp_path, net().replace("super().__init__()", "super().__init__()\n        torch.manual_seed(0)"), notes=notes
    )
    assert len(notes) == 1
    assert notes[0].startswith("all nets begin with the same weights, as where net.py sets a seed")


def test_a_refused_net_does_not_stand_in_the_way_of_the_next_try(own: Harness, tmp_path: Path) -> None:
    file = write(tmp_path, net(forward="return self.missing(images)"))
    for command in (["--estimate"], []):
        refused = own("prepare", file, "--jobs", 1, *command)
        assert refused.exit_code == 2
        assert "net.py, line 16: AttributeError" in " ".join(refused.output.split())
    (tmp_path / "net.py").write_text(net())
    result = own("prepare", file, "--jobs", 1)
    assert result.exit_code == 0, result.output


def test_a_net_that_was_changed_after_the_preparation_is_noticed(own: Harness, tmp_path: Path) -> None:
    file = write(tmp_path, net())
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as Windows' editors begin a file
    assert own("prepare", file, "--jobs", 1).exit_code == 0
    (tmp_path / "net.py").write_text(net() + "# changed\n")
    for command in (["prepare", file], ["evaluate", "baselines/finetune.py", "--track", file]):
        result = own(*command)
        assert result.exit_code == 2
        assert "net.py has changed since own was prepared; run: harness prepare" in " ".join(result.output.split())
    (tmp_path / "net.py").unlink()
    for command in (["prepare", file], ["evaluate", "baselines/finetune.py", "--track", file]):
        result = own(*command)
        assert result.exit_code == 2
        said = " ".join(result.output.split())
        assert "net.py is gone since own was prepared; bring it back: cp" in said
    assert own("prepare", "own").exit_code == 0  # the track has a copy
    subprocess.run(said[said.index("cp ") : said.index(", or use")], shell=True, check=True)
    assert own("prepare", file).exit_code == 0


@pytest.mark.long
def test_a_net_may_print_without_harm_to_the_clock(own: Harness, tmp_path: Path) -> None:
    chatty = net(init="print('built')", forward="print('forward')\nreturn self.logits(images)")
    file = write(tmp_path, chatty, ("[limits]\nseconds = 5\n", "[limits]\ntime_limit_fraction = 1.0\n"))
    assert own("prepare", file, "--jobs", 1).exit_code == 0
    track = load_track(tmp_path / "own-home" / "tracks" / "own")
    told: list[float] = []
    found = calibrate(track, tmp_path, device="cpu", threads=1, jobs=1, on_estimate=told.append)
    assert len(told) == 1  # beforehand, about how long it takes: the samples, and the starts between them
    assert 0.1 * sum(found.samples) < told[0] < 60 + 10 * sum(found.samples)


def test_a_net_that_fails_or_diverges_in_the_middle_of_training_is_told_in_one_sentence(
    own: Harness, tmp_path: Path
) -> None:
    late = net(
        init="self.register_buffer('steps', torch.zeros(()))",
        forward="self.steps += self.training\nif self.steps.item() > 4:\n    raise ValueError('enough')\n"
        "return self.logits(images)",
    )
    result = own("prepare", write(tmp_path, late), "--jobs", 1)
    assert (result.exit_code, "line 19: ValueError: enough" in result.output) == (2, True), result.output
    steep = write(tmp_path, net(), ("learning_rate = 0.05", "learning_rate = 1e30"))
    result = own("prepare", steep, "--jobs", 1)
    assert (result.exit_code, "lower training.learning_rate" in result.output) == (2, True), result.output


def test_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with pytest.raises(UsageError, match=r"\.\./net\.py has to lie beside own\.toml"):
        draft(tmp_path / "inner", NORMED, ("net.py:build", "../net.py:build"))


# ---- batches and classes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "train", "served"),
    [(NORMED, 93, 17), (NORMED, 94, 16), (net(), 93, 16)],
    ids=["81 examples, normed", "82 examples, normed", "81 examples, not normed"],
)
def test_batches_of_runs_leave_no_last_one_of_one_example_where_a_net_refuses_it(
    source: str, train: int, served: int, tmp_path: Path
) -> None:
    notes: list[str] = []
    track = draft(tmp_path, source, ("train = 93", f"train = {train}"), notes=notes)
    assert json.loads((track.public / "task.json").read_text())["batch_size"] == served
    assert len(notes) == (served != 16)
    if notes:
        assert notes[0].startswith("runs get batches of 17, not of 16, which would leave a last batch of one example")


@pytest.mark.parametrize("label", [0, 3])
def test_weights_of_classes_do_not_need_an_example_of_each(label: int, own: Harness, tmp_path: Path) -> None:
    forgotten = ('kind = "random"\ncount = 12', f'kind = "class"\nlabel = {label}')
    weighted = ("epochs = 1", "epochs = 1\nclass_weights = true")
    result = own("prepare", write(tmp_path, net(), forgotten, weighted), "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert f"to be forgotten: class {label}, " in result.output
    weights = load_file(tmp_path / "own-home" / "tracks" / "own" / "public" / "original-0.safetensors")
    assert all(np.isfinite(value).all() for value in weights.values())


def test_classes_that_no_model_learns_are_noted(tmp_path: Path) -> None:
    file, notes = write(tmp_path, NORMED), list[str]()
    data = dict(np.load(tmp_path / "four.npz"))
    split = read_declaration(file).split.model_copy(update={"train": 140, "val": 10})
    text = file.read_text().replace("train = 93\nval = 40", "train = 140\nval = 10")
    sets = split_indices(Dataset(Examples(data["images"], data["labels"])), split, read_declaration(file).forget)
    data["labels"][sets["test"][0]] = 4  # the only one of its class
    np.savez(tmp_path / "four.npz", **data)
    file.write_text(text)
    lay_out(read_declaration(file), file, tmp_path / "draft", cache=tmp_path, on_note=notes.append)
    assert notes[0] == "the training set has no example of class 4, which no model learns"


@pytest.mark.parametrize("key", ["mean", "std"])
def test_one_value_for_each_channel_or_one_for_all(key: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"data\.{key} has 3 values and the images have 1 channel; give one for all"):
        draft(tmp_path, net(), ('"four.npz"', f'"four.npz"\n{key} = [0.5, 0.5, 0.5]'))


# ---- convolutions that a processor cannot compute -------------------------------------------------------------------

STRIDED = """
from torch import nn


def build(n_classes, channels):
    shortcut = nn.Conv2d(channels, 8, kernel_size=1, stride=2)
    return nn.Sequential(shortcut, nn.Flatten(), nn.Linear(32, n_classes))
"""


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_a_net_that_corrupts_memory_on_this_processor_is_a_usage_error(
    capability: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr("data_prep.architecture.train", lambda *_, **__: pytest.fail("it is trained"))
    raised = UsageError if capability == "AVX2" else pytest.fail.Exception
    with pytest.raises(raised, match=r"model: 0 is a 1x1 convolution with a stride and 1 channels|it is trained"):
        draft(tmp_path, STRIDED)


def test_a_small_network_takes_pixels_first_where_it_is_narrow_and_computes_the_same() -> None:
    for width, kind in ((4, models.SlicedConvolution), (8, torch.nn.Conv2d)):
        assert type(models.SmallResNet(n_classes=10, width=width).get_submodule("layer2.downsample.0")) is kind
    sliced = models.SlicedConvolution(4, 8, kernel_size=1, stride=2, bias=False)
    usual = torch.nn.Conv2d(4, 8, kernel_size=1, stride=2, bias=False)
    usual.load_state_dict(sliced.state_dict())
    images = torch.randn(3, 4, 7, 6)
    torch.testing.assert_close(sliced(images), usual(images))
