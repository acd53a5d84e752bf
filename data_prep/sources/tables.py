"""Tables: each row is an image of height F and width 1, for F columns, whose pixels are quantile codes from 0 to 255.

Codes keep the order of a column's values. Where it has no more than 256 different ones each has a code of its own, so
that trees notice nothing. They are of all rows, as the pixels of images are: to leave rows out changes no other row.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.sources.dataset import Dataset, natural_order
from harness.errors import UsageError
from harness.spelling import did_you_mean, did_you_mean_file
from harness.storage import read_arrays
from harness.tracks.track import Examples

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUNDLED", "holds_table", "quantile_codes", "read_bundled_table", "read_csv", "read_table_npz"]

BUNDLED = ("breast_cancer", "wine")  # that come with scikit-learn, of numbers alone
LEVELS = 256
MOST_NAMED = 10  # columns in a sentence


def read_csv(path: Path, label: str | None, categorical: Sequence[str]) -> Dataset:
    """Return the data set in a CSV file with a header. Raises UsageError that names what is unfit, and where."""
    frame = _frame(path)
    if label is None:
        raise UsageError(f"data.label has to name the column of classes in {path}: {_some(frame)}")
    if label not in frame:
        known = did_you_mean(label, map(str, frame))
        raise UsageError(f"data.label: {path} has no column {label!r}{known}, but {_some(frame)}")
    return _dataset(path.name, frame.drop(columns=label), frame[label], categorical)


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_csv(path, skipinitialspace=True, low_memory=False)
    except FileNotFoundError:
        raise UsageError(f"no data file {path}{did_you_mean_file(path, {path.suffix})}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a CSV ({' '.join(str(error).split())})") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first values for names of rows
        raise UsageError(f"{path}: rows have more values than the header has names; name every column")
    return frame


def holds_table(path: Path) -> bool:
    """Whether a file is an .npz with an array `table`; False if it cannot be read, which reading it says better."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "table.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_table_npz(path: Path, categorical: Sequence[str]) -> Dataset:
    """Return the data set in an .npz with `table` (n, F), `labels` (n,) and perhaps `columns` (F,), their names.

    Without the latter columns are called by their numbers from 0. Raises UsageError if the arrays are unfit.
    """
    import pandas as pd

    try:
        arrays = {name: _texts(array) for name, array in read_arrays(path).items()}
        table, labels = arrays["table"], arrays["labels"]
    except KeyError:
        raise UsageError(f"{path} has a `table` and no `labels`; store the class of every row") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no .npz with `table` and `labels` ({error})") from None
    if table.ndim != 2 or labels.shape != (len(table),):
        shapes = f"{table.shape} and {labels.shape}"
        raise UsageError(f"{path}: table and labels must be (rows, columns) and (rows,), not {shapes}")
    columns = [str(name) for name in arrays.get("columns", range(table.shape[1]))]
    if len(columns) != table.shape[1]:
        raise UsageError(f"{path}: columns has {len(columns)} names, and the table {table.shape[1]} columns")
    return _dataset(path.name, pd.DataFrame(table, columns=columns), pd.Series(labels, name="labels"), categorical)


def _texts(array: np.ndarray) -> np.ndarray:
    """Return an array of byte strings as texts, any other as it is."""
    return np.char.decode(array, "utf-8", errors="replace") if array.dtype.kind == "S" else array


def read_bundled_table(name: str) -> Dataset:
    """Return one of the BUNDLED tables (UCI)."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    names = tuple(map(str, found.target_names))
    return Dataset(_examples([quantile_codes(column) for column in found.data.T], found.target), class_names=names)


# ---- rows as examples -----------------------------------------------------------------------------------------------


def _dataset(place: str, frame: pd.DataFrame, labels: pd.Series, categorical: Sequence[str]) -> Dataset:
    if frame.empty:
        raise UsageError(f"{place}: it has {len(frame)} rows and {frame.shape[1]} columns besides the label")
    if twice := sorted({str(name) for name in frame.columns[frame.columns.duplicated()]}):
        raise UsageError(f"{place}: two columns are called {twice[0]!r}; give each a name of its own")
    for name in categorical:
        if name not in frame:
            known = did_you_mean(name, map(str, frame))
            raise UsageError(f"data.categorical: {place} has no column {name!r}{known}, but {_some(frame)}")
    names, numbers = _classes(place, labels)
    codes = [_codes(place, frame[name], is_categorical=name in categorical) for name in frame]
    return Dataset(_examples(codes, numbers), class_names=names)


def _examples(codes: Sequence[np.ndarray], labels: np.ndarray) -> Examples:
    """Return examples of a table; codes: of each column, (n,) uint8."""
    return Examples(np.stack(codes, axis=1)[:, :, None, None], labels.astype(np.int64))


def _classes(place: str, labels: pd.Series) -> tuple[tuple[str, ...] | None, np.ndarray]:
    """Return the names of the classes, None where these are their numbers, and the numbers (n,)."""
    _check_complete(place, labels)
    if labels.dtype.kind == "f":
        _check_whole(place, labels)
        labels = labels.astype(np.int64)
    texts = [str(label) for label in labels]
    names = natural_order(set(texts))
    if len(names) < 2:
        raise UsageError(f"{place}: {labels.name!r} names one class only; a track needs two")
    number = {name: place for place, name in enumerate(names)}
    are_numbers = names == tuple(map(str, range(len(names))))
    return None if are_numbers else names, np.array([number[text] for text in texts])


def _check_whole(place: str, labels: pd.Series) -> None:
    for label in labels:
        if not float(label).is_integer():
            raise UsageError(f"{place}: {labels.name!r} holds {label:g}, where the label must name a class")


def _check_complete(place: str, column: pd.Series) -> None:
    """Raise UsageError if values are missing: what stands for them is for whoever knows the table."""
    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise UsageError(
            f"{place}: {column.name!r} has no value in {len(missing)} of {len(column)} rows, the first of them row "
            f"{missing[0] + 1}; fill them in, or leave those rows out"
        )


def _codes(place: str, column: pd.Series, *, is_categorical: bool) -> np.ndarray:
    """Return the codes (n,) of a column; names are in natural order, which is 1, 2, 10."""
    _check_complete(place, column)
    if not is_categorical:
        return quantile_codes(_numbers(place, column))
    texts = [str(value) for value in column]
    names = natural_order(set(texts))
    if len(names) > LEVELS:
        raise UsageError(f"{place}: {column.name!r} has {len(names)} categories; {LEVELS} are the most: join rare ones")
    number = {name: rank for rank, name in enumerate(names)}
    return quantile_codes(np.array([number[text] for text in texts]))


def _numbers(place: str, column: pd.Series) -> np.ndarray:
    """Return the values (n,) of a column of numbers. Raises UsageError that names one that is none, or not finite."""
    import pandas as pd

    numbers: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    unfit = np.flatnonzero(~np.isfinite(numbers))
    if not len(unfit):
        return numbers
    value = column.iloc[unfit[0]]
    if isinstance(value, str):
        raise UsageError(
            f"{place}: {column.name!r} holds {value!r}, which is no number; if it names categories: "
            f"categorical = [{json.dumps(column.name, ensure_ascii=False)}] below [data]"
        )
    raise UsageError(f"{place}: {column.name!r} is {value} in row {unfit[0] + 1}; leave that row out")


def quantile_codes(values: np.ndarray) -> np.ndarray:
    """Return codes (n,) uint8 of finite values (n,), in the same order and equal where these are.

    Up to 256 different values are spread evenly over 0 to 255. Of more, each code stands for about as many rows.
    """
    different, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(different) <= LEVELS:
        levels = np.arange(len(different)) * (LEVELS - 1) // max(1, len(different) - 1)
    else:
        levels = np.floor(LEVELS * (counts.cumsum() - counts / 2) / len(values))
    codes: np.ndarray = levels.astype(np.uint8)[which]
    return codes


def _some(frame: pd.DataFrame) -> str:
    names = [str(name) for name in frame]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(repr, names[:MOST_NAMED])) + more
