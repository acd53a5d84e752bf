"""Data sets and loaders as a submission sees them (the contract is in `harness.contract`).

Used inside the process that runs a submission: besides torch and numpy it imports contract and accelerator only.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from harness.accelerator import to_device
from harness.contract import Batch

__all__ = ["Images", "loader", "to_inputs"]

SETTABLE = {"inputs": "inputs", "labels": "labels", "targets": "labels"}
HELD = "it has inputs, labels (also called targets), ids, len(), and [i] for one example"
AUGMENT = "to augment, change the batches (images.flip(-1)), or wrap the data set in one of your own"


def to_inputs(images: np.ndarray, *, scale: float, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return stored pixels (n, height, width, channels) as network inputs (n, channels, height, width) float32."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / scale
    shape = (1, -1, 1, 1)
    return ((pixels - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)).contiguous()


class Images(Dataset[Batch]):
    """A data set held in memory: inputs (n, channels, height, width) float32 and labels (n,) int64, on the CPU.

    ids (n,) int64: the position of each example in the training set, the same in every set that holds it; -1 for
    examples that are not in there.

    Whoever sets these, or changes them in place, gets batches of what they are then. Other attributes cannot be set:
    a `transform`, say, would never be asked for. A participant's own class made from this one has what it sets.
    """

    inputs: Tensor
    labels: Tensor
    ids: Tensor
    _copies: dict[torch.device, tuple[tuple[int, int], "Images"]]  # with the versions they were made of

    def __init__(self, inputs: Tensor, labels: Tensor, ids: Tensor | None = None) -> None:
        self.inputs, self.labels = inputs, labels
        vars(self)["ids"] = torch.full((len(labels),), -1) if ids is None else ids

    @property
    def targets(self) -> Tensor:
        """The labels, under torchvision's name for them."""
        return self.labels

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SETTABLE:
            vars(self).update({SETTABLE[name]: torch.as_tensor(value), "_copies": {}})
        elif type(self) is not Images or name == "__class__":
            super().__setattr__(name, value)
        else:
            raise AttributeError(f"setting {name} of the data set would change nothing: {HELD}; {AUGMENT}")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the data set has no {name}: {HELD}")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_copies": {}}  # a copy on a GPU is of no use to another process

    def on(self, device: torch.device) -> "Images":
        """Return these examples on a device: copied once, so that no batch has to be."""
        if device == self.inputs.device:
            return self
        versions = self.inputs._version, self.labels._version  # torch counts changes in place
        if device not in self._copies or self._copies[device][0] != versions:
            self._copies[device] = versions, Images(self.inputs.to(device), self.labels.to(device))
        return self._copies[device][1]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.inputs[index], self.labels[index])

    @property
    def __getitems__(self) -> "Callable[[list[int]], _Chosen]":
        # A loader, also one over a Subset, asks for a whole batch here. What it gets is still a list of examples for
        # a collate function of the participant's own; the default one takes all of them at once. There is nothing to
        # ask for where a participant makes the examples: in a __getitem__ of theirs, or in a wrapper that hands on the
        # attributes of what it wraps.
        asks = sys._getframe(1).f_globals.get("__name__", "")
        if type(self).__getitem__ is not _example or not asks.startswith("torch.utils.data."):
            raise AttributeError("__getitems__")
        return partial(_Chosen, self)


_example = Images.__getitem__


class _Chosen(list[Any]):
    """Some examples of a data set, as a list that makes them when looked at; any other use makes all of them."""

    def __init__(self, dataset: Images, indices: list[int]) -> None:
        super().__init__(indices)
        self.dataset = dataset
        self.is_made = False

    def __getitem__(self, index: Any) -> Any:
        chosen = super().__getitem__(index)
        if self.is_made:
            return chosen
        return [self.dataset[i] for i in chosen] if isinstance(index, slice) else self.dataset[chosen]

    def __iter__(self) -> Any:
        return super().__iter__() if self.is_made else (self.dataset[index] for index in super().__iter__())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)

    def make(self) -> None:
        """Become a plain list of examples."""
        if not self.is_made:
            examples = list(self)
            self.is_made = True
            self[:] = examples

    def batch(self, device: torch.device | None = None) -> Batch:
        """Return all examples as one batch, on a device or where they are."""
        place = device or self.dataset.inputs.device
        if self.is_made:
            return _moved(_stack(self), place)
        rows = torch.tensor(list(super().__iter__()))
        rows = to_device(torch.where(rows < 0, rows + len(self.dataset), rows), place)
        examples = self.dataset.on(place)  # index_select copies whole examples: a third of the time of [rows]
        return Batch(examples.inputs.index_select(0, rows), examples.labels.index_select(0, rows))


def _made_first(name: str) -> Any:
    method = getattr(list, name)

    def made(self: _Chosen, *arguments: Any, **options: Any) -> Any:
        self.make()
        return method(self, *arguments, **options)

    return made


for _name in (
    *("__add__", "__iadd__", "__mul__", "__rmul__", "__imul__", "__reversed__", "__setitem__", "__delitem__"),
    *("__eq__", "__contains__", "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove"),
    *("reverse", "sort"),
):
    setattr(_Chosen, _name, _made_first(_name))


def _stack(examples: Sequence[Batch]) -> Batch:
    images, labels = zip(*examples, strict=True)
    return Batch(torch.stack(images), torch.stack([torch.as_tensor(label) for label in labels]))


def _collate(batch: Any, *, collate_fn_map: Any = None) -> Batch:
    if isinstance(batch, _Chosen):
        return batch.batch()
    return _stack(batch)


default_collate_fn_map[Batch] = _collate


def _collate_on(batch: Any, device: torch.device) -> Batch:
    return batch.batch(device) if isinstance(batch, _Chosen) else _moved(_stack(batch), device)


def _moved(batch: Batch, device: torch.device) -> Batch:
    return Batch(to_device(batch.images, device), to_device(batch.labels, device))


def loader(dataset: Images, *, batch_size: int, device: torch.device) -> "DataLoader[Batch]":
    """Return the shuffled loader a submission is given; the examples lie on the device, and batches are made there."""
    dataset.on(device)
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, collate_fn=partial(_collate_on, device=device))
