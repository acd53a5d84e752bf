"""Measures one method on one request: what it takes, and how far it is from a model that was trained again.

The original is trained on all examples, and unlearns. Its twin is trained without them from the same seed, and a second
model from another: how far these two are apart is what two trainings differ by anyway.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.comparison.problems import Problem, Request, Sets
from data_prep.forests import fit_forests
from data_prep.training import Trainer, initial_net
from harness.accelerator import of
from harness.loaders import Images, loader

__all__ = ["Method", "measured"]

AGAIN = 500_000  # more than the seed of the original
CPU = torch.device("cpu")

Nets = Sequence[nn.Module]
State = dict[str, Tensor]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Method:
    """A way to unlearn, and to learn if the track's recipe does not do."""

    unlearn: Callable[..., Any]
    train: Callable[[nn.Module, Any, Any], Any] | None = None


@dataclass(frozen=True)
class Drawn:
    """A request of a problem, as a seed draws it."""

    problem: Problem
    request: Request
    seed: int

    @cached_property
    def sets(self) -> Sets:
        return self.problem.drawn(self.request, self.seed)


def measured(method: Method, problem: Problem, request: Request, seed: int) -> dict[str, float]:
    """Return what a method does on one request.

    Seconds are the processor's. efficiency: those of training the twin over those of unlearning. effectiveness and
    accdis: differences to the twin, of the accuracy on the test set in points, and on the forgotten examples as
    |a - b| / (a + b) in percent. distance, agreement, kl: to the twin; with _again those between two trainings.
    """
    drawn = Drawn(problem, request, seed)
    sets = drawn.sets
    (original, state), training = _trained(method, drawn, "train", seed)
    (twin, _), retraining = _trained(method, drawn, "retain", seed)
    (again, _), _ = _trained(method, drawn, "retain", seed + AGAIN)
    with of("cpu").seeded(seed):
        unlearned, unlearning = _seconds(lambda: _unlearned(method, problem, sets, original, state))
    return {
        "forgotten": len(sets.forget),
        "training_share": training / ordinary_seconds(problem, seed),
        "state_mb": sum(value.numel() * value.element_size() for value in state.values()) / 2**20,
        "seconds": unlearning,
        "seconds_twin": retraining,
        "efficiency": retraining / unlearning,
        "effectiveness": abs(_accuracy(unlearned, sets.test) - _accuracy(twin, sets.test)),
        "accdis": _accdis(_accuracy(unlearned, sets.forget), _accuracy(twin, sets.forget)),
        "exact": float(_distance(unlearned, twin) == 0),
        **_apart(unlearned, twin, sets.test, ""),
        **_apart(again, twin, sets.test, "_again"),
    }


# ---- models -------------------------------------------------------------------------------------------------------


@cache
def ordinary_seconds(problem: Problem, seed: int) -> float:
    """Return the seconds of a training by the track's recipe, on the training set that all requests of a seed share."""
    return by_recipe(Drawn(problem, Request(0), seed), "train", seed)[1]


@cache  # methods that keep nothing start from the same models
def by_recipe(drawn: Drawn, part: str, seed: int) -> tuple[dict[str, Tensor], float]:
    """Return the weights of a model trained by the track's recipe on a part of the sets, and its seconds."""
    problem, images = drawn.problem, getattr(drawn.sets, part)
    if problem.declared.model.is_forest:
        return _seconds(lambda: fit_forests(problem.build, images.inputs, images.labels, [seed])[0])
    trainer = Trainer(problem.build, images.inputs, images.labels, problem.declared.training)
    return _seconds(lambda: trainer.train([seed])[0])


def _trained(method: Method, drawn: Drawn, part: str, seed: int) -> tuple[tuple[Nets, State], float]:
    """Return what `train` left, as the harness would call it on a part of the sets, and its seconds."""
    problem, sets = drawn.problem, drawn.sets
    net = initial_net(problem.build, seed).train()
    if method.train is None:
        weights, seconds = by_recipe(drawn, part, seed)
        net.load_state_dict(weights)
        return ([net.eval()], {}), seconds
    with of("cpu").seeded(seed):
        call = partial(method.train, net, _loader(problem, getattr(sets, part)), _loader(problem, sets.val))
        left, seconds = _seconds(call)
    found, state = left if isinstance(left, tuple) else (left, {})
    tensors = {name: torch.as_tensor(value).clone() for name, value in state.items()}
    return (_nets(net if found is None else found), tensors), seconds


def _unlearned(method: Method, problem: Problem, sets: Sets, original: Nets, state: State) -> Nets:
    nets = [_copy(problem, net) for net in original]
    given = nets[0] if len(nets) == 1 else nets
    loaders = (_loader(problem, images) for images in (sets.retain, sets.forget, sets.val))
    found = method.unlearn(given, *loaders, {name: value.clone() for name, value in state.items()})
    found = found[0] if isinstance(found, tuple) else found
    return _nets(given if found is None else found)


def _nets(found: Any) -> Nets:
    nets = list(found) if isinstance(found, list | tuple) else [found]
    return [net.float().eval() for net in nets]  # as they travel in the harness


def _copy(problem: Problem, net: nn.Module) -> nn.Module:
    copy = problem.build()
    copy.load_state_dict(net.state_dict())
    return copy.eval()


def _loader(problem: Problem, images: Images) -> Any:
    return loader(images, batch_size=problem.declared.training.batch_size, device=CPU)


def _seconds(call: Callable[[], Found]) -> tuple[Found, float]:
    started = time.process_time()
    found = call()
    return found, time.process_time() - started


# ---- distances ----------------------------------------------------------------------------------------------------


def _apart(nets: Nets, twin: Nets, test: Images, ending: str) -> dict[str, float]:
    """Return how far two models are apart in weights, predicted classes (percent that agree), and probabilities."""
    ours, theirs = _probabilities(nets, test), _probabilities(twin, test)
    divergence = (ours * ((ours + 1e-12) / (theirs + 1e-12)).log()).sum(1).mean()
    agreement = 100 * (ours.argmax(1) == theirs.argmax(1)).double().mean()
    found = {"distance": _distance(nets, twin), "agreement": float(agreement), "kl": float(divergence)}
    return {f"{name}{ending}": value for name, value in found.items()}


def _distance(nets: Nets, twin: Nets) -> float:
    return float((_weights(nets) - _weights(twin)).norm())


def _weights(nets: Nets) -> Tensor:
    values = [value for net in nets for value in net.state_dict().values() if value.is_floating_point()]
    return torch.cat([value.flatten().double() for value in values])


@torch.inference_mode()
def _probabilities(nets: Nets, images: Images) -> Tensor:
    """Return the mean of the nets' probabilities, (n, n_classes)."""
    return torch.stack([net(images.inputs).double().softmax(1) for net in nets]).mean(0)


def _accuracy(nets: Nets, images: Images) -> float:
    """Return the accuracy in percent."""
    return 100 * float((_probabilities(nets, images).argmax(1) == images.labels).double().mean())


def _accdis(ours: float, theirs: float) -> float:
    """Return the symmetric difference of two accuracies in percent; 0 where both are 0."""
    return 100 * abs(ours - theirs) / (ours + theirs) if ours + theirs else 0.0
