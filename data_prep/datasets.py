"""Data sets by the name a declaration gives them."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.sources.arrays import read_npz
from data_prep.sources.casia_surf import read_casia_surf
from data_prep.sources.dataset import Dataset
from data_prep.sources.digits import read_digits
from data_prep.sources.image_folder import read_image_folder
from data_prep.sources.tables import BUNDLED, holds_table, read_bundled_table, read_csv, read_table_npz
from data_prep.sources.torchvision_sets import read_torchvision
from harness.errors import UsageError

__all__ = ["KINDS", "is_path", "load_dataset", "place_of"]

KINDS = (
    "sklearn:digits, torchvision:NAME, casia-surf, a path to an .npz, or a folder with one folder per class; of tables "
    f"{', '.join(f'sklearn:{name}' for name in BUNDLED)}, or a path to a .csv or an .npz"
)


def load_dataset(
    source: str,
    *,
    folder: Path,
    cache: Path,
    copy: Path | None = None,
    downscale: int = 1,
    label: str | None = None,
    categorical: Sequence[str] = (),
) -> Dataset:
    """Return all examples of a source, one of KINDS.

    folder: where a relative path starts. cache: where downloads are kept. copy: a folder that has the data already.
    downscale: how many pixels by how many become one. label, categorical: columns of a table, as `Data` has them.
    Raises UsageError if there is no such source, it takes no copy, its data are unfit, or its images do not divide into
    such squares.
    """
    if copy is not None and source.startswith("sklearn:"):
        raise UsageError(f"{source} comes with scikit-learn; leave out --data")
    place = place_of(source, folder=folder, copy=copy)
    if place.suffix.lower() == ".csv":
        return read_csv(place, label, categorical).downscaled(downscale)
    if label is not None:
        raise UsageError(f"data.label names a column of a .csv, and {source} is none; leave it out")
    if place.suffix.lower() == ".npz" and holds_table(place):
        return read_table_npz(place, categorical).downscaled(downscale)
    if categorical:
        raise UsageError(f"data.categorical names columns of a .csv or an .npz with a table; {source} is neither")
    return _read(source, place, cache, copy).downscaled(downscale)


def _read(source: str, place: Path, cache: Path, copy: Path | None) -> Dataset:
    """Return the data set as its source has it; of the tables those that are bundled."""
    family, _, name = source.partition(":")
    if family == "sklearn" and name in BUNDLED:
        return read_bundled_table(name)
    if source == "sklearn:digits":
        return read_digits()
    if family == "torchvision" and name:
        return read_torchvision(name, cache=cache, copy=copy)
    if source == "casia-surf":
        return read_casia_surf(copy)
    if place.suffix.lower() == ".npz":
        return read_npz(place)
    if source and place.is_dir():
        return read_image_folder(place)
    raise UsageError(f"no data source {source!r}{_seen(source, place)}; use {KINDS}")


def is_path(source: str) -> bool:
    """Whether a source is a file or a folder of one's own."""
    return source != "casia-surf" and not source.startswith(("sklearn:", "torchvision:"))


def place_of(source: str, *, folder: Path, copy: Path | None) -> Path:
    """Return where a source that is a path leads, which starts at the folder.

    A copy is a folder that holds it instead, under the last name of the path.
    """
    path = Path(source).expanduser()
    return folder / path if copy is None else copy / path.name


def _seen(source: str, place: Path) -> str:
    """Return what lies where a path that is no source leads, in brackets; nothing for what is no path."""
    if not source or ":" in source:
        return ""
    return f" ({place} is {'no .npz, no .csv and no folder' if place.exists() else 'not there'})"
