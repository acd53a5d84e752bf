"""Packs through the command line: tracks without their images, completed with a user's own copy, or refused whole."""

import io
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from sklearn.datasets import load_digits

from data_prep.own_data import own_data
from harness.cli import outlook
from harness.cli.main import cli
from harness.errors import UsageError
from harness.storage import read_arrays, write_arrays
from harness.tracks import catalogue, track_names
from harness.tracks.archive import import_track, is_pack
from harness.tracks.declaration import parse_declaration
from harness.tracks.hashes import fingerprint
from harness.tracks.pack import with_pixels, without_pixels
from harness.tracks.track import load_track
from tests.conftest import TINY, Once

Arrays = dict[str, np.ndarray]

IDENTITY = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"
SMALL = {
    'name = "tiny"': 'name = "small"',
    'source = "sklearn:digits"': 'source = "small.npz"',
    "epochs = 8": "epochs = 1",
    "retrained = 16": "retrained = 2",
    "runs = 4": "runs = 2",
}


def declared() -> str:
    """Return the declaration of the small track."""
    text = TINY
    for old, new in SMALL.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def data() -> Arrays:
    """The first 300 digits; classes have names."""
    digits = load_digits()
    names = np.array([f"digit {label}" for label in range(10)])
    return {
        "images": digits.images[:300, ..., None].astype(np.uint8),
        "labels": digits.target[:300],
        "class_names": names,
    }


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of a track's files by relative name, without its page."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "track.html"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def call(home: Path, *arguments: object) -> Result:
    """The command line in a home of its own."""
    return CliRunner(env={"HARNESS_HOME": str(home)}).invoke(
        cli, [str(word) for word in arguments], prog_name="harness"
    )


@pytest.fixture(scope="module")
def made(once: Once) -> Path:
    """What whoever made the pack has: data, declaration, home, a score, and the track in four files."""

    def fill(folder: Path) -> None:
        write_arrays(folder / "small.npz", data())
        (folder / "small.toml").write_text(declared())
        (folder / "foo.py").write_text(IDENTITY)
        for name, options in {
            "private.pack": ("--export-private", "--without-images"),
            "public.pack": ("--export", "--without-images"),
            "private.track": ("--export-private",),
            "public.track": ("--export",),
        }.items():
            option, *others = options
            result = call(
                folder / "home", "prepare", folder / "small.toml", option, folder / name, *others, "--jobs", 1
            )
            assert result.exit_code == 0, result.output

    return once("packed", fill)


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """What a user has: the declaration beside a copy of the data, and the pack; no home yet."""
    for name in ("small.npz", "small.toml", "private.pack", "foo.py"):
        shutil.copy(made / name, tmp_path / name)
    return tmp_path


def imported(here: Path, *arguments: object) -> Result:
    return call(here / "home", "prepare", here / "small.toml", "--import", here / "private.pack", *arguments)


def nothing_but_locks(tracks: Path) -> bool:
    return not tracks.exists() or all(one.suffix == ".lock" for one in tracks.iterdir())


def refused(result: Result, home: Path) -> str:
    """Return the one sentence of a usage error that left nothing behind but a lock."""
    assert result.exit_code == 2, result.output
    tracks = home / "tracks"
    assert nothing_but_locks(tracks)
    (line,) = result.output.splitlines()
    return line


# ---- completed ----------------------------------------------------------------------------------------------------


def test_a_pack_of_a_poisoned_track_is_completed_from_clean_images(here: Path, tmp_path: Path) -> None:
    trojan = "[trojan]\ntarget = 'digit 3'\nsize = 2\nmargin = 1\nvalue = 16\n"
    (here / "small.toml").write_text(declared() + trojan)
    file = here / "private.pack"
    made = call(
        tmp_path / "there", "prepare", here / "small.toml", "--export-private", file, "--without-images", "--jobs", 1
    )
    assert made.exit_code == 0, made.output
    result = imported(here)
    assert result.exit_code == 0, result.output
    there, found = (load_track(home / "tracks" / "small") for home in (tmp_path / "there", here / "home"))
    assert files_of(found.folder) == files_of(there.folder)
    assert (found.examples("forget").images[:, 5:7, 5:7] == 16).all()


def test_a_pack_is_completed_to_the_same_bytes_and_stored_scores_hold(made: Path, here: Path, tmp_path: Path) -> None:
    result = imported(here)
    assert result.exit_code == 0, result.output
    assert "unpacked small to" in result.output
    there, found = (load_track(home / "tracks" / "small") for home in (made / "home", here / "home"))
    assert files_of(found.folder) == files_of(there.folder)
    assert found.manifest == there.manifest

    shutil.copytree(made / "home" / "tracks", tmp_path / "there" / "tracks")
    first = score(tmp_path / "there", here)
    shutil.copytree(tmp_path / "there" / "results", here / "home" / "results", dirs_exist_ok=True)
    second = score(here / "home", here)
    assert first == second
    assert first["runs_seal"]  # no run was made again


def score(home: Path, here: Path) -> dict[str, Any]:
    """Return what an evaluation writes, but for what is measured anew."""
    arguments = ("evaluate", here / "foo.py", "--track", "small", "--runs", 2, "--json", here / "score.json")
    result = call(home, *arguments)
    assert result.exit_code == 0, result.output
    return dict(json.loads((here / "score.json").read_text()))


def test_a_pack_has_no_pixels_and_a_public_one_nothing_of_the_private_part(made: Path) -> None:
    track = load_track(made / "home" / "tracks" / "small")
    for private in (True, False):
        with zipfile.ZipFile(made / ("private.pack" if private else "public.pack")) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        together = b"".join(contents.values())
        for name in ("retain", "forget", "val", "test"):
            assert not any(image.tobytes() in together for image in track.examples(name).images)
        assert any(name.startswith("private/") for name in contents) == private
        with np.load(io.BytesIO(contents["pack.npz"])) as arrays:
            listed = dict(arrays)
        assert ("test" in listed) == private
        assert all(
            np.array_equal(read_arrays(track.private / "split.npz")[name], listed[name]) for name in ("forget", "val")
        )
    sizes = {name: (made / name).stat().st_size for name in ("private.pack", "private.track")}
    assert sizes["private.pack"] < sizes["private.track"]


def test_a_public_pack_is_completed_to_the_public_part(made: Path, here: Path) -> None:
    result = call(here / "home", "prepare", here / "small.toml", "--import", made / "public.pack")
    assert result.exit_code == 0, result.output
    call(here / "other", "prepare", "small", "--import", made / "public.track")
    assert files_of(here / "home" / "tracks" / "small") == files_of(here / "other" / "tracks" / "small")
    again = call(here / "home", "prepare", "small", "--export", here / "again.pack", "--without-images")
    assert again.exit_code == 2
    assert "only the public part of small is here" in again.output
    assert not [path for path in here.iterdir() if "again" in path.name]
    whole = imported(here)  # beside the public part
    assert whole.exit_code == 2
    assert "holds all of it, not the public part alone; to replace it: harness prepare small --import" in whole.output
    assert imported(here, "--force").exit_code == 0
    assert imported(here).exit_code == 0  # it is there already


def test_by_its_name_a_pack_takes_data_from_the_current_folder_or_one_that_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    arguments = ("prepare", "small", "--import", here / "private.pack")
    said = refused(call(here / "home", *arguments), here / "home")
    assert f"the images of small are those of small.npz, which is not in {here / 'elsewhere'}; name the folder" in said
    assert call(here / "home", *arguments, "--data", here).exit_code == 0
    monkeypatch.chdir(here)
    assert call(here / "other", *arguments).exit_code == 0


def test_a_folder_that_is_named_holds_the_data_without_a_pack_too(made: Path, here: Path) -> None:
    (here / "elsewhere").mkdir()
    arrays = data()
    write_arrays(here / "elsewhere" / "small.npz", arrays | {"images": arrays["images"] ^ 1})
    said = refused(imported(here, "--data", here / "elsewhere"), here / "home")
    assert "leave out --import to train all models" in said
    result = call(here / "home", "prepare", here / "small.toml", "--data", here / "elsewhere", "--jobs", 1)
    assert result.exit_code == 0, result.output
    theirs, ours = (load_track(folder / "home" / "tracks" / "small").examples("retain") for folder in (made, here))
    assert np.array_equal(ours.images, theirs.images ^ 1)


def test_data_that_come_with_scikit_learn_are_in_no_folder(here: Path) -> None:
    (here / "tiny.toml").write_text(TINY)
    for options in ((), ("--estimate",)):
        result = call(here / "home", "prepare", here / "tiny.toml", "--data", here, *options)
        assert (result.exit_code, nothing_but_locks(here / "home" / "tracks")) == (2, True), result.output
        assert "sklearn:digits comes with scikit-learn; leave out --data" in result.output


def test_how_a_copy_lies_in_memory_does_not_matter(made: Path, here: Path) -> None:
    arrays = data()
    write_arrays(here / "small.npz", arrays | {"images": np.asfortranarray(arrays["images"])})
    track = import_track(here / "private.pack", here / "tracks", own=partial(own_data, folder=here, cache=here))
    assert files_of(track.folder) == files_of(made / "home" / "tracks" / "small")


@pytest.mark.parametrize("order", ["C", "F"])
def test_pixels_are_put_back_in_the_order_in_which_they_were_stored(order: Literal["C", "F"], tmp_path: Path) -> None:
    images = np.arange(5 * 4 * 3 * 2, dtype=np.uint8).reshape(5, 4, 3, 2)
    write_arrays(tmp_path / "retain.npz", {"images": np.array(images, order=order), "labels": np.arange(5)})
    content = (tmp_path / "retain.npz").read_bytes()
    assert with_pixels(without_pixels(content), images) == content


def test_data_of_torchvision_are_read_as_the_declaration_says(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for half in ("train", "test"):
        images = generator.integers(0, 256, (10, 4, 4, 3)).astype(np.uint8)
        write_arrays(tmp_path / f"{half}.npz", {"images": images, "labels": np.arange(10)})
    declaration = parse_declaration(declared().replace('"small.npz"', '"torchvision:CIFAR10"\ndownscale = 2'))
    track: Any = SimpleNamespace(name="small", declaration=declaration, manifest=SimpleNamespace(class_names=None))
    examples = own_data(track, folder=Path(), cache=tmp_path, data=tmp_path)
    assert examples.images.shape == (20, 2, 2, 3)


# ---- refused ------------------------------------------------------------------------------------------------------


def _with(**changes: Callable[[np.ndarray], np.ndarray | list[str]]) -> Callable[[Path], None]:
    """Return what changes some arrays of the user's data."""

    def change(here: Path) -> None:
        arrays = data()
        write_arrays(here / "small.npz", arrays | {name: np.array(by(arrays[name])) for name, by in changes.items()})

    return change


def _turned(labels: np.ndarray) -> np.ndarray:
    turned = labels.copy()
    turned[[10, 20]] = (labels[[10, 20]] + 1) % 10
    return turned


def _reversed(here: Path) -> None:
    write_arrays(here / "small.npz", {name: array[::-1] for name, array in data().items() if name != "class_names"})


def _one_pixel(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images[:10], images[10:11] ^ 1, images[11:]])


OTHER_DATA = {
    "other pixels": (_with(images=lambda images: images ^ 1), r"300 of 300 images have other pixels, .* numbered 0;"),
    "one image": (_with(images=_one_pixel), "1 of 300 images have other pixels, such as that numbered 10;"),
    "another order": (_reversed, "the images are in another order;"),
    "another size": (_with(images=lambda images: images[:, :4]), "images are 4x8x1 here and 8x8x1 in the pack;"),
    "other labels": (
        _with(labels=_turned),
        r"labels differ in the \w+ set, such as that of the image numbered \d+, which",
    ),
    "other classes": (
        _with(class_names=lambda names: [f"the {name}" for name in names]),
        "the classes are called the digit 0, the digit 1, .* here and digit 0, digit 1,",
    ),
}


@pytest.mark.parametrize("kind", OTHER_DATA)
def test_other_data_are_refused_in_one_sentence_and_nothing_is_left(kind: str, here: Path) -> None:
    change, expected = OTHER_DATA[kind]
    change(here)
    said = refused(imported(here), here / "home")
    assert re.search(rf"private\.pack is a pack of other images: (\d )?{expected}", said), said
    assert "; give those it was made from, with --data FOLDER, or leave out --import to train all models" in said


def test_too_few_images_are_refused(here: Path) -> None:
    write_arrays(here / "small.npz", {name: array[:200] for name, array in data().items()})
    said = refused(imported(here), here / "home")
    assert "there are 200 images here, and the pack needs the one numbered " in said


def test_more_images_than_the_track_has_and_no_names_of_classes_are_fine(here: Path) -> None:
    arrays = data()
    more = {name: np.concatenate([arrays[name], arrays[name]]) for name in ("images", "labels")}
    write_arrays(here / "small.npz", more)
    track = import_track(here / "private.pack", here / "tracks", own=partial(own_data, folder=here, cache=here))
    assert track.manifest.class_names == list(arrays["class_names"])


def _cut(here: Path) -> None:
    content = (here / "private.pack").read_bytes()
    (here / "private.pack").write_bytes(content[: len(content) // 2])


def _changed(here: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    shutil.copy(here / "private.pack", here / "old.pack")
    with zipfile.ZipFile(here / "old.pack") as old, zipfile.ZipFile(here / "private.pack", "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name == member else old.read(name))


def _of_version_2(here: Path) -> None:
    def change(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as arrays:
            np.savez(file := io.BytesIO(), **{**arrays, "format": np.array(2)})
        return file.getvalue()

    _changed(here, "pack.npz", change)


def _of_a_later_manifest(here: Path) -> None:
    _changed(here, "manifest.json", lambda content: content.replace(b"{", b'{"later": 1,', 1))


def _of_another_declaration(here: Path) -> None:
    (here / "small.toml").write_text(declared().replace("width = 4", "width = 5"))


OTHER_FILES = {
    "truncated": (_cut, "private.pack is no exported track (File is not a zip file); make one with harness prepare"),
    "another version": (_of_version_2, "is of another version of the harness (format 2, this one has 1); have it made"),
    "a later version": (_of_a_later_manifest, "is no exported track (later: unknown key); make one with"),
    "another declaration": (_of_another_declaration, "was made from another declaration of small than the one here; "),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_file_is_refused_in_one_sentence_and_nothing_is_left(kind: str, here: Path) -> None:
    change, expected = OTHER_FILES[kind]
    change(here)
    assert expected in refused(imported(here), here / "home")


def test_a_pack_whose_records_were_changed_is_damaged_and_nothing_is_left(here: Path) -> None:
    _changed(here, "private/originals.npz", lambda content: content[:-300] + bytes(300))
    result = imported(here)
    assert result.exit_code == 4
    assert r"private.pack is damaged (private/*.npz: not what its hashes say); get it once more" in result.output
    assert nothing_but_locks(here / "home" / "tracks")


def test_a_pack_and_a_whole_track_are_not_taken_for_each_other(made: Path, here: Path) -> None:
    whole = call(here / "home", "prepare", "small", "--import", made / "private.track", "--data", here)
    assert "private.track holds its images; leave out --data" in refused(whole, here / "home")
    assert (is_pack(made / "private.track"), is_pack(made / "public.pack")) == (False, True)
    with pytest.raises(UsageError, match=r"private\.pack is a pack, a track without its images; add your own: harness"):
        import_track(here / "private.pack", here / "tracks")
    assert list((here / "tracks").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--without-images",), "--without-images goes with --export FILE or --export-private FILE"),
        (
            ("--without-images", "--import", "private.pack"),
            "--import goes with no other option but --force, --data and --for-tuning",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: tuple[str, ...], expected: str, here: Path) -> None:
    assert expected in refused(call(here / "home", "prepare", here / "small.toml", *options), here / "home")


# ---- packs that ship ----------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A harness that comes with the small track as a pack; its data lie beside the declaration."""
    folder = here / "data_prep"
    for name, place in {"small.toml": "tracks", "small.npz": "tracks", "private.pack": "prepared"}.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(made / name, folder / place / name)
    (folder / "prepared" / "private.pack").rename(folder / "prepared" / "small.pack")
    for module in (catalogue, track_names):
        monkeypatch.setattr(module, "DATA_PREP", folder)
    return folder


def test_a_pack_that_ships_waits_for_nobody_who_prepares_the_track(shipped: Path, here: Path) -> None:
    (here / "home" / "tracks").mkdir(parents=True)
    with FileLock(here / "home" / "tracks" / ".small.lock"):
        result = call(here / "home", "prepare", "small")
    assert "another process is preparing" in refused(result, here / "home")


def test_a_pack_that_ships_is_completed_instead_of_training(made: Path, shipped: Path, here: Path) -> None:
    result = call(here / "home", "prepare", "small")
    assert result.exit_code == 0, result.output
    assert "small has the models of the pack that ships" in result.output
    assert files_of(here / "home" / "tracks" / "small") == files_of(made / "home" / "tracks" / "small")


def test_where_images_are_others_than_those_of_a_pack_that_ships_models_are_trained(shipped: Path, here: Path) -> None:
    arrays = data()
    write_arrays(shipped / "tracks" / "small.npz", arrays | {"images": arrays["images"] ^ 1})
    result = call(here / "home", "prepare", "small", "--jobs", 1)
    assert result.exit_code == 0, result.output
    differing = "300 of 300 images have other pixels, such as that numbered 0"
    said = f"the pack of small that ships is of other images: {differing}; all models are trained"
    assert said in result.output
    assert "small is ready" in result.output


def test_every_pack_that_ships_is_of_its_declaration() -> None:
    for file in (track_names.DATA_PREP / "prepared").glob("*.pack"):
        with zipfile.ZipFile(file) as archive:
            text = archive.read("track.toml").decode()
        (declared,) = catalogue.find_tracks(file.stem, Path("nowhere"))
        assert declared.pack == file
        assert parse_declaration(text).is_same_track(declared.declaration)


# ---- where to have one --------------------------------------------------------------------------------------------


def test_an_estimate_of_a_long_preparation_says_that_a_pack_may_be_had(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "LONG", 0)
    file = here / "small.toml"
    result = call(here / "home", "prepare", file, "--estimate", "--jobs", 1)
    assert "a pack takes minutes instead (ask whoever has prepared it): harness prepare " in result.output


@pytest.mark.parametrize(("seconds", "expected"), [(1, None), (800, "13 minutes"), (9000, "2.5 hours")])
def test_a_long_preparation_says_once_how_long_it_takes_and_where_a_pack_is(
    seconds: float, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    declaration = parse_declaration(f'pack = "https://a.org"\n{declared()}')
    said: list[str] = []
    watch = outlook.Outlook(catalogue.Declared(declaration, Path("small.toml")), said.append)
    for done, passed in ((100, 0.0), (100, 0.01), (200, seconds / 8), (300, seconds / 4)):  # resumed at a tenth
        monkeypatch.setattr(time, "monotonic", lambda passed=passed: 5.0 + passed)
        watch(done, 1000)
    instead = "a pack takes minutes instead (https://a.org): harness prepare small.toml --import FILE"
    told = f"training the models of small takes about {expected}; {instead}"
    assert said == ([] if expected is None else [told])


def test_where_a_pack_is_can_be_said_once_it_is_there(made: Path) -> None:
    plain, told = (parse_declaration(text) for text in (declared(), f'pack = "https://a.org"\n{declared()}'))
    assert fingerprint(plain, {}) == fingerprint(told, {})
    file = made / "told.toml"
    file.write_text(f'pack = "https://a.org"\n{declared()}')
    assert catalogue.open_track(str(file), made / "home" / "tracks").name == "small"
