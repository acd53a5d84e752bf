"""What every step of a training is made on: which examples, how each is augmented, at what learning rate.

All of it is drawn on the CPU an epoch at a time and sent to the device at once, so that no step waits for it. Every
model draws from its own seed alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.accelerator import to_device
from harness.tracks.declaration import Training

__all__ = ["Epoch", "TrainingBatch", "augmented", "draw_shifts", "epochs_of", "learning_rate_of"]

CROP_PADDING = 4  # pixels, of the usual augmentation of small images: random crop and horizontal flip
STEP_FACTOR = 0.1  # of the learning rate at every milestone


@dataclass(frozen=True)
class TrainingBatch:
    """The examples of one step, of all models that are trained together."""

    rows: Tensor  # (n_models, batch_size) indices of examples
    shifts: Tensor | None  # (n_models, batch_size, 3) how each is augmented, if at all: as `augmented` takes it

    def inputs(self, images: Tensor) -> Tensor:
        """Return the inputs (n_models, batch_size, channels, height, width)."""
        chosen = images[self.rows]
        if self.shifts is None:
            return chosen
        return augmented(chosen.flatten(0, 1), self.shifts.flatten(0, 1)).view_as(chosen)

    def copy(self) -> "TrainingBatch":
        """Return the same batch in memory of its own."""
        return TrainingBatch(self.rows.clone(), None if self.shifts is None else self.shifts.clone())

    def take(self, other: "TrainingBatch") -> None:
        """Become another batch of the same size, in the same memory."""
        self.rows.copy_(other.rows)
        if self.shifts is not None and other.shifts is not None:
            self.shifts.copy_(other.shifts)


@dataclass(frozen=True)
class Epoch:
    """One pass over the examples."""

    learning_rate: float
    batches: list[TrainingBatch]


def epochs_of(
    recipe: Training, n: int, seeds: Sequence[int], first: int, last: int | None, device: torch.device
) -> Iterator[Epoch]:
    """Yield the epochs of n examples, from the one up to the other; a last batch of one example is left out."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for epoch in range(recipe.epochs if last is None else last):
        orders = torch.stack([torch.randperm(n, generator=generator) for generator in generators])
        shifts = torch.stack([draw_shifts(n, generator) for generator in generators]) if recipe.augment else None
        if epoch < first:
            continue
        rows = to_device(orders, device).split(recipe.batch_size, dim=1)
        moves = [None] * len(rows) if shifts is None else to_device(shifts, device).split(recipe.batch_size, dim=1)
        pairs = zip(rows, moves, strict=True)
        batches = [TrainingBatch(*pair) for pair in pairs if pair[0].shape[1] > 1]  # BatchNorm needs two
        yield Epoch(learning_rate_of(recipe, epoch), batches)


def draw_shifts(n: int, generator: torch.Generator) -> Tensor:
    """Return random (n, 3) integers: how far down and to the right an image is cropped, and whether it is flipped."""
    moves = torch.randint(2 * CROP_PADDING + 1, (n, 2), generator=generator)
    return torch.cat([moves, torch.randint(2, (n, 1), generator=generator)], dim=1)


def augmented(images: Tensor, shifts: Tensor) -> Tensor:
    """Return images (n, channels, height, width) each cropped from its padded self, some of them flipped."""
    n, channels, height, width = images.shape
    device = images.device
    down, right, flipped = shifts.split(1, dim=1)
    rows = (down + torch.arange(height, device=device))[:, None, :, None]
    columns = right + torch.arange(width, device=device)
    columns = torch.where(flipped == 1, columns.flip(1), columns)[:, None, None, :]
    padded = nn.functional.pad(images, (CROP_PADDING,) * 4)
    which = torch.arange(n, device=device)[:, None, None, None]
    return padded[which, torch.arange(channels, device=device)[None, :, None, None], rows, columns]


def learning_rate_of(recipe: Training, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0."""
    if recipe.schedule == "step":
        return recipe.learning_rate * STEP_FACTOR ** sum(epoch >= milestone for milestone in recipe.milestones)
    return recipe.learning_rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
