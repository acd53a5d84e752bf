"""Source models of the transfer study: their images, how they are trained and unlearned, and what they are worth.

A source model classifies the images of all classes but the target's. Its worth is the accuracy on the target of a
linear probe: logistic regression on its features, which stay as they are. Images are averaged over 2x2 pixels.
"""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.baseline_module import baseline_module
from data_prep.batches import augmented, draw_shifts
from data_prep.datasets import load_dataset
from data_prep.training import initial_net
from data_prep.training import train as train_model
from harness.accelerator import of
from harness.contract import Batch
from harness.errors import UsageError
from harness.loaders import Images, loader, to_inputs
from harness.models import build
from harness.tracks.declaration import Training

__all__ = [
    "Draw",
    "Pictures",
    "Protocol",
    "Worth",
    "draw",
    "read_pictures",
    "source_accuracy",
    "trained",
    "unlearned",
    "untrained",
    "worth",
]

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
AVERAGED = 2  # pixels either way
AT_ONCE = 1000  # images, where nothing is trained


@dataclass(frozen=True)
class Protocol:
    """The sizes of the study."""

    target: tuple[str, str] = ("cat", "dog")
    removed: tuple[str, ...] = ()  # source classes in the order of their removal; none: the three most harmful ones
    images: int = 400  # of each source class
    probe_images: int = 200  # of the target, to train one probe
    probes: int = 20  # of every model, on images of their own each; their accuracies are averaged
    epochs: int = 32
    width: int = 8
    seeds: int = 10
    influence_models: int = 40  # trained on half of the source classes

    @property
    def recipe(self) -> Training:
        """How source models are trained."""
        return Training(epochs=self.epochs, batch_size=64, learning_rate=0.1, augment=True)


@dataclass(frozen=True)
class Pictures:
    """A data set as inputs (n, 3, height, width) float32 and labels (n,) int64; the test set comes last."""

    inputs: Tensor
    labels: Tensor
    n_train: int  # images before the test set
    names: tuple[str, ...]

    def class_of(self, name: str) -> int:
        """Return the number of a class. Raises UsageError if there is none of that name."""
        if name not in self.names:
            raise UsageError(f"there is no class {name!r}; name one of {', '.join(self.names)}")
        return self.names.index(name)

    def sources(self, protocol: Protocol) -> list[int]:
        """Return the classes that are not the target's. Raises UsageError for one to remove that is not among them."""
        target = [self.class_of(name) for name in protocol.target]
        if len(set(target)) < len(target):
            raise UsageError("the target takes two different classes")
        sources = [one for one in range(len(self.names)) if one not in target]
        for name in protocol.removed:
            if self.class_of(name) in target:
                left = ", ".join(self.names[one] for one in sources)
                raise UsageError(f"{name} is the target and cannot be removed from the source; name one of {left}")
        return sources

    def rows(self, label: int, *, test: bool = False) -> np.ndarray:
        """Return where the images of a class are, in one of the halves."""
        start, end = (self.n_train, None) if test else (0, self.n_train)
        return start + np.flatnonzero(self.labels[start:end] == label)


class Draw(NamedTuple):
    """The images that belong to a seed, as rows of the data set."""

    source: dict[int, np.ndarray]  # class -> (images,)
    target: np.ndarray  # (probes, probe_images), both classes alike in each


class Worth(NamedTuple):
    """What a model is worth on the target, means over its probes."""

    accuracy: float  # percent, on the target's test images
    margin: float  # logit of the right class less the other's, on training images that its probe has not seen


def read_pictures(data: Path | None, cache: Path) -> Pictures:
    """Return CIFAR-10, averaged. Raises UsageError and MachineError as `load_dataset` does."""
    dataset = load_dataset("torchvision:CIFAR10", folder=Path(), cache=cache, copy=data)
    pixels = to_inputs(dataset.examples.images, scale=255, mean=MEAN, std=STD)
    inputs = nn.functional.avg_pool2d(pixels, AVERAGED)
    names = dataset.class_names or tuple(map(str, range(dataset.n_classes)))
    return Pictures(inputs, torch.from_numpy(dataset.examples.labels), len(inputs) - dataset.n_test, names)


def draw(pictures: Pictures, protocol: Protocol, seed: int) -> Draw:
    """Return the images of a seed. Raises UsageError if there are too few."""
    generator = np.random.default_rng(seed)
    source = {label: _some(pictures, label, protocol.images, generator) for label in sorted(pictures.sources(protocol))}
    half = protocol.probe_images // 2
    targets = [
        _some(pictures, pictures.class_of(name), protocol.probes * half, generator).reshape(protocol.probes, half)
        for name in protocol.target
    ]
    return Draw(source, np.concatenate(targets, axis=1))


def _some(pictures: Pictures, label: int, count: int, generator: np.random.Generator) -> np.ndarray:
    rows = pictures.rows(label)
    if len(rows) < count:
        raise UsageError(f"there are {len(rows)} images of {pictures.names[label]}, and {count} are needed")
    return generator.choice(rows, count, replace=False)


# ---- models -------------------------------------------------------------------------------------------------------


def trained(
    pictures: Pictures, protocol: Protocol, drawn: Draw, classes: Sequence[int], seed: int
) -> tuple[nn.Module, dict[str, float]]:
    """Return a model trained on some source classes, and what it took."""
    inputs, labels = _source_set(pictures, drawn, classes)
    builder, start = partial(_build, protocol, len(drawn.source)), time.process_time()
    net = train_model(builder, inputs, labels, protocol.recipe, seed=seed, channels_last=True)
    return net, _cost(start, protocol.epochs, len(labels), protocol)


def unlearned(
    net: nn.Module,
    pictures: Pictures,
    protocol: Protocol,
    drawn: Draw,
    classes: Sequence[int],
    *,
    constants: Mapping[str, object],
    epochs: int,
    seed: int,
) -> tuple[nn.Module, dict[str, float]]:
    """Return a copy of a model after so many epochs of l1_sparse.py on the classes that stay, and what it took."""
    method = baseline_module("l1_sparse", {**constants, "EPOCHS": epochs})
    images = Images(*_source_set(pictures, drawn, classes))
    retained = Augmented(loader(images, batch_size=protocol.recipe.batch_size, device=torch.device("cpu")))
    ours, start = copy.deepcopy(net), time.process_time()
    with of("cpu").seeded(seed):
        ours = method.unlearn(ours, retained, None, None)
    return ours, _cost(start, epochs, len(images), protocol)


@dataclass(frozen=True)
class Augmented:
    """A loader whose images are cropped and flipped as those of a training are."""

    batches: "DataLoader[Batch]"

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.batches:
            yield augmented(images, draw_shifts(len(images), torch.default_generator)), labels


def untrained(protocol: Protocol, drawn: Draw, seed: int) -> nn.Module:
    """Return what a source model begins with."""
    return initial_net(partial(_build, protocol, len(drawn.source)), seed).eval()


def _build(protocol: Protocol, n_classes: int) -> nn.Module:
    return build("small_resnet", n_classes=n_classes, channels=3, width=protocol.width)


def _source_set(pictures: Pictures, drawn: Draw, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of some source classes; labels count all classes of the source, whatever is left out."""
    rows = np.concatenate([drawn.source[label] for label in classes])
    numbers = torch.tensor([sorted(drawn.source).index(label) for label in classes])
    return pictures.inputs[rows], numbers.repeat_interleave(len(rows) // len(classes))


def _cost(start: float, epochs: int, n: int, protocol: Protocol) -> dict[str, float]:
    """Return seconds of the processor and the number of steps."""
    return {"seconds": time.process_time() - start, "steps": epochs * -(-n // protocol.recipe.batch_size)}


# ---- what they are worth ------------------------------------------------------------------------------------------


def worth(net: nn.Module, pictures: Pictures, protocol: Protocol, drawn: Draw) -> Worth:
    """Return what a model's features are worth on the target; the model stays as it is."""
    labels = [pictures.class_of(name) for name in protocol.target]
    test = np.concatenate([pictures.rows(label, test=True) for label in labels])
    seen, tested = (features(net, pictures.inputs[rows]) for rows in (drawn.target.ravel(), test))
    is_second = np.asarray(pictures.labels == labels[1])
    of_seen, of_tested = is_second[drawn.target.ravel()], is_second[test]
    accuracies, margins = [], []
    for own in np.arange(len(seen)).reshape(drawn.target.shape):
        others = np.setdiff1d(np.arange(len(seen)), own)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(seen[own], of_seen[own])
        accuracies.append(100 * probe.score(tested, of_tested))
        margins.append(np.mean(np.where(of_seen[others], 1, -1) * probe.decision_function(seen[others])))
    return Worth(float(np.mean(accuracies)), float(np.mean(margins)))


def features(net: nn.Module, inputs: Tensor) -> np.ndarray:
    """Return what the last layer of a model is given, (n, features) float64, in eval mode."""
    body = copy.deepcopy(net).eval()
    body.fc = nn.Identity()
    with torch.no_grad():
        return np.concatenate([body(some).double().numpy() for some in inputs.split(AT_ONCE)])


def source_accuracy(net: nn.Module, pictures: Pictures, drawn: Draw, classes: Sequence[int]) -> float | None:
    """Return a model's accuracy on the test images of some source classes, in percent; None for no class."""
    if not classes:
        return None
    right = []
    with torch.no_grad():
        for label in classes:
            inputs = pictures.inputs[pictures.rows(label, test=True)]
            predicted = torch.cat([net(some).argmax(dim=1) for some in inputs.split(AT_ONCE)])
            right.append((predicted == sorted(drawn.source).index(label)).double().mean())
    return 100 * float(torch.stack(right).mean())
