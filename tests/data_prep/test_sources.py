"""Data of one's own: files, folders and copies of torchvision's sets; forget sets of every kind."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision
from click.testing import Result
from PIL import Image

from data_prep.datasets import load_dataset
from data_prep.sources.dataset import Dataset
from data_prep.splits import split_indices
from harness.errors import MachineError, UsageError
from harness.storage import read_arrays
from harness.tracks.declaration import Forget, Split
from harness.tracks.track import Examples, load_track


def read(source: str, folder: Path, copy: Path | None = None) -> Dataset:
    return load_dataset(source, folder=folder, cache=folder / "cache", copy=copy)


def write_npz(path: Path, n: int, size: int = 4, **more: np.ndarray) -> None:
    images = np.full((n, size, size, 3), n, np.uint8)
    np.savez(path, images=images, labels=np.arange(n) % 3, **more)  # type: ignore[arg-type]


def write_image(path: Path, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 9 if mode == "L" else (9, 8, 7)).save(path)


# ---- downscaling --------------------------------------------------------------------------------------------------


def test_a_downscaled_pixel_is_the_mean_of_a_square_with_a_half_rounded_up(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[:2, 2:4, 0] = [[10, 20], [30, 40]]  # 25
    image[2:, 4:, 1] = [[0, 0], [1, 1]]  # 0.5
    image[2:, :2, 2] = [[0, 0], [0, 1]]  # 0.25
    image[:2, :2] = 255
    images = np.stack([image, image[::-1]])
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(2), subjects=np.array(["ann", "bob"]))
    found = load_dataset("data.npz", folder=tmp_path, cache=tmp_path, downscale=2).examples
    assert found.images.dtype == np.uint8
    assert found.images[0].tolist() == [[[255] * 3, [25, 0, 0], [0] * 3], [[0] * 3, [0] * 3, [0, 1, 0]]]
    assert np.array_equal(found.images[1], found.images[0][::-1])
    assert found.subjects is not None
    assert found.subjects.tolist() == ["ann", "bob"]


@pytest.mark.long
def test_a_downscaled_track_has_small_images_from_its_first_file_to_its_runs(
    harness: Callable[..., Result], tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own-home"))
    file = declared(tmp_path, tiny_file, "small_resnet")
    file.write_text(file.read_text().replace("scale = 16", "scale = 16\ndownscale = 2"))
    assert harness("prepare", file).exit_code == 0
    track = load_track(tmp_path / "own-home" / "tracks" / "own")
    assert "4 x 4 pixels, 1 channel, each pixel the mean of 2 x 2" in (track.folder / "track.html").read_text()
    whole = read("sklearn:digits", tmp_path).examples.images
    for name, rows in read_arrays(track.private / "split.npz").items():
        means = whole[rows].reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))
        assert np.array_equal(track.examples(name).images, np.floor(means + 0.5)), name
    submission = tmp_path / "foo.py"
    submission.write_text(
        "def unlearn(net, retain_loader, forget_loader, val_loader):\n"
        "    assert next(iter(forget_loader))[0].shape[1:] == (1, 4, 4)\n"
    )
    result = harness("evaluate", submission, "--track", "own", "--runs", 2)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("downscale", "problem"),
    [
        ("3", "data.downscale = 3 does not divide images of 8x8 pixels; one of these does: 1, 2, 4, 8"),
        ("16", "data.downscale = 16 does not divide images of 8x8 pixels; one of these does: 1, 2, 4, 8"),
        ("0", "data.downscale: Input should be greater than 0"),
        ("-2", "data.downscale: Input should be greater than 0"),
        ("1.5", "data.downscale: Input should be a valid integer"),
        ('"half"', "data.downscale: Input should be a valid integer"),
    ],
)
def test_a_factor_that_images_do_not_divide_by_is_a_usage_error_that_leaves_nothing(
    harness: Callable[..., Result],
    tmp_path: Path,
    tiny_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    downscale: str,
    problem: str,
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own-home"))
    file = declared(tmp_path, tiny_file, "small_resnet")
    file.write_text(file.read_text().replace("scale = 16", f"scale = 16\ndownscale = {downscale}"))
    for more in ([], ["--estimate"]):
        result = harness("prepare", file, *more)
        assert result.exit_code == 2
        assert problem in " ".join(result.output.split())
        assert not [path for path in (tmp_path / "own-home").rglob("*") if path.is_file() and path.suffix != ".lock"]


# ---- torchvision --------------------------------------------------------------------------------------------------


def test_a_copy_as_two_files_stands_for_a_set_of_torchvision(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "owl"])
    write_npz(tmp_path / "train.npz", 9, class_names=names)
    write_npz(tmp_path / "test.npz", 6, class_names=names)
    found = read("torchvision:CIFAR10", tmp_path, copy=tmp_path)
    assert (len(found.examples), found.n_test, found.class_names) == (15, 6, ("cat", "dog", "owl"))
    assert set(np.unique(found.examples.images[-6:])) == {6}


def test_a_folder_without_the_set_is_a_usage_error_that_says_what_it_may_hold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither CIFAR10 as torchvision stores it nor train\.npz and test\.npz"):
        read("torchvision:CIFAR10", tmp_path, copy=tmp_path)


def test_an_unknown_set_is_a_usage_error_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are CIFAR10, CIFAR100"):
        read("torchvision:CIFAR12", tmp_path)


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", offline)
    with pytest.raises(MachineError, match=r"could not be downloaded \(no network\); .*--data FOLDER"):
        read("torchvision:CIFAR10", tmp_path)


@pytest.mark.parametrize("name", ["CIFAR10", "SVHN", "MNIST"])
def test_images_come_with_the_channels_last_whatever_the_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"CIFAR10": (5, 32, 32, 3), "SVHN": (5, 3, 32, 32), "MNIST": (5, 28, 28)}[name]

    class Half:
        data, labels = np.zeros(shape, np.uint8), np.arange(5)

        def __init__(self, **_: object) -> None:
            pass

    Half.__name__ = name
    monkeypatch.setattr(torchvision.datasets, name, Half)
    found = read(f"torchvision:{name}", tmp_path)
    side, channels = (28, 1) if name == "MNIST" else (32, 3)
    assert found.examples.images.shape == (10, side, side, channels)
    assert found.n_test == 5
    assert found.examples.labels.dtype == np.int64


@pytest.mark.parametrize("fault", ["shape", "subjects", "class_names"])
def test_two_files_that_do_not_fit_each_other_are_a_usage_error(fault: str, tmp_path: Path) -> None:
    names = ["cat", "dog", "owl"]
    write_npz(tmp_path / "train.npz", 6, class_names=np.array(names))
    more = {"subjects": np.arange(6)} if fault == "subjects" else {}
    if fault == "class_names":
        more = {"class_names": np.array(names[::-1])}
    write_npz(tmp_path / "test.npz", 6, size=5 if fault == "shape" else 4, **more)
    with pytest.raises(UsageError, match=fault):
        read("torchvision:CIFAR10", tmp_path, copy=tmp_path)


# ---- folders of images --------------------------------------------------------------------------------------------


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, count in (("dog", 2), ("cat", 3)):
        for index in range(count):
            write_image(tmp_path / "pets" / name / f"{index}.png")
    found = read("pets", tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.examples.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.examples.images.shape == (5, 5, 6, 3)
    assert found.examples.images[0, 0, 0].tolist() == [9, 8, 7]


def test_grey_images_stay_grey_and_a_test_folder_is_the_test_set(tmp_path: Path) -> None:
    for half, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            for index in range(count):
                write_image(tmp_path / half / name / f"{index}.png", mode="L")
    found = read(".", tmp_path)
    assert (found.examples.images.shape, found.n_test) == ((8, 5, 6, 1), 2)


@pytest.mark.parametrize("fault", ["size", "no image", "empty class", "one class"])
def test_a_folder_with_a_fault_is_a_usage_error_that_names_the_place(fault: str, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    write_image(folder / "cat" / "0.png")
    write_image(folder / "dog" / "0.png", size=(7, 7) if fault == "size" else (6, 5))
    if fault == "no image":
        (folder / "dog" / "0.png").write_text("no image")
    if fault in ("empty class", "one class"):
        (folder / "dog" / "0.png").unlink()
    if fault == "one class":
        (folder / "dog").rmdir()
    place = {"size": r"dog/0\.png is 7 x 7", "no image": r"dog/0\.png cannot be read", "empty class": "dog holds no"}
    with pytest.raises(UsageError, match=place.get(fault, "at least two classes")):
        read("pets", tmp_path)


# ---- splits of data with a test set, subjects, or a list of their own ----------------------------------------------


def of(n: int, n_test: int = 0, subjects: np.ndarray | None = None) -> Dataset:
    return Dataset(Examples(np.zeros((n, 1, 1, 1), np.uint8), np.arange(n) % 5, subjects), n_test)


RANDOM = Forget(kind="random", count=6)


def sizes(sets: dict[str, np.ndarray]) -> list[int]:
    return [len(sets[name]) for name in ("retain", "forget", "val", "test")]


def test_val_and_test_may_be_halves_of_the_datas_own_test_set() -> None:
    sets = split_indices(of(100, n_test=40), Split(val=20, test=20, val_from="test"), RANDOM)
    assert sizes(sets) == [54, 6, 20, 20]
    assert sets["val"].min() >= 60
    assert sets["test"].min() >= 60
    assert sets["retain"].max() < 60


def test_val_may_be_a_balanced_part_of_the_training_set() -> None:
    sets = split_indices(of(100, n_test=40), Split(val=10, balanced_val=True), RANDOM)
    assert sizes(sets) == [44, 6, 10, 40]
    assert np.bincount(sets["val"] % 5).tolist() == [2] * 5
    assert sets["val"].max() < 60
    with pytest.raises(UsageError, match="val = 11 is no multiple of 5 classes"):
        split_indices(of(100, n_test=40), Split(val=11, balanced_val=True), RANDOM)


def test_without_a_size_the_training_set_is_what_is_left() -> None:
    assert sizes(split_indices(of(100), Split(val=10, test=30), RANDOM)) == [54, 6, 10, 30]


def test_sibling_tracks_forget_disjoint_sets_of_one_training_set() -> None:
    siblings = [
        split_indices(of(100), Split(train=60, val=20), Forget(kind="random", count=6, forget_sets=3, index=index))
        for index in range(3)
    ]
    forgotten = [set(sets["forget"].tolist()) for sets in siblings]
    assert len(set.union(*forgotten)) == 18
    for sets in siblings:
        assert sizes(sets) == [54, 6, 20, 20]
        assert np.array_equal(sets["test"], siblings[0]["test"])


def test_forgotten_subjects_of_all_siblings_are_kept_out_of_val_and_test() -> None:
    subjects = np.arange(200) % 20
    siblings = [
        split_indices(
            of(200, subjects=subjects),
            Split(train=120, val=40),
            Forget(kind="subject", count=3, forget_sets=2, index=index),
        )
        for index in range(2)
    ]
    people = [set(subjects[sets["forget"]].tolist()) for sets in siblings]
    assert [len(each) for each in people] == [3, 3]
    assert not people[0] & people[1]
    for sets in siblings:
        for name in ("val", "test"):
            assert not (people[0] | people[1]) & set(subjects[sets[name]].tolist())
    assert not people[0] & set(subjects[siblings[0]["retain"]].tolist())
    assert people[1] <= set(subjects[siblings[0]["retain"]].tolist())  # the other track's are retained here


def test_subjects_need_data_that_name_them_and_enough_of_them() -> None:
    with pytest.raises(UsageError, match="data that say whose image each is"):
        split_indices(of(100), Split(train=60, val=20), Forget(kind="subject", count=3))
    with pytest.raises(UsageError, match="2 x 3 subjects are wanted and the training set has 4"):
        split_indices(
            of(100, subjects=np.arange(100) % 4),
            Split(train=60, val=20),
            Forget(kind="subject", count=3, forget_sets=2),
        )


def test_a_listed_forget_set_is_taken_as_it_is_listed(tmp_path: Path) -> None:
    split = Split(train=60, val=20)
    train = np.sort(np.concatenate([split_indices(of(100), split, RANDOM)[name] for name in ("retain", "forget")]))
    (tmp_path / "forget.txt").write_text("\n".join(map(str, train[[3, 5, 8]])))
    sets = split_indices(of(100), split, Forget(kind="indices", file="forget.txt"), folder=tmp_path)
    assert sets["forget"].tolist() == train[[3, 5, 8]].tolist()
    assert sizes(sets) == [57, 3, 20, 20]


NAMED = Dataset(Examples(np.zeros((60, 1, 1, 1), np.uint8), np.arange(60) % 3), 0, ("1", "2", "cafe\u0301 cat"))


@pytest.mark.parametrize(("label", "number"), [(2, 2), ("2", 1), ("caf\xe9 cat", 2), ("cafe\u0301 cat", 2)])
def test_a_class_to_forget_is_given_by_its_number_or_its_name(label: int | str, number: int) -> None:
    forget = Forget(kind="class", label=label)
    sets = split_indices(NAMED, Split(train=30, val=10), forget)
    assert set(NAMED.examples.labels[sets["forget"]]) == {number}
    assert number not in NAMED.examples.labels[np.concatenate([sets["retain"], sets["val"], sets["test"]])]
    assert f'"label":{json.dumps(label, ensure_ascii=False)}' in forget.model_dump_json()  # so goes the fingerprint


@pytest.mark.parametrize(
    ("dataset", "label", "problem"),
    [
        (NAMED, "dog", "no class is called 'dog'; there are 1, 2, cafe"),
        (NAMED, 3, "there is no class 3; classes are 0 to 2"),
        (NAMED, -1, "there is no class -1; classes are 0 to 2"),
        (of(60), "cat", "the data have no names of classes; give the number of 'cat' as label"),
    ],
)
def test_a_class_that_is_not_there_is_a_usage_error_that_lists_those_there_are(
    dataset: Dataset, label: int | str, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        split_indices(dataset, Split(train=30, val=10), Forget(kind="class", label=label))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no file"),
        ("", r"forget\.txt holds no index; write it with np\.savetxt"),
        ("\n0 x", r"line 2 of .*forget\.txt is '0 x', where one index per line must be"),
        ("3.000000000000000000e+00", r"line 1 .* is '3\.0.*', .* a whole number: .*np\.savetxt\(FILE, indices, '%d'\)"),
        ("1000", r"1000, in line 1 of .*forget\.txt, is the index of no training example"),
        ("9" * 99, "is the index of no training example"),
        ("1".encode("utf-16"), r"forget\.txt is no UTF-8 text"),
    ],
)
def test_a_list_with_a_fault_is_a_usage_error(content: str | bytes | None, problem: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "forget.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=problem):
        split_indices(of(100), Split(train=60, val=20), Forget(kind="indices", file="forget.txt"), folder=tmp_path)


# ---- CASIA-SURF, on a generated folder of the same layout -----------------------------------------------------------


def casia(folder: Path, people: int = 40, images: int = 5) -> Path:
    """Write a folder laid out as CASIA-SURF, of people aged 20 and more."""
    lines = []
    for person in range(people):
        name = f"CLKJ_AS{person:04d}"
        lines.append(f"{name} {20 + person} {'MF'[person % 2]}")
        for index in range(images):
            place = folder / "WBackground" / "day" / name / "real.rssdk" / "color" / f"{index}.jpg"
            write_image(place, size=(40, 30))
    (folder / "Age_Gender.txt").write_text("\n".join(lines))
    return folder


def test_faces_have_age_groups_and_subjects(tmp_path: Path) -> None:
    found = read("casia-surf", tmp_path, copy=casia(tmp_path / "surf"))
    assert found.examples.images.shape == (200, 32, 32, 3)
    assert np.bincount(found.examples.labels).tolist() == [20] * 10
    assert found.examples.subjects is not None
    assert len(np.unique(found.examples.subjects)) == 40
    assert found.class_names is not None
    assert found.class_names[0] == "20-24 years"
    forget = Forget(kind="subject", count=5, forget_sets=2)
    sets = split_indices(found, Split(train=0.8, val=0.1), forget)
    assert len(sets["retain"]) + len(sets["forget"]) == 160
    assert not set(found.examples.subjects[sets["forget"]]) & set(found.examples.subjects[sets["test"]])


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("nothing given", "ask its owners for it, then give the folder: --data FOLDER"),
        ("no ages", r"no file .*Age_Gender\.txt: one line per person"),
        ("no images", r"no images .*real\.rssdk/color/\*\.jpg; is .* CASIA-SURF"),
        ("unknown person", r"has no age of CLKJ_AS0003"),
        ("twice", "names a person twice"),
        ("bad line", r"line 5 of .*Age_Gender\.txt is 'CLKJ_AS0009 old M', where id, age"),
        ("bad image", r"0\.jpg cannot be read as an image"),
    ],
)
def test_a_missing_piece_of_casia_surf_is_named(fault: str, problem: str, tmp_path: Path) -> None:
    folder = casia(tmp_path / "surf", people=4, images=1)
    ages = folder / "Age_Gender.txt"
    if fault == "no ages":
        ages.unlink()
    if fault == "no images":
        (folder / "WBackground").rename(folder / "elsewhere")
    if fault == "unknown person":
        ages.write_text("\n".join(ages.read_text().splitlines()[:3]))
    if fault in ("twice", "bad line"):
        ages.write_text(ages.read_text() + ("\nCLKJ_AS0001 30 M" if fault == "twice" else "\nCLKJ_AS0009 old M"))
    if fault == "bad image":
        next(folder.rglob("0.jpg")).write_text("no image")
    with pytest.raises(UsageError, match=problem):
        read("casia-surf", tmp_path, copy=None if fault == "nothing given" else folder)


# ---- an architecture of one's own -----------------------------------------------------------------------------------

OWN = """
from torch import nn


def build(n_classes, channels):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes))
"""


def declared(folder: Path, tiny_file: Path, model: str) -> Path:
    """Write the tiny track's declaration with another model and as few models as will do."""
    text = tiny_file.read_text().replace('name = "small_resnet"\nwidth = 4', f'name = "{model}"')
    text = text.replace('name = "tiny"', 'name = "own"').replace("retrained = 16", "retrained = 4")
    (folder / "own.toml").write_text(text.replace("epochs = 8", "epochs = 1"))
    return folder / "own.toml"


def test_a_track_may_bring_an_architecture_of_its_own(
    harness: Callable[..., Result], tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own-home"))
    (tmp_path / "net.py").write_text(OWN)
    file = declared(tmp_path, tiny_file, "net.py:build")
    assert harness("prepare", file).exit_code == 0
    (tmp_path / "net.py").unlink()  # the track has a copy, and is known by its name
    submission = tmp_path / "foo.py"
    submission.write_text(
        "def unlearn(net, retain_loader, forget_loader, val_loader):\n    net[0].reset_parameters()\n"
    )
    result = harness("evaluate", submission, "--track", "own", "--runs", 2)
    assert result.exit_code == 0, result.output


def test_a_list_that_was_changed_after_the_preparation_is_noticed(
    harness: Callable[..., Result], tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own-home"))
    file, forget = declared(tmp_path, tiny_file, "small_resnet"), tmp_path / "forget.txt"
    file.write_text(file.read_text().replace('"random"\ncount = 20', '"indices"\nfile = "forget.txt"'))
    sets = split_indices(read("sklearn:digits", tmp_path), Split(train=120, val=80), Forget(kind="random", count=20))
    forget.write_text("\n".join(map(str, sets["forget"])))
    assert harness("prepare", file).exit_code == 0
    forget.write_text("\n\n".join(map(str, sets["forget"][::-1])))  # the same
    assert harness("prepare", file).exit_code == 0
    forget.write_text("\n".join(map(str, sets["forget"][1:])))
    changed = harness("prepare", file)
    assert (changed.exit_code, "forget.txt has changed since own was prepared; run: harness" in changed.output) == (
        2,
        True,
    )
    forget.unlink()
    assert "forget.txt is gone since own was prepared; bring it back, or use" in harness("prepare", file).output
    assert harness("prepare", "own").exit_code == 0


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("net.py:build", r"model: no file net\.py beside the declaration"),
        ("other.py:make", r"model: other\.py has no function make"),
        ("other.py:build", r"model: outputs are \(2, 3\) for 2 images of 10 classes"),
        ("resnet19", "model: no model is called 'resnet19'"),
    ],
)
def test_an_architecture_that_does_not_fit_is_a_usage_error(
    harness: Callable[..., Result],
    tmp_path: Path,
    tiny_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    problem: str,
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own-home"))
    (tmp_path / "other.py").write_text(OWN.replace("nn.Linear(4, n_classes)", "nn.Linear(4, 3)"))
    result = harness("prepare", declared(tmp_path, tiny_file, model))
    assert result.exit_code == 2
    assert re.search(problem, " ".join(result.output.split()))
