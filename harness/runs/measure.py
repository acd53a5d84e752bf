"""Turns a model's weights into its record: the trusted side runs every model itself, on the track's data sets."""

import copy
import hashlib
import math
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from harness import accelerator, models
from harness.errors import MachineError
from harness.loaders import to_inputs
from harness.record import SETS, TRIGGERED, Records
from harness.scoring.official import logit_scaled_confidence
from harness.tracks.track import Track

__all__ = ["NoMemoryError", "NonFiniteLogitsError", "Recorder", "build_model", "initial_weights"]

BATCH_SIZE = 1024
ATTEMPTS = 4  # at finding memory for a measurement
PAUSE_SECONDS = 2.0  # before the next one: what a run held may still be on its way back


class NoMemoryError(MachineError):
    """The GPU has no memory for a measurement, though no run is on it."""


class NonFiniteLogitsError(Exception):
    """A model with finite weights has outputs that are not (an overflow, a negative variance)."""


def build_model(track: Track) -> nn.Module:
    """Return a freshly initialised network of the track's architecture."""
    model, manifest = track.declaration.model, track.manifest
    return models.build(
        model.name,
        n_classes=manifest.n_classes,
        channels=manifest.channels,
        width=model.width,
        options=track.model_options,
        folder=track.public,
    )


def initial_weights(track: Track, seed: int) -> np.ndarray:
    """Return the float weights (n_values,) float32 of a fresh network, which depend on the seed alone."""
    with _drawing, accelerator.of("cpu").seeded(seed):
        state = build_model(track).state_dict()
    return np.concatenate([value.numpy().ravel() for value in state.values() if value.is_floating_point()], dtype="f4")


_drawing = threading.Lock()  # torch's random stream is one for all threads


class Recorder:
    """Measures models of one track; holds its data sets as inputs, so make it once.

    The inputs stay in the memory of the host. On a GPU there is nothing of them while nothing is measured, and outputs
    are those of float32 arithmetic: the rounding of TF32 would be seen in the confidences.
    `record` may be called from several threads at once.
    """

    def __init__(self, track: Track, device: str = "cpu") -> None:
        data = track.declaration.data
        sets = track.recorded()
        self.track, self.accelerator = track, accelerator.of(device)
        with _drawing:
            self._net = build_model(track).eval()  # to be copied, which takes less time than to draw weights again
        self.labels = {name: examples.labels for name, examples in sets.items()}
        self.inputs = {
            name: to_inputs(examples.images, scale=data.scale, mean=data.mean, std=data.std)
            for name, examples in sets.items()
        }

    @cached_property
    def originals(self) -> list[dict[str, np.ndarray]]:
        """The weights of the original models."""
        return [self.track.original(index) for index in range(self.track.declaration.reference.originals)]

    @cached_property
    def schema(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the float weights a run hands in, in the order in which it does."""
        state = self._net.state_dict()
        return {name: tuple(value.shape) for name, value in state.items() if value.is_floating_point()}

    @property
    def sizes(self) -> dict[str, int]:
        """How many values each of them has."""
        return {name: math.prod(shape) for name, shape in self.schema.items()}

    @property
    def n_values(self) -> int:
        """How many float weights a run hands in."""
        return sum(self.sizes.values())

    def record(self, weights: Mapping[str, np.ndarray], *, original: int | None = None) -> Records:
        """Return the record of one model.

        weights: all parameters and buffers by name. original: index of the original model it started from.
        Raises NonFiniteLogitsError, NoMemoryError.
        """
        distance = np.nan if original is None else _distance(weights, self.originals[original])
        return self._record([weights], -1 if original is None else original, distance)

    def _record(self, members: Sequence[Mapping[str, np.ndarray]], original: int, distance: float) -> Records:
        """Return the record of a model that is one net or several, by the weights of each."""
        logits = _mean([self._outputs_of(weights) for weights in members])
        if not all(np.isfinite(values).all() for values in logits.values()):
            raise NonFiniteLogitsError
        correct = {name: outputs.argmax(1) == self.labels[name] for name, outputs in logits.items()}
        confidence = {
            name: logit_scaled_confidence(logits[name], self.labels[name]).astype(np.float32)
            for name in ("retain", "val")
        }
        return Records(
            forget_logits=logits["forget"][None],
            test_logits=logits["test"][None],
            retain_confidence=confidence["retain"][None],
            retain_correct=correct["retain"][None],
            val_confidence=confidence["val"][None],
            val_correct=correct["val"][None],
            accuracy=np.array([[correct[name].mean() for name in SETS]]),
            original=np.array([original]),
            distance=np.array([distance]),
            weights_sha256=np.array([_sha256(*members)]),
            triggered_hits=correct[TRIGGERED][None] if TRIGGERED in correct else None,
        )

    def record_run(self, values: np.ndarray, original: int) -> Records:
        """Return the record of a run that handed in float weights as one vector; integer buffers are the original's.

        Raises NonFiniteLogitsError, NoMemoryError.
        """
        return self.record(self._named(values, self.originals[original]), original=original)

    def record_learned(self, values: np.ndarray, start: np.ndarray | None, index: int) -> Records:
        """Return the record of a learner's model, handed in as one vector; integer buffers are those of a fresh net.

        Of several nets the output is the mean of their probabilities.

        start: the vector that it started from, that of the learner's original of this index; None if it was trained.
        Raises NonFiniteLogitsError, NoMemoryError.
        """
        fresh = {name: value.numpy() for name, value in self._net.state_dict().items()}
        members = [self._named(part, fresh) for part in values.reshape(-1, self.n_values)]
        if start is None:
            return self._record(members, -1, np.nan)
        is_alike = start.shape == values.shape  # as many nets
        return self._record(members, index, float(np.linalg.norm(values.astype(float) - start)) if is_alike else np.nan)

    def _named(self, values: np.ndarray, others: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all weights by name, the float ones from a vector."""
        weights, offset = dict(others), 0
        for name, shape in self.schema.items():
            size = math.prod(shape)
            weights[name] = values[offset : offset + size].reshape(shape)
            offset += size
        return weights

    def _outputs_of(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the logits on every set of a net with these weights."""
        net = copy.deepcopy(self._net)
        net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
        return self._outputs(net)

    def _outputs(self, net: nn.Module) -> dict[str, np.ndarray]:
        """Return a net's logits on every set, and leave nothing on a GPU; try again where it has no memory."""
        for attempt in range(ATTEMPTS):
            time.sleep(PAUSE_SECONDS if attempt else 0)
            try:
                with self.accelerator.exact():
                    net.to(self.accelerator.device())
                    return {name: self._logits(net, inputs) for name, inputs in self.inputs.items()}
            except RuntimeError as error:
                if not (self.accelerator.is_gpu and accelerator.is_out_of_memory(error)):
                    raise
            finally:
                net.to("cpu")
                self.accelerator.release()
        raise NoMemoryError(
            "the GPU has no memory to measure a model, though no run is on it; end what else uses it (nvidia-smi)"
        )

    @torch.inference_mode()
    def _logits(self, net: nn.Module, inputs: Tensor) -> np.ndarray:
        device = self.accelerator.device()
        logits = [net(accelerator.to_device(batch, device)) for batch in inputs.split(BATCH_SIZE)]
        outputs: np.ndarray = torch.cat(logits).float().cpu().numpy()
        return outputs


def _distance(weights: Mapping[str, np.ndarray], original: Mapping[str, np.ndarray]) -> float:
    """Return the L2 distance over parameters and float buffers."""
    squares = [
        np.sum((value.astype(np.float64) - original[name]) ** 2)
        for name, value in weights.items()
        if np.issubdtype(value.dtype, np.floating)
    ]
    return float(np.sqrt(np.sum(squares)))


def _mean(logits: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Return the logits of a model whose probabilities are the mean of several nets'; of one net they are its own."""
    if len(logits) == 1:
        return logits[0]
    stacked = {name: torch.stack([torch.from_numpy(each[name]) for each in logits]) for name in logits[0]}
    return {
        name: (each.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))).numpy()
        for name, each in stacked.items()
    }


def _sha256(*members: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, value in (item for weights in members for item in sorted(weights.items())):
        digest.update(f"{name} {value.dtype} {value.shape}\0".encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
