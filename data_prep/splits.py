"""Who is forgotten and who is tested: one split per track, made once and stored; nothing derives it a second time."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_prep.sources.dataset import Dataset
from harness.errors import UsageError
from harness.tracks.declaration import Forget, Split
from harness.tracks.track import REQUESTS

__all__ = ["class_number", "cut_into_requests", "split_indices"]

SHOWN = 40  # letters of a line
WRITE_INDICES = "write it with np.savetxt(FILE, indices, '%d')"


def split_indices(dataset: Dataset, split: Split, forget: Forget, *, folder: Path = Path()) -> dict[str, np.ndarray]:
    """Return indices of the retain, forget, val and test sets, disjoint, each sorted.

    A forgotten class is left out of val and test, and so are subjects that this track or a sibling forgets.
    folder: where a file of indices is looked for. Raises UsageError if there are too few examples.
    """
    generator = np.random.default_rng(split.seed)
    train, val, test = _parts(dataset, split, generator)
    forgotten, kept_out = _forgotten(dataset, train, forget, generator, folder)
    if forgotten.all() or not forgotten.any():
        raise UsageError(f"forget: {forgotten.sum()} of {len(train)} training examples would be forgotten")
    val, test = (indices[~np.isin(indices, kept_out)] for indices in (val, test))
    for name, indices in (("val", val), ("test", test)):
        if not len(indices):
            raise UsageError(f"split: no examples are left for the {name} set")
    sets = {"retain": train[~forgotten], "forget": train[forgotten], "val": val, "test": test}
    return {name: np.sort(indices) for name, indices in sets.items()}


def cut_into_requests(
    dataset: Dataset, split: Split, forget: Forget, sets: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return by the name REQUESTS which deletion request, from 0, each forget example is of, (n_forget,).

    Nothing where there is only one. Requests are equally many examples to within one, drawn by the seed of the split;
    where subjects are forgotten they are so many people, of whom all examples are in one request.
    sets: indices by the name of their set. Raises UsageError if there are fewer examples, or people, than requests.
    """
    if forget.requests == 1:
        return {}
    of_people = dataset.examples.subjects if forget.kind == "subject" else None
    units, place = np.unique(sets["forget"] if of_people is None else of_people[sets["forget"]], return_inverse=True)
    if forget.requests > len(units):
        what = "examples" if of_people is None else "subjects"
        raise UsageError(f"forget: requests = {forget.requests} is more than there are {what} to forget: {len(units)}")
    order = np.random.default_rng(split.seed).permutation(len(units))
    numbers = np.empty(len(units), int)
    for number, drawn in enumerate(np.array_split(order, forget.requests)):
        numbers[drawn] = number
    return {REQUESTS: numbers[place]}


def _parts(dataset: Dataset, split: Split, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training set, val and test set, each in random order."""
    n, labels = len(dataset.examples), dataset.examples.labels
    pool = generator.permutation(n - dataset.n_test)
    own_test = n - dataset.n_test + generator.permutation(dataset.n_test)
    wanted_train, wanted_val, wanted_test = (_count(size, n) for size in (split.train, split.val, split.test))
    if dataset.n_test and split.val_from == "train":
        val, pool = _take(pool, wanted_val, labels, balanced=split.balanced_val)
        train, test = pool[: wanted_train or None], own_test
    else:
        size = wanted_train or len(pool) - (0 if dataset.n_test else wanted_val + wanted_test)
        train, pool = pool[:size], pool[size:]
        val, test = _take(own_test if dataset.n_test else pool, wanted_val, labels, balanced=split.balanced_val)
    if not len(test) or len(val) < wanted_val:
        sizes = f"train = {split.train} and val = {split.val}" if split.train else f"val = {split.val}"
        raise UsageError(f"split: {sizes} leave no test set of {n} examples")
    for name, indices, wanted in (("train", train, wanted_train), ("test", test, wanted_test)):
        if len(indices) < wanted:
            raise UsageError(f"split: only {len(indices)} examples are left for {name} = {wanted}")
    return train, val, test[: wanted_test or None]


def _count(size: float | None, n: int) -> int:
    """Return a size as a number of examples, of n in all; 0 if none is given."""
    return 0 if size is None else size if isinstance(size, int) else int(size * n)


def _take(order: np.ndarray, count: int, labels: np.ndarray, *, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of some indices, as many of every class if balanced, and the others."""
    if not balanced:
        return order[:count], order[count:]
    classes = np.unique(labels[order])
    if count % len(classes):
        raise UsageError(f"split: a balanced val = {count} is no multiple of {len(classes)} classes")
    taken = np.concatenate([order[labels[order] == label][: count // len(classes)] for label in classes])
    return taken, order[~np.isin(order, taken)]


def _forgotten(
    dataset: Dataset, train: np.ndarray, forget: Forget, generator: np.random.Generator, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return which training examples are forgotten, (n_train,) bool, and the indices kept out of val and test."""
    labels, subjects = dataset.examples.labels, dataset.examples.subjects
    nobody = np.array([], int)
    if forget.kind == "class":
        assert forget.label is not None
        label = class_number(forget.label, dataset, section="forget", key="label")
        return labels[train] == label, np.flatnonzero(labels == label)
    if forget.kind == "indices":
        assert forget.file is not None
        return np.isin(train, _listed(folder / forget.file, train)), nobody
    assert forget.count is not None
    count = _count(forget.count, len(train))
    first = (forget.index or 0) * count
    last = first + count
    if forget.kind == "random":
        _require(forget, count, len(train), "examples")
        position = np.arange(len(train))
        return (position >= first) & (position < last), nobody
    if subjects is None:
        raise UsageError("forget: kind = 'subject' needs data that say whose image each is (`subjects`)")
    people = generator.permutation(np.unique(subjects[train]))
    _require(forget, count, len(people), "subjects")
    of_any = people[: forget.forget_sets * count]
    return np.isin(subjects[train], people[first:last]), np.flatnonzero(np.isin(subjects, of_any))


def _require(forget: Forget, count: int, n: int, what: str) -> None:
    """Raise UsageError if a training set has fewer than all forget sets together want."""
    if forget.forget_sets * count > n:
        wanted = f"{forget.forget_sets} x {count}" if forget.forget_sets > 1 else str(count)
        raise UsageError(f"forget: {wanted} {what} are wanted and the training set has {n}")


def class_number(wanted: int | str, dataset: Dataset, *, section: str, key: str) -> int:
    """Return the number of a class, given by number or by name. Raises UsageError if there is none such.

    section, key: where the declaration has it.
    """
    names = dataset.class_names
    if isinstance(wanted, int):
        if 0 <= wanted < dataset.n_classes:
            return wanted
        raise UsageError(f"{section}: there is no class {wanted}; classes are 0 to {dataset.n_classes - 1}")
    if names is None:
        raise UsageError(f"{section}: the data have no names of classes; give the number of {wanted!r} as {key}")
    same = [label for label, name in enumerate(names) if _plain(name) == _plain(wanted)]
    if len(same) != 1:
        raise UsageError(f"{section}: no class is called {wanted!r}; there are {', '.join(names)}")
    return same[0]


def _plain(name: str) -> str:
    """Return a name as it is compared: systems store the same letters in several ways."""
    return unicodedata.normalize("NFC", name)


def _listed(file: Path, train: np.ndarray) -> np.ndarray:
    """Return the indices in a text file. Raises UsageError if they are no indices of training examples."""
    listed, trained = [], set(train.tolist())
    for number, line in enumerate(_lines(file), 1):
        for word in line.split():
            try:
                listed.append(int(word))
            except ValueError:
                shown = repr(line.strip()[:SHOWN])
                raise UsageError(
                    f"forget: line {number} of {file} is {shown}, where one index per line must be, a whole number: "
                    f"{WRITE_INDICES}"
                ) from None
            if listed[-1] not in trained:
                raise UsageError(
                    f"forget: {listed[-1]}, in line {number} of {file}, is the index of no training example; "
                    "they count from 0 in the order of the data"
                )
    if not listed:
        raise UsageError(f"forget: {file} holds no index; {WRITE_INDICES}")
    return np.array(listed, int)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UsageError(f"forget: no file {file}, which must hold one index per line; {WRITE_INDICES}") from None
    except UnicodeDecodeError:
        raise UsageError(f"forget: {file} is no UTF-8 text; {WRITE_INDICES}") from None
    except OSError as error:
        raise UsageError(f"forget: {file} cannot be read ({error.strerror})") from None
