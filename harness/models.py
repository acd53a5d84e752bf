"""Architectures by name: torchvision's, a ResNet-18 for small images, a small residual network, and three for vectors.

Trusted code and the process that runs a submission both build their networks here, so this file imports torch and
torchvision only, and the latter where it is needed: it loads torch's compiler, more than a second's work.
"""

import hashlib
import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

__all__ = [
    "FEWEST_STRIDED",
    "FOR_VECTORS",
    "WRAPPERS",
    "Forest",
    "Linear",
    "Perceptron",
    "SlicedConvolution",
    "SmallResNet",
    "build",
    "own_file",
    "qualified_name",
    "resnet18_cifar",
]

# Wrappers of torch's own that compute just what the net in them computes, by class: under which name the net is, and
# what else they hold.
WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": ("module", ()),
    "torch.nn.parallel.distributed.DistributedDataParallel": ("module", ()),
    "torch._dynamo.eval_frame.OptimizedModule": ("_orig_mod", ()),  # of torch.compile
    "torch.optim.swa_utils.AveragedModel": ("module", ("n_averaged",)),
}

FEWEST_STRIDED = 8  # channels of a 1x1 convolution with a stride: see SlicedConvolution
_executing = threading.Lock()


def build(
    name: str,
    *,
    n_classes: int,
    channels: int,
    width: int | None = None,
    options: Mapping[str, Any] | None = None,
    folder: Path = Path(),
) -> nn.Module:
    """Return a freshly initialised network for images (n, channels, height, width).

    name: `small_resnet`, `resnet18_cifar`, one of FOR_VECTORS, any classification model of torchvision, or
    FILE.py:FUNCTION for a function of a file in the folder that takes n_classes and channels.
    options: what a model of FOR_VECTORS takes besides n_classes.
    Raises ValueError for a name nobody knows or an option the architecture does not have, and what a function raises.
    """
    if width is not None and name != "small_resnet":
        raise ValueError(f"the model {name!r} takes no width; only small_resnet does")
    if (file := own_file(name)) is not None:
        net = _own(folder / file, name.partition(":")[2])(n_classes=n_classes, channels=channels)
        if not isinstance(net, nn.Module):
            raise ValueError(f"{name} returned {type(net).__name__}, not a torch.nn.Module")
        return _unwrapped(net)
    own: dict[str, Callable[..., nn.Module]] = {"small_resnet": SmallResNet, "resnet18_cifar": resnet18_cifar}
    if name in FOR_VECTORS:
        return FOR_VECTORS[name](n_classes=n_classes, **(options or {}))
    if name in own:
        return own[name](n_classes=n_classes, channels=channels, **({} if width is None else {"width": width}))
    import torchvision

    if name not in torchvision.models.list_models(torchvision.models):
        known = ", ".join([*FOR_VECTORS, *own])
        raise ValueError(f"no model is called {name!r}; use {known} or a torchvision model such as resnet18")
    if channels != 3:
        raise ValueError(f"torchvision's {name} takes colour images (3 channels), the data have {channels}")
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_classes)
    return network


def qualified_name(module: nn.Module) -> str:
    """Return how the class of a module is called, its module included."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _unwrapped(net: nn.Module) -> nn.Module:
    while (wrapper := qualified_name(net)) in WRAPPERS:
        net = getattr(net, WRAPPERS[wrapper][0])
    return net


def own_file(name: str) -> str | None:
    """Return the file of an architecture FILE.py:FUNCTION, None for one that is known by its name."""
    file, separator, _ = name.partition(":")
    return file if separator and file.endswith(".py") else None


def _own(file: Path, function: str) -> Callable[..., nn.Module]:
    """Return a function of a track's own file, which its author wrote and the harness trusts."""
    if not file.is_file():
        raise ValueError(f"no file {file.name} beside the declaration")
    module = _module(file, file.read_bytes())
    if not hasattr(module, function):
        raise ValueError(f"{file.name} has no function {function}")
    found: Callable[..., nn.Module] = getattr(module, function)
    try:
        inspect.signature(found).bind(n_classes=2, channels=1)
    except TypeError as error:
        raise ValueError(f"{file.name}: {function} must be def {function}(n_classes, channels): {error}") from None
    return found


def _module(file: Path, source: bytes) -> ModuleType:
    """Return a file as a module that is executed once in a process, so that all nets are of the same classes.

    It is known to pickle and dataclasses. No byte code is written beside it: its folder is part of a track.
    """
    file = file.absolute()
    name = f"{file.stem}_{hashlib.sha256(bytes(file) + source).hexdigest()[:12]}"
    with _executing:
        if name not in sys.modules:
            module = sys.modules[name] = ModuleType(name)
            module.__file__ = str(file)
            try:
                exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


def resnet18_cifar(*, n_classes: int, channels: int = 3) -> nn.Module:
    """Return torchvision's ResNet-18 with a 3x3 stem and no max-pooling, as is usual for 32x32 images."""
    import torchvision

    network: nn.Module = torchvision.models.resnet18(weights=None, num_classes=n_classes)
    network.conv1 = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


class SmallResNet(nn.Module):
    """A residual network of three stages with one block each, under torchvision's layer names.

    width 8 has 20 thousand parameters, width 16 has 78 thousand. Initialised as torchvision's ResNets are.
    """

    def __init__(self, *, n_classes: int, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = Block(width, width)
        self.layer2 = Block(width, 2 * width, stride=2)
        self.layer3 = Block(2 * width, 4 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (n, n_classes) for images (n, channels, height, width)."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(features), 1))
        return logits


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, as torchvision's BasicBlock."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        shortcut = None if stride == 1 else _shortcut(inputs, outputs, stride)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (n, outputs, height / stride, width / stride) for inputs (n, inputs, height, width)."""
        outputs: torch.Tensor = self.relu(self.bn1(self.conv1(inputs)))
        outputs = self.bn2(self.conv2(outputs))
        outputs += inputs if self.downsample is None else self.downsample(inputs)
        activated: torch.Tensor = self.relu(outputs)
        return activated


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    kind = nn.Conv2d if inputs >= FEWEST_STRIDED else SlicedConvolution
    return nn.Sequential(kind(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class SlicedConvolution(nn.Conv2d):
    """A 1x1 convolution with a stride that takes the pixels it looks at first: the same values.

    oneDNN's kernel for processors with AVX2 alone writes beyond its memory where a strided one has few channels
    (`jit_1x1:avx2`, weights backward, channels last; torch 2.14 with oneDNN 3.12).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (n, outputs, height / stride, width / stride) for (n, inputs, height, width)."""
        rows, columns = self.stride
        return nn.functional.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


# ---- for vectors: an example is so many values, whatever its shape ---------------------------------------------------


class Linear(nn.Module):
    """A linear classifier, whose loss is convex: on the values of an example, or on fixed random features of them.

    Features are cosines (Rahimi and Recht 2007) at frequencies that are the same in every net; they are not trained.
    """

    frequencies: torch.Tensor
    phases: torch.Tensor

    def __init__(self, *, n_classes: int, inputs: int, features: int | None = None) -> None:
        super().__init__()
        self.features = features
        if features is not None:
            generator = torch.Generator().manual_seed(0)
            frequencies = torch.randn(features, inputs, generator=generator) / inputs**0.5
            self.register_buffer("frequencies", frequencies)
            self.register_buffer("phases", 2 * torch.pi * torch.rand(features, generator=generator))
        self.fc = nn.Linear(features or inputs, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (n, n_classes) for images (n, channels, height, width)."""
        values = images.flatten(1)
        if self.features is not None:
            values = (2 / self.features) ** 0.5 * torch.cos(values @ self.frequencies.T + self.phases)
        logits: torch.Tensor = self.fc(values)
        return logits


class Perceptron(nn.Module):
    """A multilayer perceptron with ReLU; `hidden` are the sizes of its hidden layers."""

    def __init__(self, *, n_classes: int, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Linear(*sizes), nn.ReLU()) for sizes in pairwise([inputs, *hidden])]
        self.hidden = nn.Sequential(*layers)
        self.fc = nn.Linear(hidden[-1], n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (n, n_classes) for images (n, channels, height, width)."""
        logits: torch.Tensor = self.fc(self.hidden(images.flatten(1)))
        return logits


class Forest(nn.Module):
    """Decision trees as arrays, each a heap: the nodes after node i are 2i + 1 and 2i + 2. Nothing of it is trained.

    An example goes to the first of them if its value `feature[i]` is at most `threshold[i]`, and stays if `feature[i]`
    is -1: at a leaf. `value` has the probabilities of the classes there; what it has for other nodes is not read.
    A new one has one leaf in each tree, where all classes are as likely.
    """

    feature: torch.Tensor  # (trees, 2^depth - 1)
    threshold: torch.Tensor  # (trees, 2^depth - 1)
    value: torch.Tensor  # (trees, 2^(depth + 1) - 1, n_classes)

    def __init__(self, *, n_classes: int, inputs: int, trees: int, depth: int) -> None:
        super().__init__()
        self.inputs, self.depth = inputs, depth
        splits, nodes = 2**depth - 1, 2 ** (depth + 1) - 1
        self.register_buffer("feature", torch.full((trees, splits), -1.0))
        self.register_buffer("threshold", torch.zeros(trees, splits))
        self.register_buffer("value", torch.zeros(trees, nodes, n_classes))
        self.value[:, 0] = 1 / n_classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return log(p + 1e-6) (n, n_classes), p the mean over trees, for images (n, channels, height, width).

        Numbers in `feature` that name no value of an example name the nearest one.
        """
        values, trees = images.flatten(1), torch.arange(len(self.feature), device=images.device)
        feature = self.feature.round().clamp(-1, self.inputs - 1).long()
        node = torch.zeros(len(values), len(trees), dtype=torch.long, device=images.device)
        for _ in range(self.depth):
            chosen = feature[trees, node]
            is_above = values.gather(1, chosen.clamp(min=0)) > self.threshold[trees, node]
            node = torch.where(chosen < 0, node, 2 * node + 1 + is_above.long())
        return (self.value[trees, node].mean(1) + 1e-6).log()


FOR_VECTORS: dict[str, Callable[..., nn.Module]] = {"linear": Linear, "mlp": Perceptron, "forest": Forest}
