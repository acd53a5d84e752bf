"""CASIA-SURF's faces with age groups, from the folder its owners give out under their licence; nothing is downloaded.

    FOLDER/Age_Gender.txt                                       one line per person: id age gender
    FOLDER/WBackground/*/PERSON/real.rssdk/color/*.jpg          that person's images

As in the 2023 challenge (google-deepmind/unlearning_evaluation, surf.py): the class is the age in 10 equal groups from
the youngest to the oldest, images are brought to 32x32 pixels, a person is a subject. Participants saw pixels 0..255.

Source of the data: Zhang et al., "CASIA-SURF" (T-BIOM 2020, arXiv 1908.10654), for research only: ask its owners.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.sources.dataset import Dataset
from data_prep.sources.picture import read_picture
from harness.errors import UsageError
from harness.tracks.track import Examples

__all__ = ["read_casia_surf"]

N_AGE_GROUPS = 10
SIDE = 32  # pixels
AGES, IMAGES = "Age_Gender.txt", "WBackground"


def read_casia_surf(folder: Path | None) -> Dataset:
    """Return the data set in a folder. Raises UsageError naming the piece that is missing or unfit."""
    if folder is None:
        raise UsageError("casia-surf is not for download: ask its owners for it, then give the folder: --data FOLDER")
    ages = _ages(folder / AGES)
    files = sorted((folder / IMAGES).glob("*/*/real.rssdk/color/*.jpg"))
    if not files:
        raise UsageError(f"no images {folder / IMAGES}/*/PERSON/real.rssdk/color/*.jpg; is {folder} CASIA-SURF?")
    people = [file.parents[2].name for file in files]
    if unknown := sorted(set(people) - set(ages)):
        raise UsageError(f"{folder / AGES} has no age of {unknown[0]}, whose images are in {folder / IMAGES}")
    bounds = np.linspace(min(ages.values()), max(ages.values()) + 1, N_AGE_GROUPS + 1)
    groups = {person: int(np.digitize(age, bounds)) - 1 for person, age in ages.items()}
    pixels = np.stack([_pixels(file) for file in files])
    labels = np.array([groups[person] for person in people], np.int64)
    names = tuple(f"{low:.0f}-{high:.0f} years" for low, high in pairwise(bounds))
    return Dataset(Examples(pixels, labels, np.array(people)), class_names=names)


def _ages(file: Path) -> dict[str, int]:
    """Return every person's age in years."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UsageError(f"no file {file}: one line per person, id age gender") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} must hold lines of id, age and gender ({error})") from None
    ages: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            person, age, _ = line.split()
            years = int(age)
        except ValueError:
            raise UsageError(
                f"line {number} of {file} is {line.strip()!r}, where id, age (a whole number) and gender must be; "
                "mend it, or remove it with the person's images"
            ) from None
        if person in ages:
            raise UsageError(f"{file} names a person twice: {person}, again in line {number}; keep one of the lines")
        ages[person] = years
    return ages


def _pixels(file: Path) -> np.ndarray:
    seen = read_picture(file).image.convert("RGB")
    return np.asarray(seen.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
