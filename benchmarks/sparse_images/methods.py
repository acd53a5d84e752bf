"""The paper's methods: files of baselines/ with some constants set, at the paper's settings and at tuned ones.

Pruned weights stay zero under every method, since each weight of a convolution is multiplied by its mask, as in the
paper's code: a method never sees a gradient of what is pruned.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.utils import parametrize

from benchmarks.baseline_module import baseline_module
from benchmarks.sparse_images.models import Metrics, Models
from benchmarks.sparse_images.protocol import Cell, Sets
from data_prep.training import Weights
from harness.accelerator import of
from harness.loaders import loader

__all__ = ["METHODS", "SCHEDULES", "SETTINGS", "Method", "Tuned", "arms_of", "constants_of", "measured", "unlearned"]

ARM_SEED = 2000
SETTINGS = ("published", "tuned")


@dataclass(frozen=True)
class Method:
    """A file, and the constant of it that is tuned: as many values for each method, the published one first."""

    file: str
    tuned: str
    values: tuple[float, ...]
    constants: dict[str, object] = field(default_factory=dict)


METHODS = {
    "FT": Method("l1_sparse", "LEARNING_RATE", (0.01, 0.03, 0.05, 0.1), {"GAMMA": 0.0}),
    "GA": Method("gradient_ascent", "LEARNING_RATE", (1e-4, 2e-4, 3e-4, 5e-4)),
    "FF": Method("fisher_forgetting", "ALPHA", (1e-7, 1e-5, 3e-5, 1e-4)),
    "IU": Method("influence_unlearning", "ALPHA", (1.0, 3.0, 6.0, 10.0)),
}
# Of l1-sparse, on dense originals. Tuned, they have the rate that was found for FT, so that all that differs is the
# penalty; each schedule has a weight of its own, since a growing penalty is half of a constant one.
SCHEDULES = {
    f"l1-sparse, {schedule}": Method("l1_sparse", "GAMMA", (1e-4, 3e-4, 1e-3, 3e-3), {"SCHEDULE": schedule})
    for schedule in ("constant", "growing", "decaying")
}
Tuned = dict[str, float]  # method -> value, of one scenario


def arms_of(cell: Cell) -> dict[str, Method]:
    """Return the methods of a cell: all where it is pruned by OMP, and schedules where nothing is pruned."""
    if cell.pruner != "omp":
        return {"FT": METHODS["FT"]}
    if cell.sparsity:
        return METHODS
    return METHODS | {name: one for name, one in SCHEDULES.items() if cell.scenario == "random" or "decaying" in name}


def constants_of(name: str, value: float, tuned: Tuned | None) -> dict[str, object]:
    """Return the constants of a method with a value of the one that is tuned; tuned: None at the paper's settings."""
    method = (METHODS | SCHEDULES)[name]
    rate = {"LEARNING_RATE": tuned["FT"]} if name in SCHEDULES and tuned else {}
    return {**method.constants, **rate, method.tuned: value}


def unlearned(
    models: Models, original: Weights, sets: Sets, name: str, constants: dict[str, object]
) -> tuple[nn.Module, float]:
    """Return what a method makes of an original, in eval mode, and the seconds it took.

    Seconds are the processor's, and those of the clock on a GPU.
    """
    device = of(models.device)
    clock = time.perf_counter if device.is_gpu else time.process_time
    method = baseline_module((METHODS | SCHEDULES)[name].file, constants)
    batch_size = models.protocol.recipe.batch_size
    retain, forget = (loader(one, batch_size=batch_size, device=models.place) for one in (sets.retain, sets.forget))
    net = models.net(original)
    with device.seeded(ARM_SEED + models.seed), _masked(net):
        start = clock()
        method.unlearn(net, retain, forget, None)
        device.synchronize()
        seconds = clock() - start
    return net.eval(), seconds


def measured(models: Models, original: Weights, sets: Sets, name: str, constants: dict[str, object]) -> Metrics:
    """Return the metrics of what a method makes of an original, and the seconds it took."""
    net, seconds = unlearned(models, original, sets, name, constants)
    return {**models.measured(net, sets), "seconds": seconds}


class _Mask(nn.Module):
    """What makes a weight of its values and a mask."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@contextlib.contextmanager
def _masked(net: nn.Module) -> Iterator[None]:
    """Keep weights of convolutions zero that are, within the block."""
    pruned = [one for one in net.modules() if isinstance(one, nn.Conv2d) and bool((one.weight == 0).any())]
    for layer in pruned:
        parametrize.register_parametrization(layer, "weight", _Mask((layer.weight != 0).to(layer.weight)))
    yield
    for layer in pruned:
        parametrize.remove_parametrizations(layer, "weight")
