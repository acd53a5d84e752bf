"""Architectures by name: torchvision's, a ResNet-18 for small images, and a small residual network for the CPU.

Trusted code and the process that runs a submission both build their networks here, so this file imports torch and
torchvision only, and the latter where it is needed: it loads torch's compiler, more than a second's work.
"""

import hashlib
import inspect
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

__all__ = ["WRAPPERS", "SmallResNet", "build", "own_file", "qualified_name", "resnet18_cifar"]

# Wrappers of torch's own that compute just what the net in them computes, by class: under which name the net is, and
# what else they hold.
WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": ("module", ()),
    "torch.nn.parallel.distributed.DistributedDataParallel": ("module", ()),
    "torch._dynamo.eval_frame.OptimizedModule": ("_orig_mod", ()),  # of torch.compile
    "torch.optim.swa_utils.AveragedModel": ("module", ("n_averaged",)),
}

_executing = threading.Lock()


def build(name: str, *, n_classes: int, channels: int, width: int | None = None, folder: Path = Path()) -> nn.Module:
    """Return a freshly initialised network for images (n, channels, height, width).

    name: `small_resnet`, `resnet18_cifar`, any classification model of torchvision, or FILE.py:FUNCTION for a function
    of a file in the folder that takes n_classes and channels.
    Raises ValueError for a name nobody knows or an option the architecture does not have, and what a function raises.
    """
    if (file := own_file(name)) is not None:
        net = _own(folder / file, name.partition(":")[2])(n_classes=n_classes, channels=channels)
        if not isinstance(net, nn.Module):
            raise ValueError(f"{name} returned {type(net).__name__}, not a torch.nn.Module")
        return _unwrapped(net)
    own: dict[str, Callable[..., nn.Module]] = {"small_resnet": SmallResNet, "resnet18_cifar": resnet18_cifar}
    options = {} if width is None else {"width": width}
    if options and name != "small_resnet":
        raise ValueError(f"the model {name!r} takes no width; only small_resnet does")
    if name in own:
        return own[name](n_classes=n_classes, channels=channels, **options)
    import torchvision

    if name not in torchvision.models.list_models(torchvision.models):
        raise ValueError(f"no model is called {name!r}; use {', '.join(own)} or a torchvision model such as resnet18")
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
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm2d(outputs),
    )
