"""What is learnt and forgotten: data sets with a model each, and requests of some size and kind.

Data, sizes, models and recipes are those of declared tracks; a problem may put another model on a track's data.
"""

from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.pages import ROOT
from data_prep.datasets import load_dataset
from data_prep.sources.dataset import Dataset
from harness import models
from harness.loaders import Images, to_inputs
from harness.tracks.declaration import Declaration, Model, read_declaration

__all__ = ["PROBLEMS", "REQUESTS", "Problem", "Request", "Sets"]


@dataclass(frozen=True)
class Request:
    """How much of the training set is forgotten, and whether at random or of one class."""

    share: float
    kind: str = "random"  # or "class"

    def __str__(self) -> str:
        return f"{self.share:.1%} {'at random' if self.kind == 'random' else 'of a class'}".replace("%", " %")

    def drawn(self, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return which examples are forgotten, (n,) bool; at least one."""
        chosen = np.zeros(len(labels), dtype=bool)
        among = np.flatnonzero(labels == labels[generator.integers(len(labels))]) if self.kind == "class" else None
        order = generator.permutation(len(labels) if among is None else among)
        chosen[order[: max(1, round(self.share * len(labels)))]] = True
        return chosen


@dataclass(frozen=True)
class Sets:
    """The data sets of one draw; ids are positions in the training set."""

    train: Images
    retain: Images
    forget: Images
    val: Images
    test: Images


@dataclass(frozen=True)
class Problem:
    """A track's data with a model."""

    track: str
    model: Model | None = field(default=None, hash=False)  # the track's

    @property
    def name(self) -> str:
        return f"{self.track} with {self.declared.model.name}" if self.model else self.track

    @property
    def declared(self) -> Declaration:
        """The declaration, with this model."""
        declared = _declared(self.track)
        return declared.model_copy(update={"model": self.model}) if self.model else declared

    def drawn(self, request: Request, seed: int) -> Sets:
        """Draw training, val and test images, and which of the first are forgotten."""
        declared, dataset = self.declared, _dataset(self.track)
        generator, split = np.random.default_rng(seed), declared.split
        order = generator.permutation(len(dataset.examples))
        n_train, n_val, n_test = (int(size or 0) for size in (split.train, split.val, split.test))
        train, val, test = np.split(order[: n_train + n_val + n_test], [n_train, n_train + n_val])
        is_gone, ids = request.drawn(dataset.examples.labels[train], generator), np.arange(n_train)
        images = partial(_images, self)
        return Sets(
            train=images(train, ids),
            retain=images(train[~is_gone], ids[~is_gone]),
            forget=images(train[is_gone], ids[is_gone]),
            val=images(val),
            test=images(test),
        )

    def build(self) -> nn.Module:
        """Return a network that is not trained yet."""
        model, dataset = self.declared.model, _dataset(self.track)
        shape = dataset.examples.images.shape[1:]
        options = {**model.options, "inputs": int(np.prod(shape))} if model.is_for_vectors else None
        return models.build(
            model.name, n_classes=dataset.n_classes, channels=shape[-1], width=model.width, options=options
        )


def _images(problem: Problem, chosen: np.ndarray, ids: np.ndarray | None = None) -> Images:
    examples, data = _dataset(problem.track).examples[chosen], problem.declared.data
    inputs = to_inputs(examples.images, scale=data.scale, mean=data.mean, std=data.std)
    return Images(inputs, torch.from_numpy(examples.labels), None if ids is None else torch.from_numpy(ids))


@cache
def _declared(track: str) -> Declaration:
    return read_declaration(ROOT / "data_prep" / "tracks" / f"{track}.toml")


@cache
def _dataset(track: str) -> Dataset:
    return load_dataset(_declared(track).data.source, folder=Path(), cache=Path())


_ONE, _EIGHT = Request(1 / 480), Request(8 / 480)  # of digits: more at once hit every shard and block
_MANY = [*(Request(share) for share in (0.01, 0.05, 0.2)), *(Request(share, "class") for share in (0.01, 0.05))]

# Family of methods -> its problems, and the requests that are made on each.
PROBLEMS = {
    "convex": (Problem("digits-linear"), Problem("breast-cancer", Model(name="linear"))),
    "trees": (Problem("digits-forest"), Problem("breast-cancer", Model(name="forest", trees=20, depth=8))),
    "nets": (Problem("digits-few"),),
}
REQUESTS = {"convex": _MANY, "trees": [_ONE, *_MANY], "nets": [_ONE, _EIGHT]}
