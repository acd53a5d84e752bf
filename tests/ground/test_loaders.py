"""Batches and data sets as the contract promises them: for every habit a participant may have."""

import copy
import pickle
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
    random_split,
)

from harness.contract import Batch
from harness.loaders import Images, loader, to_inputs

N = 23
CPU = torch.device("cpu")

# Python 3.12 and later warn at every fork of a process with threads, which torch always has.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def dataset() -> Images:
    """N examples of shape (2, 3, 4); an example's label is 100 + its index, and its pixels know it too."""
    inputs = torch.arange(N * 24, dtype=torch.float32).view(N, 2, 3, 4)
    return Images(inputs, torch.arange(100, 100 + N))


def indices_of(batches: Any) -> list[int]:
    """Return the indices of all examples of some batches in order, having checked that every image fits its label."""
    indices = []
    for images, labels in batches:
        assert images.shape == (len(labels), 2, 3, 4)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        first_pixels = images[:, 0, 0, 0]
        assert torch.equal(first_pixels, (labels - 100) * 24)
        assert torch.equal(images, first_pixels.view(-1, 1, 1, 1) + torch.arange(24).view(2, 3, 4))
        indices += (labels - 100).tolist()
    return indices


# ---- the harness's own loaders ------------------------------------------------------------------------------------


def test_the_harness_serves_every_example_exactly_once_per_epoch(dataset: Images) -> None:
    batches = loader(dataset, batch_size=5, device=CPU)
    assert isinstance(batches, DataLoader)
    assert batches.batch_size == 5
    assert batches.dataset is dataset
    assert len(batches) == 5
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    assert sorted(indices_of(batches)) == list(range(N))


def test_every_epoch_has_an_order_of_its_own(dataset: Images) -> None:
    torch.manual_seed(0)
    batches = loader(dataset, batch_size=5, device=CPU)
    orders = [indices_of(batches) for _ in range(3)]
    assert len({tuple(order) for order in [list(range(N)), *orders]}) == 4


def test_the_order_follows_from_the_seed(dataset: Images) -> None:
    orders = []
    for _ in range(2):
        torch.manual_seed(7)
        orders.append(indices_of(loader(dataset, batch_size=5, device=CPU)))
    assert orders[0] == orders[1]


def test_a_batch_answers_to_both_habits(dataset: Images) -> None:
    for batch in loader(dataset, batch_size=6, device=CPU):
        images, labels = batch
        assert batch["image"] is images
        assert batch["label"] is labels
        assert batch["age_group"] is labels
        assert batch[0] is images
        assert batch[1] is labels
        assert batch[-1] is labels
        assert len(batch) == 2
        assert indices_of([(batch["image"], batch["age_group"])]) == indices_of([batch])


def test_next_iter_and_enumerate_and_zip_work_on_a_loader(dataset: Images) -> None:
    batches = loader(dataset, batch_size=8, device=CPU)
    images, labels = next(iter(batches))
    assert (len(images), len(labels)) == (8, 8)
    assert next(iter(batches))["image"].shape == (8, 2, 3, 4)
    assert [step for step, (_, _) in enumerate(batches)] == [0, 1, 2]
    for (ours, our_labels), theirs in zip(batches, batches, strict=True):
        assert indices_of([(ours, our_labels)])
        assert indices_of([theirs])


def test_batches_are_copies_so_that_changing_one_leaves_the_data_as_they_were(dataset: Images) -> None:
    before = dataset.inputs.clone(), dataset.labels.clone()
    for images, labels in loader(dataset, batch_size=5, device=CPU):
        images.zero_()
        labels.zero_()
    for images, labels in DataLoader(dataset, batch_size=5):
        images.zero_()
        labels.zero_()
    assert torch.equal(dataset.inputs, before[0])
    assert torch.equal(dataset.labels, before[1])


# ---- a batch ------------------------------------------------------------------------------------------------------


def test_a_batch_is_pickled_and_copied_as_a_batch() -> None:
    batch = Batch(torch.ones(2, 1), torch.tensor([3, 4]))
    for same in (pickle.loads(pickle.dumps(batch)), copy.copy(batch), copy.deepcopy(batch)):
        assert type(same) is Batch
        assert torch.equal(same["image"], batch.images)
        assert torch.equal(same["label"], batch.labels)


def test_a_batch_becomes_a_dictionary_and_knows_its_keys() -> None:
    batch = Batch(torch.ones(2, 1), torch.tensor([3, 4]))
    assert list(batch.keys()) == ["image", "label", "age_group"]
    assert set(dict(batch)) == {"image", "label", "age_group"}
    assert dict(**batch)["label"] is batch.labels


def test_a_key_no_batch_has_is_a_key_error_and_an_index_no_pair_has_an_index_error() -> None:
    batch = Batch(torch.ones(2, 1), torch.tensor([3, 4]))
    with pytest.raises(KeyError, match="img"):
        batch["img"]
    with pytest.raises(IndexError):
        batch[len(batch)]


# ---- single examples ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 22, -1, np.int64(4), torch.tensor(4)], ids=repr)
def test_an_example_is_what_the_data_set_holds(dataset: Images, index: Any) -> None:
    image, label = dataset[index]
    assert torch.equal(image, dataset.inputs[index])
    assert label.shape == ()
    assert int(label) == int(dataset.labels[index])
    assert torch.equal(dataset[index]["image"], image)
    assert int(dataset[index]["age_group"]) == int(label)


def test_a_data_set_has_a_length_an_end_and_can_be_walked_through(dataset: Images) -> None:
    assert len(dataset) == N
    with pytest.raises(IndexError):
        dataset[N]
    examples: Any = dataset  # Python walks through whatever has indices and an end
    assert [int(label) for _, label in examples] == list(range(100, 100 + N))
    images, labels = zip(*examples, strict=True)
    assert torch.equal(torch.stack(images), dataset.inputs)
    assert torch.equal(torch.stack(labels), dataset.labels)
    assert [int(example["label"]) for example, _ in zip(examples, range(3), strict=False)] == [100, 101, 102]


# ---- attributes of a data set -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["labels", "targets"])
def test_labels_that_are_set_are_served(dataset: Images, name: str) -> None:
    assert dataset.targets is dataset.labels
    setattr(dataset, name, [7] * N)
    for batches in (loader(dataset, batch_size=5, device=CPU), DataLoader(Subset(dataset, range(9)), batch_size=4)):
        assert {int(label) for _, labels in batches for label in labels} == {7}


def test_a_copy_on_a_device_is_made_once_and_again_when_the_data_change(dataset: Images) -> None:
    device = torch.device("meta")
    first = dataset.on(device)
    assert dataset.on(device) is first
    dataset.labels[:3] = 5
    second = dataset.on(device)
    assert second is not first
    dataset.inputs = dataset.inputs[:4]
    assert len(dataset.on(device).inputs) == 4


def test_an_attribute_that_would_be_ignored_cannot_be_set(dataset: Images) -> None:
    with pytest.raises(AttributeError, match=r"setting transform .* would change nothing: .* to augment"):
        dataset.transform = torch.nn.Identity()
    assert not hasattr(dataset, "transform")


@pytest.mark.parametrize("name", ["classes", "data", "dataset", "transforms"])
def test_an_attribute_it_does_not_have_is_told_with_those_it_has(dataset: Images, name: str) -> None:
    with pytest.raises(AttributeError, match=rf"the data set has no {name}: it has inputs, labels"):
        getattr(dataset, name)


def test_a_data_set_is_pickled_and_copied(dataset: Images) -> None:
    for same in (pickle.loads(pickle.dumps(dataset)), copy.copy(dataset), copy.deepcopy(dataset)):
        assert indices_of(DataLoader(same, batch_size=5)) == list(range(N))


# ---- a participant's own loaders ----------------------------------------------------------------------------------


def test_a_participants_own_loader_serves_every_example_once_and_shuffled(dataset: Images) -> None:
    torch.manual_seed(1)
    own = DataLoader(loader(dataset, batch_size=5, device=CPU).dataset, batch_size=7, shuffle=True)
    orders = [indices_of(own) for _ in range(2)]
    assert [sorted(order) for order in orders] == [list(range(N))] * 2
    assert orders[0] != orders[1]
    assert [batch["image"].shape[0] for batch in own] == [7, 7, 7, 2]
    assert all(type(batch) is Batch for batch in own)


def test_whole_batches_are_fetched_without_asking_for_their_examples(
    dataset: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []  # of each batch or example the number of axes

    def counted(images: Tensor, labels: Tensor) -> Batch:
        made.append(images.ndim)
        return Batch(images, labels)

    monkeypatch.setattr("harness.loaders.Batch", counted)
    batches = loader(dataset, batch_size=8, device=CPU)
    assert len(indices_of(batches)) == N
    assert made == [4, 4, 4]
    nested = Subset(Subset(dataset, range(20)), range(16))
    for own in (DataLoader(dataset, batch_size=8, shuffle=True), DataLoader(nested, batch_size=8)):
        made.clear()
        indices_of(own)
        assert made.count(3) <= len(own)  # torch's collate looks at the first example of each batch
        assert made.count(4) == len(own)


class Marked(Images):
    """A participant's data set: that of the harness with examples of one's own, here all of them minus one."""

    def __init__(self, of: Images, mark: float = -1.0) -> None:
        super().__init__(of.inputs, of.labels)
        self.mark = mark

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return torch.full_like(image, self.mark), int(label)


class Wrapping(Dataset[Any]):
    """A participant's data set around that of the harness, which hands on what it does not have."""

    def __init__(self, of: Images) -> None:
        self.of = of

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, index: int) -> Any:
        image, label = self.of[index]
        return torch.full_like(image, -1), label

    def __getattr__(self, name: str) -> Any:
        if name == "of":
            raise AttributeError(name)
        return getattr(self.of, name)


def of_another_class(dataset: Images) -> Images:
    dataset.__class__, dataset.mark = Marked, -1.0
    return dataset


OWN_EXAMPLES: dict[str, Callable[[Images], Any]] = {
    "subclass": Marked,
    "wrapper": Wrapping,
    "of another class": of_another_class,
    "subset of a subclass": lambda data: Subset(Marked(data), range(N)),
    "subset of a wrapper": lambda data: Subset(Wrapping(data), range(N)),
    "joined": lambda data: ConcatDataset([Marked(data), Wrapping(data)]),
}


@pytest.mark.parametrize("kind", OWN_EXAMPLES)
def test_examples_that_a_participant_makes_are_what_a_loader_serves(dataset: Images, kind: str) -> None:
    own = OWN_EXAMPLES[kind](dataset)
    alike = loader(dataset, batch_size=4, device=CPU)  # with the collate function of the harness's own loaders
    for batches in (DataLoader(own, batch_size=4), DataLoader(own, batch_size=4, collate_fn=alike.collate_fn)):
        served = [(images, labels) for images, labels in batches]
        assert {float(value) for images, _ in served for value in images.flatten()} == {-1.0}
        assert {int(label) for _, labels in served for label in labels} == set(range(100, 100 + N))


def test_a_class_of_the_data_sets_that_is_changed_serves_what_it_then_makes(
    dataset: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Images, "__getitem__", lambda self, index: Batch(-self.inputs[index], self.labels[index]))
    for batches in (DataLoader(dataset, batch_size=4), loader(dataset, batch_size=4, device=CPU)):
        assert all((images <= 0).all() for images, _ in batches)


SUBSETS: dict[str, Callable[[Images], Any]] = {
    "list": lambda data: Subset(data, [4, 2, 9]),
    "numpy": lambda data: Subset(data, np.array([4, 2, 9])),  # type: ignore[arg-type]
    "tensor": lambda data: Subset(data, torch.tensor([4, 2, 9])),  # type: ignore[arg-type]
    "nested": lambda data: Subset(Subset(data, [9, 4, 7, 2]), [1, 3, 0]),
    "joined": lambda data: ConcatDataset([Subset(data, [4]), Subset(data, [2, 9])]),
    "subset of joined": lambda data: Subset(ConcatDataset([data, data]), [4, N + 2, 9]),
}


@pytest.mark.parametrize("kind", SUBSETS)
def test_a_loader_over_a_subset_serves_just_that_subset(dataset: Images, kind: str) -> None:
    assert indices_of(DataLoader(SUBSETS[kind](dataset), batch_size=2)) == [4, 2, 9]


def test_parts_of_a_random_split_hold_every_example_once(dataset: Images) -> None:
    parts = random_split(dataset, [15, 8], generator=torch.Generator().manual_seed(0))
    served = [index for part in parts for index in indices_of(DataLoader(part, batch_size=4))]
    assert sorted(served) == list(range(N))


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": SubsetRandomSampler(torch.tensor([4, 2, 9])), "batch_size": 2},  # type: ignore[arg-type]
        {"sampler": WeightedRandomSampler([float(i in (2, 4, 9)) for i in range(N)], 3, replacement=False)},
        {"batch_sampler": BatchSampler(RandomSampler([4, 2, 9]), 2, drop_last=False)},
    ],
    ids=["subset", "weighted", "batches"],
)
def test_samplers_of_torch_choose_examples(dataset: Images, options: dict[str, Any]) -> None:
    expected = [0, 1, 2] if "batch_sampler" in options else [2, 4, 9]
    assert sorted(indices_of(DataLoader(dataset, **options))) == expected


def test_drop_last_drops_the_incomplete_batch(dataset: Images) -> None:
    assert indices_of(DataLoader(dataset, batch_size=10, drop_last=True)) == list(range(20))


def test_a_loader_without_batches_serves_single_examples(dataset: Images) -> None:
    single = list(DataLoader(dataset, batch_size=None))
    assert [int(example["label"]) for example in single] == list(range(100, 100 + N))
    assert single[3]["image"].shape == (2, 3, 4)


class OneByOne(Dataset[tuple[Tensor, int]]):
    """A data set as most are written: an input is made of stored pixels whenever one is asked for."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return inputs_of(self.pixels[index : index + 1])[0], index


def inputs_of(pixels: np.ndarray) -> Tensor:
    return to_inputs(pixels, scale=255, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])


def test_a_participants_own_loader_is_five_times_as_fast_as_item_by_item() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3)).astype(np.uint8)
    single = DataLoader(OneByOne(pixels), batch_size=256)
    whole = DataLoader(Images(inputs_of(pixels), torch.arange(1024)), batch_size=256)
    for theirs, ours in zip(single, whole, strict=True):
        assert torch.equal(theirs[0], ours[0])

    def seconds(batches: Any) -> float:
        started = time.process_time()  # other work on the machine does not count
        for _ in batches:
            pass
        return time.process_time() - started

    assert np.median([seconds(single) / seconds(whole) for _ in range(5)]) > 5


# ---- on a GPU -----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_on_the_cpu_and_the_data_set_stays_there(dataset: Images) -> None:
    batches = loader(dataset, batch_size=5, device=torch.device("cuda"))
    found = [Batch(images.cpu(), labels.cpu()) for images, labels in batches if images.is_cuda and labels.is_cuda]
    assert sorted(indices_of(found)) == list(range(N))
    assert not dataset[0]["image"].is_cuda
    assert sorted(indices_of(DataLoader(dataset, batch_size=4))) == list(range(N))
    same = pickle.loads(pickle.dumps(dataset))  # as a worker process of another start method gets it
    assert sorted(indices_of(DataLoader(same, batch_size=4))) == list(range(N))


# ---- with worker processes ----------------------------------------------------------------------------------------


@forks
def test_a_participants_own_loader_works_with_worker_processes(dataset: Images) -> None:
    own = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=2)
    batches = list(own)
    assert all(type(batch) is Batch for batch in batches)
    assert sorted(indices_of(batches)) == list(range(N))


@forks
def test_a_subset_works_with_worker_processes(dataset: Images) -> None:
    nested = Subset(Subset(dataset, [9, 4, 7, 2]), [1, 3, 0])
    assert indices_of(DataLoader(nested, batch_size=2, num_workers=2)) == [4, 2, 9]


@forks
def test_a_custom_collate_function_works_with_worker_processes(dataset: Images) -> None:
    own: DataLoader[Any] = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=flipped)
    pairs = list(own)
    assert torch.equal(torch.cat([images for images, _ in pairs]), dataset.inputs.flip(-1))
    assert torch.equal(torch.cat([labels for _, labels in pairs]), dataset.labels)


@forks
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_collate_function_may_hand_the_examples_on_as_they_are(dataset: Images, num_workers: int) -> None:
    own: DataLoader[Any] = DataLoader(dataset, batch_size=8, num_workers=num_workers, collate_fn=unchanged)
    batches = list(own)
    assert [len(batch) for batch in batches] == [8, 8, 7]
    assert [int(example["label"]) for batch in batches for example in batch] == list(range(100, 100 + N))


# ---- with a collate function of the participant's own -------------------------------------------------------------


def flipped(batch: list[Batch]) -> tuple[Tensor, Tensor]:
    return torch.stack([image.flip(-1) for image, _ in batch]), torch.stack([label for _, label in batch])


def unchanged(batch: list[Batch]) -> list[Batch]:
    return batch


def labels_of(examples: Any) -> list[int]:
    return [int(example["label"]) for example in examples]


def shuffled_and_sorted_again(batch: list[Batch]) -> list[int]:
    random.Random(0).shuffle(batch)
    return sorted(labels_of(batch))


def sorted_in_place(batch: list[Batch]) -> list[int]:
    batch.sort(key=lambda example: -int(example["label"]))
    return labels_of(reversed(list(batch)))


def reversed_in_place(batch: list[Batch]) -> list[int]:
    batch.reverse()
    return labels_of(batch)[::-1]


def popped(batch: list[Batch]) -> list[int]:
    return labels_of([batch.pop() for _ in range(len(batch))])[::-1]


def replaced(batch: list[Batch]) -> list[int]:
    batch[0] = Batch(batch[0]["image"] * 0, batch[0]["label"])
    return labels_of(batch)


COLLATE: dict[str, Callable[[list[Batch]], list[int]]] = {
    "iterates": labels_of,
    "indexes": lambda batch: labels_of(batch[i] for i in range(len(batch))),
    "indexes from the end": lambda batch: labels_of(batch[i] for i in range(-len(batch), 0)),
    "slices": lambda batch: labels_of(batch[:3]) + labels_of(batch[3:]),
    "unpacks": lambda batch: labels_of([*batch]),
    "copies as a list": lambda batch: labels_of(list(batch)),
    "copies": lambda batch: labels_of(batch.copy()),
    "copies deeply": lambda batch: labels_of(copy.deepcopy(batch)),
    "zips": lambda batch: [int(label) for label in list(zip(*batch, strict=True))[1]],
    "collates by default": lambda batch: (default_collate(batch)["label"]).tolist(),
    "collates a slice": lambda batch: (default_collate(batch[:])["label"]).tolist(),
    "collates a new list": lambda batch: (default_collate([(image, label) for image, label in batch])[1]).tolist(),
    "goes backwards": lambda batch: labels_of(reversed(batch))[::-1],
    "adds lists": lambda batch: labels_of(batch + batch)[: len(batch)],
    "repeats": lambda batch: labels_of(batch * 2)[: len(batch)],
    "sorts": lambda batch: labels_of(sorted(batch, key=lambda example: int(example["label"]))),
    "shuffles in place": shuffled_and_sorted_again,
    "sorts in place": sorted_in_place,
    "reverses in place": reversed_in_place,
    "pops": popped,
    "replaces": replaced,
}


@pytest.mark.parametrize("habit", COLLATE)
def test_a_collate_function_gets_a_list_of_examples_whatever_it_does_with_it(dataset: Images, habit: str) -> None:
    own: DataLoader[Any] = DataLoader(dataset, batch_size=10, collate_fn=COLLATE[habit])
    expected = list(range(100, 100 + N))
    assert list(own) == [expected[:10], expected[10:20], expected[20:]]


def test_a_collate_function_gets_an_instance_of_list(dataset: Images) -> None:
    own: DataLoader[Any] = DataLoader(dataset, batch_size=10, collate_fn=unchanged)
    assert all(isinstance(batch, list) for batch in own)


def test_default_collate_stacks_a_plain_list_of_examples(dataset: Images) -> None:
    batch = default_collate([dataset[3], dataset[1]])
    assert type(batch) is Batch
    assert indices_of([batch]) == [3, 1]


def test_a_plain_list_of_examples_serves_as_a_data_set(dataset: Images) -> None:
    examples: Any = [dataset[index] for index in range(N)]
    assert sorted(indices_of(DataLoader(examples, batch_size=4, shuffle=True))) == list(range(N))


# ---- from stored pixels to inputs ---------------------------------------------------------------------------------


def test_inputs_are_scaled_normalised_and_laid_out_channels_first() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    mean, std = [0.5, 0.4, 0.3], [0.1, 0.2, 0.5]
    inputs = to_inputs(pixels, scale=255, mean=mean, std=std)
    assert inputs.dtype == torch.float32
    assert inputs.shape == (4, 3, 5, 6)
    assert inputs.is_contiguous()
    expected = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-5)


def test_one_mean_and_deviation_serve_a_grey_image() -> None:
    inputs = to_inputs(np.full((1, 2, 2, 1), 8, np.uint8), scale=16, mean=[0.25], std=[0.5])
    assert torch.equal(inputs, torch.full((1, 1, 2, 2), 0.5))
