"""Folders of images as people have them: what a viewer shows is what a net sees, or one sentence says why not."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from data_prep.datasets import load_dataset
from data_prep.sources.dataset import Dataset, natural_order
from data_prep.sources.image_folder import read_image_folder
from data_prep.sources.picture import read_picture
from harness.errors import UsageError


def folder_of(root: Path, names: tuple[str, ...] = ("cat", "dog"), suffix: str = ".png", mode: str = "L") -> Path:
    """Make a folder of two pictures, 6 x 5 pixels, of each class."""
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(2):
            Image.new(mode, (6, 5), 40 if mode == "L" else (40, 50, 60)).save(root / name / f"{index}{suffix}")
    return root


def refused(folder: Path) -> str:
    with pytest.raises(UsageError) as error:
        read_image_folder(folder)
    return str(error.value)


# ---- one picture ----------------------------------------------------------------------------------------------------


def seen(image: Image.Image, file: Path, **options: object) -> np.ndarray:
    image.save(file, **options)  # type: ignore[arg-type]
    return np.asarray(read_picture(file).image)


def test_grey_of_16_bits_is_scaled_and_never_cut_off(tmp_path: Path) -> None:
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    for name in ("a.png", "a.tif", "a.pgm"):
        assert seen(deep, tmp_path / name).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_picture_of_32_bits_has_no_range_and_is_refused_by_name(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (6, 5)).save(tmp_path / "a.tif")
    with pytest.raises(UsageError, match=rf"a\.tif has 32 bits per pixel \(mode {mode}\)"):
        read_picture(tmp_path / "a.tif")


def test_a_photograph_is_upright(tmp_path: Path) -> None:
    turned = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    assert seen(turned, tmp_path / "a.png", exif=exif).tolist() == [[120, 0], [160, 40], [200, 80]]
    assert seen(Image.fromarray(np.asarray(turned, np.uint16) * 257), tmp_path / "b.png", exif=exif).shape == (3, 2)


def clear(mode: str) -> Image.Image:
    """Return a picture in which some is hidden: black below full transparency."""
    image = Image.new("LA" if mode == "LA" else "RGBA", (2, 1))
    image.putpixel((1, 0), (10, 255) if mode == "LA" else (10, 20, 30, 255))
    return image if mode != "P" else image.quantize(4, method=Image.Quantize.FASTOCTREE)


@pytest.mark.parametrize(("mode", "shown"), [("LA", [255, 10]), ("RGBA", [[255] * 3, [10, 20, 30]])])
def test_what_is_transparent_is_seen_over_white(mode: str, shown: list[object], tmp_path: Path) -> None:
    assert seen(clear(mode), tmp_path / "a.png").tolist() == [shown]
    assert read_picture(tmp_path / "a.png").is_transparent


def test_a_palette_may_be_transparent_and_colours_of_a_palette_are_colours(tmp_path: Path) -> None:
    assert seen(clear("P"), tmp_path / "a.png")[0, 0].tolist() == [255] * 3
    colours = Image.new("RGB", (2, 2), (200, 10, 30)).quantize(4)
    assert seen(colours, tmp_path / "b.gif")[0, 0].tolist() == [200, 10, 30]
    one_colour = PngImagePlugin.PngInfo()
    assert seen(Image.new("L", (2, 2), 7), tmp_path / "c.png", transparency=7, pnginfo=one_colour).tolist() == [
        [255, 255],
        [255, 255],
    ]


def test_black_and_white_is_0_and_255_and_ink_is_seen_as_colour(tmp_path: Path) -> None:
    assert seen(Image.fromarray(np.eye(2, dtype=bool)), tmp_path / "a.png").tolist() == [[255, 0], [0, 255]]
    red = seen(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "b.jpg")[0, 0]
    assert red.astype(int).tolist() == pytest.approx([254, 0, 0], abs=3)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_several_pictures_in_one_file_are_refused(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("L", (6, 5), value) for value in (10, 200)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(UsageError, match=rf"a\.{suffix} holds 2 pictures; save the one that is meant"):
        read_picture(tmp_path / f"a.{suffix}")


def test_of_a_cameras_file_with_previews_the_photograph_is_seen(tmp_path: Path) -> None:
    photograph, preview = Image.new("L", (16, 16), 90), Image.new("L", (8, 8), 10)
    photograph.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert np.asarray(read_picture(tmp_path / "a.jpg").image).shape == (16, 16)


def broken_in_the_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[33:45] = b"\xff" * 12
    file.write_bytes(content)


def too_large(file: Path) -> None:
    Image.new("1", (12_000, 12_000)).save(file)


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("nothing")


def be_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "it is empty"),
    "text": (lambda file: file.write_text("no image"), "it is none of PNG, JPEG"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-30]), "cannot be read as an image"),
    "broken": (broken_in_the_middle, "cannot be read as an image"),
    "a dead link": (link_to_nothing, "No such file"),
    "too large": (too_large, "exceeds limit"),
    "a folder": (be_a_folder, "Is a directory"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_picture_is_named_with_the_reason_and_what_to_do(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8)).save(file)
    change, reason = DAMAGES[damage]
    change(file)
    with pytest.raises(UsageError, match=r"a\.png cannot be read as an image \(.*; save it anew.*") as error:
        read_picture(file)
    assert reason in str(error.value)


def test_damaged_notes_and_profiles_do_not_matter(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8), (9, 9, 9)).save(file, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", icc_profile=profile)
    assert np.asarray(read_picture(file).image).shape == (8, 8, 3)


# ---- a folder of them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".PNG", ".jpe", ".jfif", ".gif", ".tiff", ".ppm", ""])
def test_pictures_are_found_whatever_they_are_called(suffix: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    for index, file in enumerate(sorted(folder.rglob("*.png"))):
        with Image.open(file) as image:
            image.save(file.with_name(f"more-{index}"), format=Image.registered_extensions().get(suffix.lower(), "PNG"))
        file.with_name(f"more-{index}").rename(file.with_name(f"more-{index}{suffix}"))
    assert len(read_image_folder(folder).examples) == 8


def test_one_coloured_picture_makes_all_of_them_coloured_in_train_and_test_alike(tmp_path: Path) -> None:
    folder_of(tmp_path / "train")
    folder_of(tmp_path / "test", mode="RGB")
    found = read_image_folder(tmp_path)
    assert (found.examples.images.shape, found.n_test) == ((8, 5, 6, 3), 4)
    assert found.examples.images[0, 0, 0].tolist() == [40, 40, 40]


def litter(folder: Path) -> None:
    """Leave beside and among the pictures what systems leave there."""
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r"):
        (folder / "cat" / name).write_bytes(b"\0\5\x16\7")
        (folder / name).write_bytes(b"\0\5\x16\7")
    for name in ("__MACOSX", "@eaDir", "lost+found", ".ipynb_checkpoints", "cat/.ipynb_checkpoints", "cat/@eaDir"):
        (folder / name / "cat").mkdir(parents=True)
        (folder / name / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
        (folder / name / "0.png").write_bytes(b"\0\5\x16\7")
    (folder / "README.txt").write_text("pictures")


def test_what_systems_leave_in_folders_is_passed_over(tmp_path: Path) -> None:
    litter(folder_of(tmp_path))
    found = read_image_folder(tmp_path)
    assert (len(found.examples), found.class_names, found.notes) == (4, ("cat", "dog"), ())


def test_other_files_are_passed_over_and_noted(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "cat" / "labels.csv").write_text("a,b")
    (tmp_path / "labels.csv").write_text("a,b")
    Image.new("L", (6, 5)).save(tmp_path / "loose.png")
    (note,) = read_image_folder(tmp_path).notes
    assert note.endswith("as no image of a class: 3 files, such as labels.csv")


def test_grey_among_colours_is_noted(tmp_path: Path) -> None:
    folder_of(tmp_path)
    Image.new("RGB", (6, 5), "red").save(tmp_path / "dog" / "0.png")
    (note,) = read_image_folder(tmp_path).notes
    assert note == "grey images among images in colour, which may tell a class: 3 of 4"


def test_the_picture_that_differs_in_size_from_most_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path)
    Image.new("L", (5, 6)).save(tmp_path / "cat" / "0.png")
    assert "0.png is 5 x 6 as a viewer shows it, 3 of 4 images are 6 x 5; bring all images to one size" in refused(
        tmp_path
    )


def test_a_picture_of_a_kind_that_is_not_read_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "cat" / "2.heic").write_bytes(b"\0\0\0\x24ftypheic")
    assert "2.heic cannot be read as an image" in refused(tmp_path)
    assert "save it anew as PNG or JPEG" in refused(tmp_path)


def test_transparent_pictures_are_noted(tmp_path: Path) -> None:
    folder_of(tmp_path)
    Image.new("LA", (6, 5), (9, 0)).save(tmp_path / "cat" / "0.png")
    assert read_image_folder(tmp_path).notes == ("images with transparent parts, which are seen over white: 1 of 4",)


def test_a_class_may_have_folders_within_and_links_that_go_round(tmp_path: Path) -> None:
    folder_of(tmp_path / "pets")
    folder_of(tmp_path / "pets" / "cat" / "more", ("images",))
    (tmp_path / "pets" / "cat" / "round").symlink_to(tmp_path / "pets" / "cat")
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (6, 5)).save(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "pets" / "owl").symlink_to(tmp_path / "elsewhere")
    found = read_image_folder(tmp_path / "pets")
    assert np.bincount(found.examples.labels).tolist() == [4, 2, 1]


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder_of(tmp_path, tuple(map(str, range(1, 13))))
    assert read_image_folder(tmp_path).class_names == tuple(map(str, range(1, 13)))
    assert natural_order(["b", "a10", "a2", "a", "a02", "é"]) == ("a", "a02", "a2", "a10", "b", "é")


def one_level_too_many(folder: Path) -> None:
    folder_of(folder / "pictures")


def train_and_val(folder: Path) -> None:
    folder_of(folder / "train")
    folder_of(folder / "val")


def a_val_set_too(folder: Path) -> None:
    train_and_val(folder)
    folder_of(folder / "Test")


def other_classes(folder: Path) -> None:
    folder_of(folder / "train")
    folder_of(folder / "test", ("cat", "dog", "owl"))


def an_empty_class(folder: Path) -> None:
    folder_of(folder)
    (folder / "owl").mkdir()


def flat(folder: Path) -> None:
    folder_of(folder, ("cat",))
    for file in (folder / "cat").iterdir():
        file.rename(folder / file.name)
    (folder / "cat").rmdir()


def a_name_of_bytes(folder: Path) -> None:
    folder_of(folder)
    os.mkdir(os.fsencode(folder) + b"/\xff")


LAYOUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "one level too many": (one_level_too_many, "holds one folder; if the classes are in there, give "),
    "train and val": (train_and_val, "is divided into train and val; name the two folders train and test"),
    "val beside train and test": (a_val_set_too, "val lies beside train and test; a val set is drawn"),
    "other classes in test": (other_classes, "the class owl is in "),
    "an empty class": (an_empty_class, "owl holds no images; fill it or remove it"),
    "no folders": (flat, "must hold a folder of images for each of at least two classes"),
    "a name of bytes": (a_name_of_bytes, "has a name that cannot be printed; rename it"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_not_understood_is_refused_with_what_to_do(layout: str, tmp_path: Path) -> None:
    make, sentence = LAYOUTS[layout]
    make(tmp_path)
    said = refused(tmp_path)
    assert sentence in said
    assert "\n" not in said


def test_a_vehicle_called_train_is_a_class(tmp_path: Path) -> None:
    folder_of(tmp_path, ("bus", "train"))
    assert read_image_folder(tmp_path).class_names == ("bus", "train")


def test_names_of_classes_may_have_spaces_and_any_letters(tmp_path: Path) -> None:
    folder_of(tmp_path, ("house cat", "кошка"))
    found: Dataset = load_dataset(".", folder=tmp_path, cache=tmp_path)
    assert found.class_names == ("house cat", "кошка")
