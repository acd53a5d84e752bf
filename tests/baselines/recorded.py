"""A baseline's run, recorded call by call, and a net that follows it with updates written out by hand."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness import loaders
from harness.loaders import Images

__all__ = ["Follower", "Recording", "Seen", "Velocity", "recorded"]

Velocity = dict[str, Tensor]  # of one optimizer with momentum, by the parameter's name


@dataclass(frozen=True)
class Call:
    """One call of a net: with which images, in which mode, and what the net was like before."""

    net: nn.Module
    images: Tensor
    is_training: bool
    has_gradient: bool
    state: dict[str, Tensor]
    trainable: set[str]


class Seen(NamedTuple):
    """A batch as the net saw it, its labels, and the images (n, ...) as they lie in the data set."""

    images: Tensor
    labels: Tensor
    stored: Tensor


@dataclass(frozen=True)
class Recording:
    """A run: what it started from, its calls of all nets, and the net it returned."""

    original: nn.Module
    sets: Mapping[str, Images]
    calls: list[Call]
    result: nn.Module

    def followers(self, count: int) -> "list[Follower]":
        """Return a follower of each of as many nets that were trained, in the order of their first calls."""
        # A call in eval mode without gradients leaves no trace: the original's outputs, or a look at their width.
        calls = [call for call in self.calls if call.is_training or call.has_gradient]
        nets = {id(call.net): call.net for call in calls}
        assert len(nets) == count
        return [Follower(self, [call for call in calls if call.net is net], net) for net in nets.values()]

    def teacher(self) -> nn.Module:
        """Return a frozen copy of the original in eval mode."""
        return copy.deepcopy(self.original).requires_grad_(False).eval()


class Follower:
    """A net of the test's own, which has to have the recorded net's state at each of its calls and at the end."""

    def __init__(self, recording: Recording, calls: list[Call], followed: nn.Module) -> None:
        self.net = copy.deepcopy(recording.original)
        self.sets = recording.sets
        self.calls = calls
        self.followed = followed

    def next_call(self) -> Call:
        """Return the next call, of the state that this net has come to as well."""
        assert self.calls, "the recorded run ended here"
        call = self.calls.pop(0)
        self.compare(call.state)
        self.net.train(call.is_training)
        return call

    def one_pass(
        self, name: str, size: int = 64, *, count: int | None = None, training: bool = True, gradient: bool = True
    ) -> Iterator[Seen]:
        """Yield the batches of a pass over a set, or over as many of its examples; each is seen once at most.

        size: of the batches; the last one may be smaller. training, gradient: the mode that the net has to be in.
        """
        left, seen = count or len(self.sets[name]), set[int]()
        while left:
            call = self.next_call()
            assert len(call.images) == min(size, left)
            assert (call.is_training, call.has_gradient) == (training, gradient)
            left -= len(call.images)
            indices = self.indices(name, call.images)
            assert seen.isdisjoint(indices)
            seen.update(indices)
            stored = self.sets[name]
            yield Seen(call.images, stored.labels[indices], stored.inputs[indices])
        assert count or len(seen) == len(self.sets[name])

    def indices(self, name: str, images: Tensor) -> list[int]:
        """Return where images lie in a set, those with a little noise as well."""
        distances = torch.cdist(images.flatten(1), self.sets[name].inputs.flatten(1))
        assert distances.min(dim=1).values.max() < 0.1, f"not from the {name} set"
        return distances.argmin(dim=1).tolist()

    def differing(self) -> set[str]:
        """Return the names of the parameters that the recorded net has other values of at its next call."""
        state = self.calls[0].state
        return {name for name, value in self.net.named_parameters() if not torch.allclose(value, state[name])}

    @torch.no_grad()
    def redrawn(self, names: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Take over what the recorded net has of some parameters at its next call; return old and new values."""
        values = dict(self.net.named_parameters())
        pairs = {name: (values[name].clone(), self.calls[0].state[name].clone()) for name in names}
        for name, (_, new) in pairs.items():
            values[name].copy_(new)
        return pairs

    def descend(
        self,
        loss: Tensor,
        velocity: Velocity,
        rate: float,
        *,
        decay: float = 5e-4,
        trained: set[str] | None = None,
        factors: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Make one update of gradient descent with momentum 0.9.

        trained: the names of the parameters that move; None: all. factors: of the gradients of some.
        """
        values = {name: value for name, value in self.net.named_parameters() if trained is None or name in trained}
        gradients = torch.autograd.grad(loss, list(values.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(values.items(), gradients, strict=True):
                slope = gradient * (factors or {}).get(name, 1.0) + decay * value
                velocity[name] = 0.9 * velocity[name] + slope if name in velocity else slope
                value.sub_(rate * velocity[name])

    def compare(self, state: Mapping[str, Tensor]) -> None:
        """Raise AssertionError unless a state is that of this net, buffers included."""
        torch.testing.assert_close(dict(self.net.state_dict()), dict(state))

    def end(self) -> None:
        """Compare the recorded net, after its last call, with this one."""
        assert not self.calls, f"{len(self.calls)} more calls"
        self.compare(self.followed.state_dict())


def recorded(unlearn: Callable[..., Any], net: nn.Module, sets: Mapping[str, Images], batch_size: int) -> Recording:
    """Run a baseline on a retain, a forget and a val set, as a submission is run, and record all calls of nets."""
    original = copy.deepcopy(net)
    calls: list[Call] = []

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        state = {name: value.clone() for name, value in module.state_dict().items()}
        trainable = {name for name, value in module.named_parameters() if value.requires_grad}
        calls.append(
            Call(module, inputs[0].detach().clone(), module.training, torch.is_grad_enabled(), state, trainable)
        )

    net.register_forward_pre_hook(note)  # copies of the net, made by a baseline, have it too
    place = torch.device("cpu")
    three = [loaders.loader(sets[name], batch_size=batch_size, device=place) for name in ("retain", "forget", "val")]
    return Recording(original, sets, calls, unlearn(net, *three))
