"""Tables as data: rows are images of quantile codes, and what is no table is said in a sentence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from data_prep.datasets import load_dataset
from data_prep.sources.dataset import Dataset
from data_prep.sources.tables import quantile_codes

Harness = Callable[..., Result]

CSV = """age,job,size,class
31,cook,1.5,yes
42,clerk,2.5,no
25,cook,-1e9,no
31,smith,0,yes
"""


def read(source: str, folder: Path, **columns: object) -> Dataset:
    return load_dataset(source, folder=folder, cache=folder / "cache", **columns)  # type: ignore[arg-type]


# ---- codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_different", [1, 2, 3, 200, 256, 257, 5000])
def test_codes_keep_the_order_of_values_and_tell_up_to_256_apart(n_different: int) -> None:
    generator = np.random.default_rng(n_different)
    values = np.concatenate([np.arange(n_different), generator.integers(0, n_different, 3000)])
    values = generator.permutation(np.sinh(values / n_different * 20))  # far from evenly spread
    codes = quantile_codes(values)
    order = values.argsort(kind="stable")
    assert codes.dtype == np.uint8
    assert (np.diff(codes[order].astype(int)) >= 0).all()
    assert len(set(zip(values, codes, strict=True))) == n_different  # equal values have equal codes
    assert len(np.unique(codes)) == n_different if n_different <= 256 else len(np.unique(codes)) > 200
    if n_different > 1:
        assert (codes.min(), codes.max()) == (0, 255)
    if n_different == 5000:
        assert np.bincount(codes).max() < 3 * len(codes) / 256


def test_one_frequent_value_does_not_take_the_codes_of_the_others() -> None:
    values = np.concatenate([np.zeros(10_000), np.arange(1, 201)])
    assert len(np.unique(quantile_codes(values))) == 201


# ---- sources --------------------------------------------------------------------------------------------------------


def test_a_csv_has_one_column_of_classes_and_the_others_as_pixels(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(CSV)
    found = read("data.csv", tmp_path, label="class", categorical=["job"])
    assert found.examples.images.shape == (4, 3, 1, 1)
    assert found.examples.images[..., 0, 0].tolist() == [[127, 127, 170], [255, 0, 255], [0, 127, 0], [127, 255, 85]]
    assert (found.class_names, found.examples.labels.tolist()) == (("no", "yes"), [1, 0, 0, 1])


def test_numbers_may_be_categories_in_natural_order_and_classes(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n10,0\n2,1\n1,2\n")
    found = read("data.csv", tmp_path, label="b", categorical=["a"])
    assert found.examples.images.ravel().tolist() == [255, 127, 0]
    assert (found.class_names, found.examples.labels.tolist()) == (None, [0, 1, 2])


@pytest.mark.parametrize("columns", [{}, {"columns": np.array(["size", "kind"])}])
def test_an_npz_may_hold_a_table(columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    table, labels = np.array([[1.5, 10], [2.5, 2], [0.5, 1]]), np.array([1.0, 0.0, 1.0])
    np.savez(tmp_path / "data.npz", table=table, labels=labels, **columns)  # type: ignore[arg-type]
    found = read("data.npz", tmp_path, categorical=["kind" if columns else "1"])
    assert found.examples.images[..., 0, 0].tolist() == [[127, 255], [255, 127], [0, 0]]
    assert (found.class_names, found.examples.labels.tolist()) == (None, [1, 0, 1])


def test_byte_strings_are_the_texts_that_they_spell(harness: Harness, tmp_path: Path) -> None:
    columns, labels = np.array(["größe", "kind"]), np.array(["dog", "café", "dog", "owl", "café", "owl"] * 5)
    table = np.array([["1.5", "b"], ["2", "a"], ["0.5", "b"], ["7", "ä"], ["3", "b"], ["4", "a"]] * 5)
    arrays = {"table": table, "labels": labels, "columns": columns}
    for name, kept in (("texts", arrays), ("bytes", {name: np.char.encode(array) for name, array in arrays.items()})):
        np.savez(tmp_path / f"{name}.npz", allow_pickle=True, **kept)
    texts, spelled = (read(f"{name}.npz", tmp_path, categorical=["kind"]) for name in ("texts", "bytes"))
    assert texts.class_names == spelled.class_names == ("café", "dog", "owl")
    assert np.array_equal(texts.examples.images, spelled.examples.images)
    assert np.array_equal(texts.examples.labels, spelled.examples.labels)
    file = tmp_path / "table.toml"
    declared = DECLARED.format(source="bytes.npz", columns='categorical = ["kind"]').replace("train = 2", "train = 15")
    file.write_text(declared.replace('"random"\ncount = 1', '"class"\nlabel = "café"'))
    result = harness("prepare", file, "--estimate", "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert "to be forgotten: class 0, 'café'" in result.output


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("breast_cancer", (569, 30), ("malignant", "benign")),
        ("wine", (178, 13), ("class_0", "class_1", "class_2")),
    ],
)
def test_scikit_learns_tables_are_sources(
    name: str, shape: tuple[int, int], classes: tuple[str, ...], tmp_path: Path
) -> None:
    found = read(f"sklearn:{name}", tmp_path)
    assert found.examples.images.shape == (*shape, 1, 1)
    assert found.class_names == classes
    assert len(found.examples) == shape[0]


# ---- through the command line ---------------------------------------------------------------------------------------

DECLARED = """
name = "table"
title = "a table of one's own"
[data]
source = "{source}"
{columns}
[split]
train = 2
val = 1
[forget]
kind = "random"
count = 1
[model]
name = "linear"
[training]
epochs = 1
batch_size = 2
learning_rate = 0.1
[reference]
originals = 1
retrained = 2
[evaluation]
runs = 2
"""
LABELLED = 'label = "class"\ncategorical = ["job"]'


def refused(harness: Harness, folder: Path, source: str, columns: str) -> str:
    """Return what is said of a table that is a usage error, on one line."""
    file = folder / "table.toml"
    file.write_text(DECLARED.format(source=source, columns=columns))
    result = harness("prepare", file)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("text", "columns", "problem"),
    [
        (CSV, "", "data.label has to name the column of classes in"),
        (CSV, 'label = "clas"', "no column 'clas' (did you mean class?), but 'age', 'job', 'size', 'class'"),
        (
            CSV,
            'label = "class"',
            "'job' holds 'cook', which is no number; if it names categories: categorical = [\"job\"]",
        ),
        (CSV, 'label = "class"\ncategorical = ["jobs"]', "no column 'jobs' (did you mean job?)"),
        (CSV, 'label = "class"\ncategorical = ["class"]', "data.categorical: data.csv has no column 'class'"),
        (CSV, 'label = "size"\ncategorical = ["job", "class"]', "'size' holds 1.5, where the label must name a class"),
        (
            CSV.replace(",2.5", ","),
            LABELLED,
            "'size' has no value in 1 of 4 rows, the first of them row 2; fill them in",
        ),
        (CSV.replace("cook", ""), LABELLED, "'job' has no value in 2 of 4 rows, the first of them row 1"),
        (CSV.replace(",yes", ","), LABELLED, "'class' has no value in 2 of 4 rows, the first of them row 1"),
        (CSV.replace("-1e9", "-inf"), LABELLED, "'size' is -inf in row 3; leave that row out"),
        (CSV.replace("yes", "no"), LABELLED, "'class' names one class only; a track needs two"),
        (CSV.replace("age,", "", 1), LABELLED, "rows have more values than the header has names"),
        (CSV.replace("2.5", "2.5,9,9"), LABELLED, "cannot be read as a CSV (Error tokenizing data"),
        ("age,class\n", 'label = "class"', "data.csv: it has 0 rows and 1 columns besides the label"),
        ("class\nyes\nno\n", 'label = "class"', "data.csv: it has 2 rows and 0 columns besides the label"),
        ("", 'label = "class"', "cannot be read as a CSV (No columns to parse from file)"),
        (CSV.replace("cook", "c\xf6ok"), LABELLED, "cannot be read as a CSV ('utf-8' codec can't decode"),
        (
            "a,class\n" + "".join(f"x{row},{row % 2}\n" for row in range(257)),
            'label = "class"\ncategorical = ["a"]',
            "'a' has 257 categories; 256 are the most: join rare ones",
        ),
        (CSV, f"{LABELLED}\ndownscale = 2", "data.downscale = 2 does not divide"),
        (CSV, f"{LABELLED}\nmean = [0.1, 0.2, 0.3]", "data.mean has 3 values and the images have 1 channel"),
    ],
)
def test_an_unfit_csv_is_a_usage_error_that_says_where(
    text: str, columns: str, problem: str, harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_bytes(text.encode("latin-1"))
    assert problem in refused(harness, tmp_path, "data.csv", columns)


TABLE, ROWS = np.zeros((4, 2)), np.arange(4) % 2


@pytest.mark.parametrize(
    ("arrays", "columns", "problem"),
    [
        ({"table": TABLE}, "", "has a `table` and no `labels`; store the class of every row"),
        ({"table": TABLE, "labels": ROWS[:3]}, "", "must be (rows, columns) and (rows,), not (4, 2) and (3,)"),
        ({"table": TABLE[0], "labels": ROWS}, "", "must be (rows, columns) and (rows,), not (2,) and (4,)"),
        ({"table": TABLE, "labels": ROWS, "columns": ROWS}, "", "columns has 4 names, and the table 2 columns"),
        ({"table": TABLE, "labels": ROWS, "columns": np.zeros(2)}, "", "two columns are called '0.0'"),
        ({"table": TABLE * np.nan, "labels": ROWS}, "", "'0' has no value in 4 of 4 rows, the first of them row 1"),
        ({"table": TABLE.astype(object), "labels": ROWS}, "", "Object arrays cannot be loaded"),
        (
            {"table": TABLE.astype(str), "labels": ROWS, "x": np.array("a")},
            'label = "x"',
            "data.label names a column of",
        ),
        ({"table": np.full((4, 2), "a"), "labels": ROWS}, "", "'0' holds 'a', which is no number"),
        ({"images": np.zeros((4, 2, 2, 1), np.uint8), "labels": ROWS}, 'categorical = ["a"]', "is neither"),
    ],
)
def test_an_unfit_npz_is_a_usage_error_that_says_where(
    arrays: dict[str, np.ndarray], columns: str, problem: str, harness: Harness, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", allow_pickle=True, **arrays)
    assert problem in refused(harness, tmp_path, "data.npz", columns)


@pytest.mark.parametrize(
    ("source", "columns", "problem"),
    [
        ("dta.csv", 'label = "class"', "(did you mean"),
        ("sklearn:wine", 'label = "class"', "data.label names a column of a .csv, and sklearn:wine is none"),
        ("sklearn:wine", 'categorical = ["hue"]', "sklearn:wine is neither"),
        ("sklearn:iris", "", "sklearn:breast_cancer, sklearn:wine, or a path to a .csv or an .npz"),
    ],
)
def test_a_source_that_is_no_such_table_is_a_usage_error(
    source: str, columns: str, problem: str, harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text(CSV)
    assert problem in refused(harness, tmp_path, source, columns)
