"""Tracks: declarations and their faults, splits, data files, and the folder that is exported and imported."""

import os
import re
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.datasets import load_dataset
from data_prep.sources.dataset import Dataset
from data_prep.splits import split_indices
from harness.errors import MachineError, UsageError
from harness.record import Records
from harness.storage import hash_folder, write_arrays, write_bytes
from harness.tracks import catalogue
from harness.tracks.archive import export_track, import_track
from harness.tracks.declaration import Declaration, Forget, Split, read_declaration
from harness.tracks.hashes import fingerprint, reference_hash, secret_commitment
from harness.tracks.track import POOLS, Examples, Manifest, Track, load_track, write_manifest

GOOD = """
name = "mini"
title = "a track for tests"

[data]
source = "data.npz"

[split]
train = 8
val = 4

[forget]
kind = "random"
count = 2

[model]
name = "small_resnet"

[training]
epochs = 1
batch_size = 4
learning_rate = 0.1

[reference]
originals = 1
retrained = 3

[evaluation]
runs = 3
"""

SECRET = "5ec2e75ec2e7"


# ---- declarations -------------------------------------------------------------------------------------------------


@pytest.fixture
def problems(tmp_path: Path) -> Callable[[str], list[str]]:
    """Reads a declaration that is wrong, and returns the lines of the error below the first."""

    def call(text: str) -> list[str]:
        file = tmp_path / "my.toml"
        file.write_text(text)
        with pytest.raises(UsageError, match=r"my\.toml is no track declaration") as error:
            read_declaration(file)
        return [line.strip() for line in str(error.value).splitlines()[1:]]

    return call


def declared(text: str, folder: Path) -> Declaration:
    file = folder / "declared.toml"
    file.write_text(text)
    return read_declaration(file)


def test_a_declaration_is_read_with_the_defaults_of_what_it_leaves_out(tmp_path: Path) -> None:
    declaration = declared(GOOD, tmp_path)
    assert (declaration.name, declaration.split.seed, declaration.split.train) == ("mini", 0, 8)
    assert (declaration.data.scale, declaration.data.mean, declaration.data.std) == (255.0, [0.0], [1.0])
    assert declaration.data.downscale == 1
    assert (declaration.training.momentum, declaration.training.weight_decay) == (0.9, 5e-4)
    assert (declaration.limits.time_limit_fraction, declaration.limits.seconds) == (0.10, None)
    assert declaration.evaluation.rank_by == "calibrated"
    assert declaration.reference.published_secret is None


def test_every_track_that_comes_with_the_harness_is_declared_well() -> None:
    files = sorted((Path(__file__).parents[2] / "data_prep" / "tracks").glob("*.toml"))
    assert "digits" in [file.stem for file in files]
    assert all(read_declaration(file).name == file.stem for file in files)


def test_no_declaration_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no track file"):
        read_declaration(tmp_path / "nothing.toml")


def test_text_that_is_no_toml_is_a_usage_error(problems: Callable[[str], list[str]]) -> None:
    (problem,) = problems("name = \n")
    assert "line 1" in problem


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("val = 4", "val = 4\nvalue = 5", r"split\.value: unknown key"),
        ("val = 4", "val = 4\nvall = 5", r"split\.vall: unknown key \(did you mean val\?\)"),
        ("val = 4", "val = 4\nzzz = 5", r"split\.zzz: unknown key$"),
        ('title = "a track for tests"', "", r"title: Field required"),
        ("[model]\n", "[models]\n", r"model: Field required"),
        ("train = 8", 'train = "many"', r"split\.train: must be a number of examples"),
        ("train = 8", "train = 8.5", r"split\.train: must be a number of examples"),
        ("train = 8", "train = 0", r"split\.train: must be a number of examples"),
        ("batch_size = 4", "batch_size = 1", r"training\.batch_size: .*greater than 1"),
        ("learning_rate = 0.1", "learning_rate = nan", r"training\.learning_rate: "),
        ("learning_rate = 0.1", "learning_rate = inf", r"training\.learning_rate: .*finite"),
        ("epochs = 1", "epochs = 1\nmomentum = 1.0", r"training\.momentum: .*less than 1"),
        ("epochs = 1", 'epochs = 1\noptimizer = "adam"\nmomentum = 0.5', "training: momentum is for .*'sgd' alone"),
        ("epochs = 1", 'epochs = 1\nschedule = "step"', "training: schedule = 'step' and milestones .* go together"),
        ('source = "data.npz"', 'source = "data.npz"\nstd = [1.0, 0.0]', r"data\.std\.1: .*greater than 0"),
        ('source = "data.npz"', 'source = "data.npz"\nmean = 0.5', r"data\.mean: .*list"),
        ('name = "mini"', 'name = "Mini Track"', "name: a name has small letters, digits and hyphens"),
        ('name = "mini"', 'name = "../mini"', "name: a name has small letters, digits and hyphens"),
        ("runs = 3", 'runs = 3\nrank_by = "luck"', r"evaluation\.rank_by: .*'calibrated' or 'official'"),
        ("runs = 3", "runs = 3\n[limits]\ntime_limit_fraction = 1.5", r"limits\.time_limit_fraction: "),
        ("runs = 3", "runs = 3\n[limits]\ntime_limit_fraction = nan", r"limits\.time_limit_fraction: "),
        ("runs = 3", "runs = 3\n[limits]\nseconds = inf", r"limits\.seconds: .*finite"),
        ("runs = 3", "runs = 3\n[limits]\nseconds = 1e10", r"limits\.seconds: .*less than or equal to 1000000"),
        ("runs = 3", "runs = 3\n[limits]\ntrain_limit = inf", r"limits\.train_limit: .*finite"),
        ("runs = 3", "runs = 3\n[limits]\ntrain_limit = 1e10", r"limits\.train_limit: .*less than or equal to 1000"),
        ('kind = "random"', 'kind = "person"', r"forget\.kind: "),
        ("count = 2", "", r"forget: kind = 'random' needs count = \.\.\."),
        ("count = 2", "label = 2", r"forget: kind = 'random' needs count = \.\.\."),
        ("count = 2", "count = 2\nlabel = 2", r"forget: kind = 'random' takes no label"),
        ('kind = "random"', 'kind = "class"', r"forget: kind = 'class' needs label = \.\.\."),
        ('kind = "random"\n', 'kind = "class"\nlabel = 0\n', r"forget: kind = 'class' takes no count"),
        ("runs = 3", "runs = 4", r"evaluation\.runs = 4 is more than reference\.retrained = 3"),
        ("retrained = 3", 'retrained = 3\npublished_secret = "no hex"', r"reference\.published_secret: "),
    ],
)
def test_a_fault_of_a_declaration_is_named_by_its_key(
    problems: Callable[[str], list[str]], old: str, new: str, expected: str
) -> None:
    assert GOOD.count(old) == 1
    found = problems(GOOD.replace(old, new))
    assert any(re.match(expected, problem) for problem in found), found


def test_all_faults_of_a_declaration_are_reported_at_once(problems: Callable[[str], list[str]]) -> None:
    wrong = GOOD.replace("val = 4", "").replace("count = 2", "").replace("epochs = 1", "epochs = 1\ncolour = 3")
    found = problems(wrong.replace("learning_rate = 0.1", 'learning_rate = "fast"'))
    keys = {problem.split(":")[0] for problem in found}
    assert keys == {"split.val", "forget", "training.colour", "training.learning_rate"}
    assert len(found) == 4


def test_a_class_to_forget_is_declared_by_its_label(tmp_path: Path) -> None:
    text = GOOD.replace('kind = "random"\ncount = 2', 'kind = "class"\nlabel = 0')
    assert declared(text, tmp_path).forget == Forget(kind="class", label=0)


def test_a_fingerprint_follows_declaration_and_data_and_not_the_secret(tmp_path: Path) -> None:
    data: dict[str, np.ndarray] = {"images": np.zeros((2, 2, 2, 1), np.uint8), "labels": np.arange(2)}
    plain = fingerprint(declared(GOOD, tmp_path), data)
    secret = GOOD.replace("retrained = 3", 'retrained = 3\npublished_secret = "00"')
    assert fingerprint(declared(secret, tmp_path), data) == plain
    assert fingerprint(declared(GOOD, tmp_path), dict(reversed(data.items()))) == plain
    others = [
        fingerprint(declared(GOOD.replace("epochs = 1", "epochs = 2"), tmp_path), data),
        fingerprint(declared(GOOD, tmp_path), {**data, "labels": np.arange(2)[::-1]}),
        fingerprint(declared(GOOD, tmp_path), {**data, "labels": np.arange(2, dtype=np.int32)}),
        fingerprint(declared(GOOD, tmp_path), {**data, "images": data["images"].reshape(2, 4, 1, 1)}),
    ]
    assert len({plain, *others}) == 5


# ---- splits -------------------------------------------------------------------------------------------------------

LABELS = np.arange(60) % 5


def of_labels(labels: np.ndarray, subjects: np.ndarray | None = None, n_test: int = 0) -> Dataset:
    """Return a data set of which only the labels and subjects matter."""
    return Dataset(Examples(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, subjects), n_test)


DATASET = of_labels(LABELS)


@pytest.mark.parametrize(
    "forget", [Forget(kind="random", count=6), Forget(kind="class", label=3)], ids=lambda f: f.kind
)
def test_the_four_sets_are_disjoint_and_sorted(forget: Forget) -> None:
    sets = split_indices(DATASET, Split(train=30, val=10), forget)
    assert list(sets) == ["retain", "forget", "val", "test"]
    together = np.concatenate(list(sets.values()))
    assert len(set(together.tolist())) == len(together)
    assert all((np.diff(indices) > 0).all() for indices in sets.values())
    assert together.min() >= 0
    assert together.max() < 60
    assert len(sets["retain"]) + len(sets["forget"]) == 30


def test_a_random_forget_set_has_its_size_and_so_have_the_others() -> None:
    sets = split_indices(DATASET, Split(train=30, val=10), Forget(kind="random", count=6))
    assert {name: len(indices) for name, indices in sets.items()} == {"retain": 24, "forget": 6, "val": 10, "test": 20}


def test_a_forgotten_class_is_whole_and_in_no_other_set() -> None:
    sets = split_indices(DATASET, Split(train=30, val=10), Forget(kind="class", label=3))
    assert set(LABELS[sets["forget"]]) == {3}
    for name in ("retain", "val", "test"):
        assert set(LABELS[sets[name]]) == {0, 1, 2, 4}
    everybody_else = sum(len(sets[name]) for name in ("retain", "val", "test"))
    assert everybody_else == 48  # nobody but the class is left out


def test_a_split_follows_from_its_seed() -> None:
    forget = Forget(kind="random", count=6)
    first = split_indices(DATASET, Split(train=30, val=10), forget)
    again = split_indices(DATASET, Split(train=30, val=10, seed=0), forget)
    other = split_indices(DATASET, Split(train=30, val=10, seed=1), forget)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_what_is_forgotten_changes_neither_the_training_set_nor_val_and_test() -> None:
    split = Split(train=30, val=10)
    few, many = (split_indices(DATASET, split, Forget(kind="random", count=count)) for count in (3, 9))
    assert np.array_equal(few["val"], many["val"])
    assert np.array_equal(few["test"], many["test"])
    training = [np.sort(np.concatenate([sets["retain"], sets["forget"]])) for sets in (few, many)]
    assert np.array_equal(training[0], training[1])
    assert set(few["forget"]) < set(many["forget"])


@pytest.mark.parametrize(("train", "val"), [(50, 10), (60, 1), (1, 59), (100, 100)])
def test_a_split_that_leaves_no_test_set_is_a_usage_error(train: int, val: int) -> None:
    with pytest.raises(UsageError, match="leave no test set of 60 examples"):
        split_indices(DATASET, Split(train=train, val=val), Forget(kind="random", count=1))


def test_a_test_set_may_be_smaller_than_the_rest_and_not_larger() -> None:
    forget = Forget(kind="random", count=6)
    whole = split_indices(DATASET, Split(train=30, val=10), forget)
    part = split_indices(DATASET, Split(train=30, val=10, test=7), forget)
    assert len(part["test"]) == 7
    assert set(part["test"]) < set(whole["test"])
    assert all(np.array_equal(part[name], whole[name]) for name in ("retain", "forget", "val"))
    with pytest.raises(UsageError, match="only 20 examples are left for test = 21"):
        split_indices(DATASET, Split(train=30, val=10, test=21), forget)


@pytest.mark.parametrize(
    "forget",
    [Forget(kind="random", count=30), Forget(kind="random", count=31), Forget(kind="class", label=5)],
    ids=["all", "more than all", "nobody"],
)
def test_forgetting_everybody_or_nobody_is_a_usage_error(forget: Forget) -> None:
    with pytest.raises(UsageError, match=r"of 30 training examples would be|31 examples are wanted|no class 5"):
        split_indices(DATASET, Split(train=30, val=10), forget)


def test_forgetting_the_only_class_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="30 of 30"):
        split_indices(of_labels(np.zeros(60, int)), Split(train=30, val=10), Forget(kind="class", label=0))


def test_forgetting_a_class_that_leaves_val_or_test_empty_is_a_usage_error() -> None:
    order = np.random.default_rng(0).permutation(12)  # as the split draws it
    for left_empty in (order[8:10], order[10:]):
        labels = np.arange(12) % 2
        labels[order[:2]] = 0, 1
        labels[order[8:]] = 0
        labels[left_empty] = 1
        with pytest.raises(UsageError):
            split_indices(of_labels(labels), Split(train=8, val=2), Forget(kind="class", label=1))


def test_the_shipped_digits_still_follow_from_their_declaration_and_data(tmp_path: Path) -> None:
    (declared,) = catalogue.find_tracks("digits", tmp_path)
    assert declared.shipped is not None
    shipped = import_track(declared.shipped, tmp_path)
    dataset = read("sklearn:digits", tmp_path)
    sets = split_indices(dataset, declared.declaration.split, declared.declaration.forget)
    found = fingerprint(declared.declaration, {**dataset.examples.arrays(), **sets})
    assert found == shipped.manifest.fingerprint


# ---- data files ---------------------------------------------------------------------------------------------------


def read(source: str, folder: Path) -> Dataset:
    """Return the data set of a declaration in a folder."""
    return load_dataset(source, folder=folder, cache=folder / "cache")


def test_the_bundled_digits_are_grey_images_with_values_up_to_16() -> None:
    digits = read("sklearn:digits", Path("nowhere")).examples
    assert digits.images.shape == (1797, 8, 8, 1)
    assert digits.images.dtype == np.uint8
    assert digits.labels.shape == (1797,)
    assert digits.labels.dtype == np.int64
    assert digits.images.max() == 16
    assert set(digits.labels) == set(range(10))
    assert len(digits) == 1797


def test_arrays_from_a_file_are_taken_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.array([0, 3, 1, 1, 2], np.int16))
    for source, folder in (("data.npz", tmp_path), (str(tmp_path / "data.npz"), Path("elsewhere"))):
        examples = read(source, folder).examples
        assert np.array_equal(examples.images, images)
        assert examples.labels.tolist() == [0, 3, 1, 1, 2]
        assert examples.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (np.array([[0], [2], [1]]), None, [0, 2, 1]),
        (np.array([0.0, 1.0, 2.0]), None, [0, 1, 2]),
        (np.array([True, False, True]), None, [1, 0, 1]),
        (np.array(["c10", "c9", "c9"]), ("c9", "c10"), [1, 0, 0]),
        (np.array([b"dog", b"cat", b"cat"]), ("cat", "dog"), [1, 0, 0]),
    ],
    ids=["a column", "whole floats", "truths", "names", "bytes"],
)
def test_labels_may_come_as_people_have_them(
    labels: np.ndarray, names: tuple[str, ...] | None, numbers: list[int], tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", images=np.full((3, 4, 4), 7, np.int64), labels=labels)
    found = read("data.npz", tmp_path)
    assert found.examples.images.shape == (3, 4, 4, 1)
    assert found.examples.images.dtype == np.uint8
    assert (found.examples.labels.tolist(), found.class_names) == (numbers, names)


def test_classes_without_an_example_are_noted(tmp_path: Path) -> None:
    images, labels = np.zeros((6, 4, 4, 1), np.uint8), np.array([1, 2, 4, 1, 2, 4])
    np.savez(tmp_path / "data.npz", images=images, labels=labels, class_names=np.array(list("abcde")))
    found = read("data.npz", tmp_path)
    assert found.n_classes == 5
    assert found.notes == ("data.npz: no example has the label 0, 3; nets have an output for each of 5 classes",)


def test_a_class_that_may_be_a_missing_value_is_noted(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "data.npz", images=np.zeros((3, 4, 4, 1), np.uint8), labels=np.array([0, np.nan, 1]).astype(str)
    )
    assert "a class is called 'nan', as examples without a label" in read("data.npz", tmp_path).notes[0]


def test_an_unknown_source_is_a_usage_error_that_names_the_known_ones(tmp_path: Path) -> None:
    for source in ("sklearn:iris", "data.txt", ""):
        with pytest.raises(
            UsageError, match=r"no data source .*sklearn:digits, torchvision:NAME, casia-surf, a path to an \.npz"
        ):
            read(source, tmp_path)


def test_a_missing_data_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "data.npz").touch()
    with pytest.raises(UsageError, match=r"no data file .*dta\.npz \(did you mean .*data\.npz\?\)"):
        read("dta.npz", tmp_path)


IMAGES, ROW = np.zeros((3, 4, 4, 1), np.uint8), np.arange(3)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"images": IMAGES}, "labels"),
        ({"labels": ROW}, "images"),
        ({}, "images"),
        ({"images": IMAGES.astype(np.float32), "labels": ROW}, r"images must be uint8 .*\(images \* 255\)"),
        ({"images": IMAGES + 2.0, "labels": ROW}, r"store images\.astype\('uint8'\)"),
        ({"images": IMAGES[..., 0, 0], "labels": ROW}, r"images must be uint8 .*reshape"),
        (
            {"images": np.zeros((3, 3, 8, 8), np.uint8), "labels": ROW},
            r"channels come last, .*\(0, 2, 3, 1\)",
        ),
        ({"images": IMAGES.astype(np.int64) + 256, "labels": ROW}, "its values are 256 to 256"),
        ({"images": IMAGES == 0, "labels": ROW}, r"images.astype\('uint8'\) \* 255"),
        (
            {"images": IMAGES * np.array([0, 1, np.nan])[:, None, None, None], "labels": ROW},
            r"images\[2\] holds values",
        ),
        ({"images": IMAGES, "labels": ROW[:2]}, "labels must be 3 integers"),
        ({"images": IMAGES, "labels": np.eye(3)}, r"labels must be 3 integers .*labels.argmax\(1\)"),
        ({"images": IMAGES, "labels": ROW + 0.5}, r"labels\[0\] is 0\.5, .* the 3 such of 3"),
        ({"images": IMAGES, "labels": np.array([0, np.nan, 1])}, r"labels\[1\] is nan, where labels must be whole"),
        ({"images": IMAGES, "labels": np.array(["a", "b", ""])}, r"labels\[2\] is '', where a name must be"),
        (
            {"images": IMAGES, "labels": np.array([1, 2, 1])},
            "labels go up to 2, and no example has 0: store labels - 1, or class_names",
        ),
        (
            {"images": IMAGES, "labels": np.array([0, 2, 0])},
            r"no example has 1: store np\.unique\(labels, return_inverse",
        ),
        ({"images": IMAGES, "labels": ROW, "subjects": np.array([4, np.nan, 4])}, r"subjects\[1\] is nan"),
        ({"images": IMAGES, "labels": ROW, "subjects": np.array(["ann", "", "bo"])}, r"subjects\[1\] is ''"),
        ({"images": IMAGES, "labels": ROW, "class_names": np.array(["a", "b", "a"])}, "class_names has 'a' twice"),
        ({"images": IMAGES, "labels": ROW * 1000}, "labels must be 3 integers from 0, .*not 0 to 2000"),
        ({"images": IMAGES, "labels": ROW * 0}, "one class only"),
        ({"images": IMAGES, "labels": ROW, "class_names": np.array(["a", "b"])}, "class_names has 2 names, .* up to 2"),
        ({"images": IMAGES, "labels": ROW, "class_names": np.array("a")}, "class_names must be a list"),
        ({"images": IMAGES, "labels": ROW - 1}, "labels must be 3 integers from 0"),
        (
            {"images": IMAGES, "labels": np.array(["a", "b", "c"]), "class_names": np.array(["a", "b"])},
            "labels has 'c', which is not in class_names",
        ),
        ({"images": np.array([None, None, None]), "labels": ROW}, "Python objects"),
        ({"images": IMAGES[:0], "labels": ROW[:0]}, "images|labels"),
    ],
)
def test_arrays_that_are_no_data_set_are_a_usage_error(
    tmp_path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=rf"data\.npz.*({problem})"):
        read("data.npz", tmp_path)


@pytest.mark.parametrize("kind", ["text", "empty", "cut off", "a single array", "a folder"])
def test_a_file_that_is_no_npz_is_a_usage_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=IMAGES, labels=ROW)
    if kind == "a folder":
        path.unlink()
        path.mkdir()
    elif kind == "a single array":
        with path.open("wb") as file:
            np.save(file, IMAGES)
    else:
        path.write_bytes({"text": b"images, labels\n", "empty": b"", "cut off": path.read_bytes()[:300]}[kind])
    with pytest.raises(UsageError, match=r"data\.npz is no \.npz with `images` and `labels`"):
        read("data.npz", tmp_path)


# ---- the prepared folder ------------------------------------------------------------------------------------------


def records(n: int) -> Records:
    """Return made-up records of n models on a track of two forget examples and three classes."""
    rng = np.random.default_rng(n)
    return Records(
        forget_logits=rng.normal(0, 1, (n, 2, 3)).astype(np.float32),
        test_logits=rng.normal(0, 1, (n, 4, 3)).astype(np.float32),
        retain_confidence=rng.normal(0, 1, (n, 6)).astype(np.float32),
        retain_correct=rng.random((n, 6)) < 0.5,
        val_confidence=rng.normal(0, 1, (n, 4)).astype(np.float32),
        val_correct=rng.random((n, 4)) < 0.5,
        accuracy=rng.random((n, 4)),
        original=np.full(n, -1),
        distance=np.full(n, np.nan),
        weights_sha256=np.array([f"{i:064x}" for i in range(n)]),
    )


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """A complete track made by hand below `tracks`, with a secret nobody published."""
    folder = tmp_path / "tracks" / "mini"
    for name, size in (("public/retain", 6), ("public/forget", 2), ("public/val", 4), ("private/test", 4)):
        images = np.random.default_rng(size).integers(0, 256, (size, 4, 4, 1)).astype(np.uint8)
        write_arrays(folder / f"{name}.npz", {"images": images, "labels": np.arange(size) % 3})
    write_bytes(folder / "public" / "original-0.safetensors", b"weights")
    for pool in POOLS:
        write_arrays(folder / "private" / f"retrained-{pool}.npz", records(3).arrays())
    write_arrays(folder / "private" / "originals.npz", records(1).arrays())
    write_bytes(folder / "private" / "secret", SECRET.encode())
    write_bytes(folder / "track.toml", GOOD.encode())
    manifest = Manifest(
        fingerprint="f" * 64,
        public_hash=hash_folder(folder / "public"),
        reference_hash=reference_hash(folder / "private"),
        secret_commitment=secret_commitment(bytes.fromhex(SECRET)),
        n_classes=3,
        channels=1,
        retrained=3,
        prepared={"torch": "0"},
    )
    write_manifest(folder, manifest)
    return load_track(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files of a folder by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_prepared_track_gives_what_was_put_into_it(track: Track) -> None:
    assert track.name == "mini"
    assert track.secret == bytes.fromhex(SECRET)
    assert {name: len(track.examples(name)) for name in ("retain", "forget", "val", "test")} == {
        "retain": 6,
        "forget": 2,
        "val": 4,
        "test": 4,
    }
    assert isinstance(track.examples("test"), Examples)
    assert len(track.originals()) == 1
    for pool in POOLS:
        assert np.array_equal(track.retrained(pool).forget_logits, records(3).forget_logits)


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _flip_a_byte(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def _write(name: str, content: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(content)

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "no declaration": _remove("track.toml"),
    "no manifest": _remove("manifest.json"),
    "no secret": _remove("private/secret"),
    "no public file": _remove("public/forget.npz"),
    "no private file": _remove("private/retrained-scoring.npz"),
    "no private part": lambda folder: shutil.rmtree(folder / "private"),
    "changed public file": _flip_a_byte("public/original-0.safetensors"),
    "changed private file": _flip_a_byte("private/test.npz"),
    "a file too many": _write("public/more.txt", "more"),
    "a secret that is none": _write("private/secret", "not hexadecimal"),
    "an empty secret": _write("private/secret", ""),
    "a changed secret": _write("private/secret", SECRET.replace("7", "6")),
    "a broken declaration": _write("track.toml", GOOD.replace("train = 8", "train =")),
    "a wrong declaration": _write("track.toml", GOOD.replace("train = 8", "train = -8")),
    "a broken manifest": _write("manifest.json", "{"),
    "a wrong manifest": _write("manifest.json", '{"fingerprint": "f"}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_track_is_a_machine_error_that_says_what_to_do(track: Track, damage: str) -> None:
    DAMAGES[damage](track.folder)
    with pytest.raises(MachineError, match="track mini is damaged") as error:
        load_track(track.folder)
    assert "harness prepare mini --force" in str(error.value)


def test_a_damaged_part_of_a_track_is_named(track: Track) -> None:
    DAMAGES["changed private file"](track.folder)
    DAMAGES["a changed secret"](track.folder)
    with pytest.raises(MachineError, match=r"damaged \(private/\*\.npz, private/secret: "):
        load_track(track.folder)


def test_a_track_of_an_earlier_version_does_not_commit_to_its_secret_and_opens(track: Track) -> None:
    write_manifest(track.folder, track.manifest.model_copy(update={"secret_commitment": None}))
    DAMAGES["a changed secret"](track.folder)
    assert load_track(track.folder).secret != bytes.fromhex(SECRET)


def test_a_track_that_is_not_there_is_a_machine_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        load_track(tmp_path / "nothing")


# ---- the first use of a track that ships ----------------------------------------------------------------------------


def test_of_several_first_commands_one_unpacks_the_track_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked, at_once = list[Path](), threading.Barrier(3)

    def unpack(file: Path, tracks: Path) -> Track:
        unpacked.append(file)
        return import_track(file, tracks)

    def first_command(_: int) -> str:
        at_once.wait(60)
        return catalogue.open_track("digits", tmp_path).name

    monkeypatch.setattr(catalogue, "import_track", unpack)
    with ThreadPoolExecutor(3) as pool:  # of one process id, as processes of several containers may be
        assert list(pool.map(first_command, range(3))) == ["digits"] * 3
    assert len(unpacked) == 1
    assert not list(tmp_path.glob(".import-*"))


# ---- export and import --------------------------------------------------------------------------------------------


def test_a_private_export_brings_back_every_file_of_the_track(track: Track, tmp_path: Path) -> None:
    export_track(track, tmp_path / "mini.track", private=True)
    imported = import_track(tmp_path / "mini.track", tmp_path / "elsewhere")
    assert imported.folder == tmp_path / "elsewhere" / "mini"
    assert files_of(imported.folder) == files_of(track.folder)
    assert imported.manifest == track.manifest
    assert imported.secret == track.secret


def test_a_public_export_holds_no_private_file_and_no_secret(track: Track, tmp_path: Path) -> None:
    export_track(track, tmp_path / "mini.track", private=False)
    with zipfile.ZipFile(tmp_path / "mini.track") as archive:
        names = archive.namelist()
        contents = b"\n".join(archive.read(name) for name in names)
    assert sorted(names) == [
        "manifest.json",
        "public/forget.npz",
        "public/original-0.safetensors",
        "public/retain.npz",
        "public/val.npz",
        "track.toml",
    ]
    assert SECRET.encode() not in contents
    assert bytes.fromhex(SECRET) not in contents
    assert str(track.manifest.reference_hash).encode() not in contents
    assert str(track.manifest.secret_commitment).encode() not in contents


def test_an_imported_public_export_is_a_track_without_a_reference(track: Track, tmp_path: Path) -> None:
    export_track(track, tmp_path / "mini.track", private=False)
    imported = import_track(tmp_path / "mini.track", tmp_path / "elsewhere")
    assert not imported.private.exists()
    assert imported.manifest.reference_hash is None
    assert imported.manifest.public_hash == track.manifest.public_hash
    assert imported.manifest.fingerprint == track.manifest.fingerprint
    assert np.array_equal(imported.examples("forget").images, track.examples("forget").images)
    assert load_track(track.folder).manifest.reference_hash is not None  # the exported one still has its own
    for ask in (lambda: imported.secret, lambda: imported.examples("test"), imported.originals):
        with pytest.raises(UsageError, match="only the public part of mini is here"):
            ask()


@pytest.fixture
def generous_umask() -> Iterator[None]:
    """A umask as most users have, under which others may read new files."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("generous_umask")
def test_nobody_else_reads_a_private_part_that_was_imported(track: Track, tmp_path: Path) -> None:
    export_track(track, tmp_path / "mini.track", private=True)
    imported = import_track(tmp_path / "mini.track", tmp_path / "elsewhere")
    assert mode(imported.private) == 0o700
    files = list(imported.private.iterdir())
    assert "secret" in [path.name for path in files]
    assert {mode(path) for path in files} == {0o600}
    assert mode(imported.folder) == mode(imported.public) == 0o755


@pytest.mark.usefixtures("generous_umask")
@pytest.mark.parametrize(("private", "expected"), [(True, 0o600), (False, 0o644)])
def test_nobody_else_reads_an_export_with_the_private_part_while_it_is_written_nor_later(
    private: bool, expected: int, track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile, write = set[int](), zipfile.ZipFile.writestr

    def writestr(*arguments: Any) -> None:
        write(*arguments)
        meanwhile.update(mode(path) for path in (tmp_path / "exports").iterdir())

    monkeypatch.setattr(zipfile.ZipFile, "writestr", writestr)
    (tmp_path / "exports").mkdir()
    export_track(track, tmp_path / "exports" / "mini.track", private=private)
    assert meanwhile == {expected}
    assert mode(tmp_path / "exports" / "mini.track") == expected


def test_two_exports_of_a_track_are_the_same_file(track: Track, tmp_path: Path) -> None:
    for private in (True, False):
        export_track(track, tmp_path / "one.track", private=private)
        export_track(track, tmp_path / "two.track", private=private)
        assert (tmp_path / "one.track").read_bytes() == (tmp_path / "two.track").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one.track", "two.track", "tracks"}


def test_an_import_replaces_a_track_only_where_it_may_and_leaves_nothing_else_behind(
    track: Track, tmp_path: Path
) -> None:
    file, tracks = tmp_path / "mini.track", track.folder.parent
    export_track(track, file, private=True)
    before = files_of(track.folder)
    assert import_track(file, tracks).manifest == track.manifest  # this very track is there
    (track.folder / "public" / "forget.npz").write_bytes(b"damaged")
    damaged = files_of(track.folder)
    with pytest.raises(
        UsageError, match=r"the track mini is there already, in .*mini\.track holds another; .* --force"
    ):
        import_track(file, tracks)
    assert files_of(track.folder) == damaged
    import_track(file, tracks, may_replace=True)
    assert files_of(track.folder) == before
    assert [path.name for path in tracks.iterdir()] == ["mini"]


def test_a_public_part_does_not_take_the_place_of_the_whole(track: Track, tmp_path: Path) -> None:
    export_track(track, tmp_path / "mini.track", private=False)
    with pytest.raises(UsageError, match=r"mini\.track holds the public part alone; to replace it: .* --force"):
        import_track(tmp_path / "mini.track", track.folder.parent)
    assert track.private.is_dir()


def test_the_whole_beside_its_public_part_is_called_so(track: Track, tmp_path: Path) -> None:
    for private in (False, True):
        export_track(track, tmp_path / f"{private}.track", private=private)
    import_track(tmp_path / "False.track", tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"True\.track holds all of it, not the public part alone; .* --force"):
        import_track(tmp_path / "True.track", tmp_path / "elsewhere")
    assert import_track(tmp_path / "True.track", tmp_path / "elsewhere", may_replace=True).secret == track.secret


def archive_with(track: Track, file: Path, **changed: str | bytes | None) -> None:
    """Write a private export with some files changed, added or (None) left out; names with `__` for `/`."""
    contents: dict[str, str | bytes] = dict(files_of(track.folder))
    for name, content in changed.items():
        contents.pop(name.replace("__", "/"), None)
        if content is not None:
            contents[name.replace("__", "/")] = content
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.txt",
        "public/../../escaped.txt",
        "public/../private/secret2",
        "{tmp_path}/escaped.txt",
        "escaped.txt",
        "..",
        "./",
    ],
)
def test_an_import_that_reaches_outside_its_folder_is_refused(track: Track, tmp_path: Path, name: str) -> None:
    file, tracks = tmp_path / "evil.track", tmp_path / "deep" / "tracks"
    archive_with(track, file, **{name.format(tmp_path=tmp_path): "escaped"})
    with pytest.raises(UsageError, match="is no exported track"):
        import_track(file, tracks)
    assert list(tracks.iterdir()) == []
    assert not list(tmp_path.rglob("escaped*"))


def test_an_import_under_a_name_that_is_a_path_is_refused(track: Track, tmp_path: Path) -> None:
    file, tracks = tmp_path / "evil.track", tmp_path / "deep" / "tracks"
    archive_with(track, file, **{"track.toml": GOOD.replace('"mini"', '"../mini"')})
    with pytest.raises(UsageError, match="is no exported track"):
        import_track(file, tracks)
    assert list(tracks.iterdir()) == []
    assert not (tmp_path / "deep" / "mini").exists()


@pytest.mark.parametrize("kind", ["text", "empty", "cut off", "a folder", "another archive"])
def test_a_file_that_is_no_exported_track_is_a_usage_error(track: Track, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "mini.track"
    export_track(track, file, private=True)
    if kind == "a folder":
        file.unlink()
        file.mkdir()
    elif kind == "another archive":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("public/readme.txt", "no declaration here")
    else:
        file.write_bytes({"text": b"not a zip", "empty": b"", "cut off": file.read_bytes()[:-40]}[kind])
    with pytest.raises(UsageError, match=r"mini\.track is no exported track .*--export FILE"):
        import_track(file, tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_exported_track_that_is_not_there_is_a_usage_error(track: Track, tmp_path: Path) -> None:
    export_track(track, tmp_path / "mini.track", private=True)
    with pytest.raises(UsageError, match=r"no file .*/mni\.track \(did you mean .*/mini\.track\?\); .*--export FILE"):
        import_track(tmp_path / "mni.track", tmp_path / "elsewhere")


@pytest.mark.parametrize("position", [0.1, 0.3, 0.5, 0.7])
def test_an_exported_track_with_a_wrong_byte_is_refused_in_one_line(
    track: Track, tmp_path: Path, position: float
) -> None:
    file = tmp_path / "mini.track"
    export_track(track, file, private=True)
    content = bytearray(file.read_bytes())
    for offset in range(8):  # in whichever way the archive notices: a stream that ends early, or a wrong checksum
        content[int(position * len(content)) + offset] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises((UsageError, MachineError)):
        import_track(file, tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"public__forget.npz": b"other data"},
        {"public__val.npz": None},
        {"public__more.npz": b"more data"},
        {"private__test.npz": b"other data"},
        {"private__secret": None},
    ],
    ids=["changed", "lacking", "too much", "changed reference", "no secret"],
)
def test_a_damaged_export_is_a_machine_error_and_the_track_in_place_stays(
    track: Track, tmp_path: Path, changed: dict[str, bytes | None]
) -> None:
    file = tmp_path / "mini.track"
    archive_with(track, file, **changed)
    before = files_of(track.folder)
    with pytest.raises(MachineError, match="damaged"):
        import_track(file, track.folder.parent)
    assert files_of(track.folder) == before
    assert [path.name for path in track.folder.parent.iterdir()] == ["mini"]
