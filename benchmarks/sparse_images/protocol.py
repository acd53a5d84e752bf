"""The sizes of the study, the images of a seed, and what is forgotten of them."""

from dataclasses import dataclass

import numpy as np
import torch

from data_prep.sources.dataset import Dataset
from harness.loaders import Images, to_inputs
from harness.tracks.declaration import Training
from harness.tracks.track import Examples

__all__ = ["CELLS", "PAPER", "SCENARIOS", "SMALL", "SPARSE", "SPARSITIES", "Cell", "Drawn", "Protocol", "Sets", "drawn"]

SCENARIOS = ("random", "class")
SPARSITIES = (0.0, 0.5, 0.8, 0.95)
SPARSE = SPARSITIES[-1]  # what the paper calls sparse
FORGOTTEN = 0.1  # of the training images, where they are drawn at random
FORGOTTEN_CLASS = 0
SCALE, MEAN, STD = 255.0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Protocol:
    """How many images of which size, which net, and how it is trained and pruned."""

    train: int  # images of each class
    test: int
    downscale: int
    model: str
    width: int | None
    recipe: Training
    rewind_epoch: int  # what is left by OMP and IMP goes back to its weights after this epoch
    imp_rounds: int  # each prunes the same share of what is left


SMALL = Protocol(
    train=400,
    test=200,
    downscale=2,
    model="small_resnet",
    width=8,
    recipe=Training(epochs=40, batch_size=64, learning_rate=0.1),
    rewind_epoch=5,
    imp_rounds=5,  # 45 % of what is left
)
PAPER = Protocol(
    train=4500,
    test=1000,
    downscale=1,
    model="resnet18_cifar",
    width=None,
    recipe=Training(epochs=182, batch_size=256, learning_rate=0.1, schedule="step", milestones=[91, 136], augment=True),
    rewind_epoch=8,
    imp_rounds=14,  # 20 %
)


@dataclass(frozen=True)
class Cell:
    """What is forgotten, and how the original is pruned."""

    scenario: str
    pruner: str  # omp, synflow or imp
    sparsity: float

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.pruner}-{round(100 * self.sparsity)}"


CELLS = (
    *(Cell("random", "omp", sparsity) for sparsity in SPARSITIES),
    *(Cell("class", "omp", sparsity) for sparsity in (0.0, SPARSE)),
    *(Cell("random", pruner, SPARSE) for pruner in ("synflow", "imp")),
)


@dataclass(frozen=True)
class Sets:
    """The data sets of a scenario."""

    retain: Images
    forget: Images
    test: Images  # without the forgotten class where one is


@dataclass(frozen=True)
class Drawn:
    """The images of a seed."""

    train: Examples
    test: Examples
    chosen: np.ndarray  # (n,) bool: the training images that are forgotten at random

    def sets(self, scenario: str) -> Sets:
        """Return the data sets of a scenario."""
        if scenario == "random":
            return Sets(_images(self.train[~self.chosen]), _images(self.train[self.chosen]), _images(self.test))
        is_gone, is_tested = self.train.labels == FORGOTTEN_CLASS, self.test.labels != FORGOTTEN_CLASS
        return Sets(_images(self.train[~is_gone]), _images(self.train[is_gone]), _images(self.test[is_tested]))

    @property
    def all(self) -> Images:
        """What originals are trained on."""
        return _images(self.train)


def drawn(dataset: Dataset, protocol: Protocol, seed: int) -> Drawn:
    """Draw as many images of every class for training and for testing, and a tenth of the former to forget."""
    generator, labels = np.random.default_rng(seed), dataset.examples.labels
    n_train = len(labels) - dataset.n_test
    train = _of_each_class(labels[:n_train], protocol.train, generator)
    test = n_train + _of_each_class(labels[n_train:], protocol.test, generator)
    chosen = np.zeros(len(train), dtype=bool)
    chosen[generator.permutation(len(train))[: round(FORGOTTEN * len(train))]] = True
    return Drawn(dataset.examples[train], dataset.examples[test], chosen)


def _of_each_class(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    of_each = [generator.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)]
    return np.concatenate(of_each)


def _images(examples: Examples) -> Images:
    return Images(to_inputs(examples.images, scale=SCALE, mean=MEAN, std=STD), torch.from_numpy(examples.labels))
