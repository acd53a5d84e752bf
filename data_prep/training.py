"""Trains originals and retrained models: one alone, or many small ones stacked into a single network.

Small networks are bound by the overhead of each call, not by arithmetic. On a CPU 32 of them stacked (`torch.func.vmap`
over stacked parameters) take about a third of the time per model and step. On a GPU a whole step, from the choice of
examples to the optimizer, is captured once as a CUDA graph and then repeated with one call, by every model that a
process trains. Every model has its own initial weights and its own order of examples, both drawn from its own seed,
the same whatever it is trained with.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from data_prep.batches import TrainingBatch, epochs_of
from harness.accelerator import Accelerator, of
from harness.loaders import to_inputs
from harness.tracks.declaration import Training
from harness.tracks.track import Track

__all__ = ["NO_MEMORY", "Build", "Trainer", "Weights", "initial_net", "train", "train_stack", "training_set"]

Build = Callable[[], nn.Module]
Weights = dict[str, Tensor]
NO_MEMORY = (
    "memory ran out while models were trained; what is done is kept: run the command again "
    "with fewer at once (--jobs), or end what else uses the memory"
)


def training_set(track: Track, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return inputs (n, channels, height, width) and labels (n,) of some of a track's sets, one after the other."""
    data, sets = track.declaration.data, [track.examples(name) for name in names]
    pixels = np.concatenate([examples.images for examples in sets])
    labels = np.concatenate([examples.labels for examples in sets])
    return to_inputs(pixels, scale=data.scale, mean=data.mean, std=data.std), torch.from_numpy(labels)


def train(
    build: Build,
    images: Tensor,
    labels: Tensor,
    recipe: Training,
    *,
    seed: int,
    epochs: int | None = None,
    mixed: bool = False,
    channels_last: bool = False,
    on_epoch: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train one model step by step, as a participant would, and return it in eval mode on the device of the images.

    images: (n, channels, height, width) float32. labels: (n,) int64. epochs, mixed, channels_last: as in `Trainer`.
    """
    device = "cuda" if images.is_cuda else "cpu"
    trainer = Trainer(
        build, images, labels, recipe, mixed=mixed, channels_last=channels_last, device=device, is_captured=False
    )
    trainer.train([seed], epochs=epochs, on_epoch=on_epoch)
    assert isinstance(trainer.models, _Alone)
    return trainer.models.net.eval()


def train_stack(
    build: Build,
    images: Tensor,
    labels: Tensor,
    recipe: Training,
    *,
    seeds: Sequence[int],
    initial: Sequence[Weights] | None = None,
    masks: Sequence[Weights] | None = None,
    first_epoch: int = 0,
    epochs: int | None = None,
    mixed: bool = False,
    channels_last: bool = False,
    device: str = "cpu",
    on_epoch: Callable[[], None] = lambda: None,
) -> list[Weights]:
    """Train one model per seed, all at once, and return their weights in the order of the seeds: as `Trainer` does.

    Equal to `train` with each seed up to the rounding of the machine's arithmetic.
    """
    n_models = len(seeds)
    trainer = Trainer(
        build, images, labels, recipe, n_models=n_models, mixed=mixed, channels_last=channels_last, device=device
    )
    return trainer.train(seeds, initial=initial, masks=masks, first_epoch=first_epoch, epochs=epochs, on_epoch=on_epoch)


class Trainer:
    """Trains models of one architecture by one recipe on the same examples, so many at a time, again and again."""

    def __init__(
        self,
        build: Build,
        images: Tensor,
        labels: Tensor,
        recipe: Training,
        *,
        n_models: int = 1,
        mixed: bool = False,
        channels_last: bool = False,
        device: str = "cpu",
        is_captured: bool = True,
    ) -> None:
        """images: (n, channels, height, width) float32, labels: (n,) int64, on the device.

        mixed: one model alone computes in bfloat16 where that keeps accuracy (weights stay float32), channels last:
        faster on a GPU, and on processors that have bfloat16. channels_last: it is laid out so in float32 too.
        Several stay float32, since it is not their arithmetic that takes the time.
        is_captured: whether steps are captured where the device can.
        """
        self.build, self.images, self.labels, self.recipe = build, images, labels, recipe
        self.device: Accelerator = of(device)
        self.is_captured = is_captured and self.device.is_gpu
        class_weights = _class_weights(labels, recipe)
        self.models: _Alone | _Stacked
        if n_models == 1:
            self.models = _Alone(build, images.device, class_weights, mixed=mixed, channels_last=mixed or channels_last)
        else:
            self.models = _Stacked(build, images.device, class_weights, n_models)
        self.optimizer = _optimizer(self.models.parameters, recipe, has_tensor_rate=self.is_captured)
        self._masks: dict[str, Tensor] = {}  # by parameter; empty: nothing is pruned
        self._repeats: dict[torch.Size, _Repeat | None] = {}

    def train(
        self,
        seeds: Sequence[int],
        *,
        initial: Sequence[Weights] | None = None,
        masks: Sequence[Weights] | None = None,
        first_epoch: int = 0,
        epochs: int | None = None,
        on_epoch: Callable[[], None] = lambda: None,
    ) -> list[Weights]:
        """Train one model per seed, and return their weights on the device, in the order of the seeds.

        initial: weights to start from instead of the seeds' own. masks: 0 or 1 for every value of some parameters,
        which the training keeps at 0 where the mask is. first_epoch, epochs: train from the one epoch of the recipe up
        to the other, by default from the first to the last.
        """
        self.models.load(initial or [initial_net(self.build, seed).state_dict() for seed in seeds])
        _forget_steps(self.optimizer)
        self._set_masks(masks)
        with self.device.seeded(seeds[0]):
            for epoch in epochs_of(self.recipe, len(self.images), seeds, first_epoch, epochs, self.images.device):
                _set_rate(self.optimizer, epoch.learning_rate)
                for batch in epoch.batches:
                    self._step(batch)
                on_epoch()
        return self.models.weights()

    def _step(self, batch: TrainingBatch) -> None:
        """Make a step, by repeating a captured one if there is one of its size."""
        repeat = self._repeat_for(batch) if self.is_captured else None
        if repeat is None:
            self._make_step(batch)
        else:
            repeat.batch.take(batch)
            repeat.again()

    def _make_step(self, batch: TrainingBatch) -> None:
        self.models.set_gradients(batch.inputs(self.images), self.labels[batch.rows])
        self.optimizer.step()
        self._apply_masks()

    # ---- captured steps -------------------------------------------------------------------------------------------

    def _repeat_for(self, batch: TrainingBatch) -> "_Repeat | None":
        """Return the captured step of a batch of this size; None if it cannot be captured."""
        key = batch.rows.shape
        if key not in self._repeats:
            self._repeats[key] = self._captured(batch.copy())
        return self._repeats[key]

    def _captured(self, batch: TrainingBatch) -> "_Repeat | None":
        with self._undone(), self.device.seeded(0), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")  # not yet captured
            self._make_step(batch)  # the optimizer's memory has to be there before anything is captured
            try:
                again = self.device.capture(lambda: self._make_step(batch))
            except RuntimeError:  # an architecture that looks at values on the way: it is trained step by step
                return None
        return None if again is None else _Repeat(batch, again)

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Let what steps within the block change be as it was before."""
        tensors = [*self.models.tensors.values(), *_memory_of(self.optimizer)]
        before = [tensor.detach().clone() for tensor in tensors]
        yield
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
            for tensor in _memory_of(self.optimizer)[len(before) - len(self.models.tensors) :]:
                tensor.zero_()  # it was made within the block

    # ---- masks ----------------------------------------------------------------------------------------------------

    def _set_masks(self, masks: Sequence[Weights] | None) -> None:
        """Take the masks of the models to be trained, in the memory of those before where there are some."""
        stacked = self.models.stacked(masks or [])
        if stacked.keys() != self._masks.keys():
            self._masks = {name: torch.empty_like(self.models.tensors[name]) for name in stacked}
            self._repeats.clear()
        for name, values in stacked.items():
            self._masks[name].copy_(values)
        self._apply_masks()

    def _apply_masks(self) -> None:
        """Set to 0 what is pruned."""
        for name, mask in self._masks.items():
            self.models.tensors[name].detach().mul_(mask)


@dataclass(frozen=True)
class _Repeat:
    """A captured step: what it reads, and what makes it again."""

    batch: TrainingBatch
    again: Callable[[], None]


class _Alone:
    """One model."""

    def __init__(
        self, build: Build, device: torch.device, class_weights: Tensor | None, *, mixed: bool, channels_last: bool
    ) -> None:
        self.net = initial_net(build, 0).to(device).train()
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.class_weights, self.mixed, self.channels_last = class_weights, mixed, channels_last
        self.tensors: Weights = self.net.state_dict(keep_vars=True)

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters that are trained; an own net may have frozen ones."""
        return [parameter for parameter in self.net.parameters() if parameter.requires_grad]

    def load(self, models: Sequence[Mapping[str, Tensor]]) -> None:
        """Take the weights of a model."""
        self.net.train().load_state_dict(models[0])

    def stacked(self, models: Sequence[Weights]) -> Weights:
        """Return values of the model's parameters in the form in which it has them."""
        return models[0] if models else {}

    def set_gradients(self, inputs: Tensor, targets: Tensor) -> None:
        """Set the gradients of the loss; inputs: (1, batch_size, channels, height, width), targets: (1, batch_size)."""
        images = inputs[0]
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with _mixed_precision(images.device) if self.mixed else contextlib.nullcontext():
            logits = self.net(images)
        self.net.zero_grad()
        _loss(logits, targets[0], self.class_weights).backward()

    def weights(self) -> list[Weights]:
        """Return a copy of the weights as they are, laid out as usual."""
        return [
            {
                name: value.detach().clone(memory_format=torch.contiguous_format)
                for name, value in self.net.state_dict().items()
            }
        ]


class _Stacked:
    """Several models as one, each tensor with the models along its first axis."""

    def __init__(self, build: Build, device: torch.device, class_weights: Tensor | None, n_models: int) -> None:
        nets = [initial_net(build, 0).to(device) for _ in range(n_models)]
        parameters, buffers = stack_module_state(nets)  # once each, also where two layers share one
        self.trained = {name: value for name, value in parameters.items() if value.requires_grad}
        self.fixed = buffers | {name: value for name, value in parameters.items() if not value.requires_grad}
        self.tensors = _by_all_names(parameters | buffers, nets[0])
        skeleton = initial_net(build, 0).train()  # its own values are never used

        def loss(weights: Weights, fixed: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
            return _loss(functional_call(skeleton, (weights, fixed), (inputs,)), targets, class_weights)

        self._gradients = vmap(grad(loss), randomness="different")  # of dropout

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters that are trained."""
        return list(self.trained.values())

    def load(self, models: Sequence[Mapping[str, Tensor]]) -> None:
        """Take the weights of as many models."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(torch.stack([model[name] for model in models]))

    def stacked(self, models: Sequence[Weights]) -> Weights:
        """Return values of the models' parameters in the form in which they are here."""
        return {name: torch.stack([model[name] for model in models]) for name in (models[0] if models else ())}

    def set_gradients(self, inputs: Tensor, targets: Tensor) -> None:
        """Set the gradients of every model's loss.

        inputs: (n_models, batch_size, channels, height, width). targets: (n_models, batch_size).
        """
        parameters = {name: value.detach() for name, value in self.trained.items()}
        for name, gradient in self._gradients(parameters, self.fixed, inputs, targets).items():
            self.trained[name].grad = gradient

    def weights(self) -> list[Weights]:
        """Return copies of every model's weights."""
        n_models = len(self.parameters[0])
        return [{name: value.detach()[row].clone() for name, value in self.tensors.items()} for row in range(n_models)]


def _by_all_names(tensors: Weights, net: nn.Module) -> Weights:
    """Return stacked tensors by every name that a net's weights have; a shared one has several, and is one tensor."""
    first = {id(value): name for name, value in (*net.named_parameters(), *net.named_buffers())}
    return {name: tensors[first[id(value)]] for name, value in net.state_dict(keep_vars=True).items()}


def initial_net(build: Build, seed: int) -> nn.Module:
    """Return a network whose initial weights depend on the seed alone, leaving the global random state as it was."""
    with of("cpu").seeded(seed):
        return build()


def _mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    # Without its cache of rounded weights, which a captured step would fill once and for all.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def _loss(logits: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    if class_weights is not None:  # those of classes without an example, at the end, do not matter
        class_weights = nn.functional.pad(class_weights, (0, logits.shape[-1] - len(class_weights)), value=1.0)
    return nn.functional.cross_entropy(logits.float(), targets, class_weights)


def _class_weights(labels: Tensor, recipe: Training) -> Tensor | None:
    """Return weights, up to the last class that is there, inverse to how often each is, if the recipe asks for them."""
    if not recipe.class_weights:
        return None
    counts = torch.bincount(labels)
    return torch.where(counts > 0, 1.0 / counts.clamp(min=1), 1.0)


# ---- the optimizer ------------------------------------------------------------------------------------------------


def _optimizer(parameters: list[Tensor], recipe: Training, *, has_tensor_rate: bool) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; it treats every value alike, so that stacked parameters are as good as single.

    has_tensor_rate: its learning rate is a tensor, which a captured step reads anew each time.
    """
    device = parameters[0].device
    fused = True if device.type == "cuda" else None  # one kernel for all parameters
    decay, momentum = recipe.weight_decay, recipe.momentum
    rate = torch.tensor(recipe.learning_rate, device=device) if has_tensor_rate else recipe.learning_rate
    if recipe.optimizer == "adam":
        capturable = has_tensor_rate and device.type == "cuda"
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=fused, capturable=capturable)
    return torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay, fused=fused)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _memory_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return what an optimizer remembers of the steps before: momentum, moments, their number."""
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def _forget_steps(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer be as if it had made no step, in the same memory."""
    for value in _memory_of(optimizer):
        value.zero_()
