"""The models of a seed: originals, dense and pruned, and models retrained under the same masks.

The dense original is trained once. OMP prunes its smallest weights, what is left goes back to an early epoch and is
trained again under the mask; IMP does the same in rounds, each on the outcome of the one before; SynFlow prunes what
the dense original begins with. Originals are kept, since both scenarios start from them.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.sparse_images.protocol import Cell, Drawn, Protocol, Sets
from data_prep.pruning import convolutions, magnitude_mask, mask_of, synflow_mask
from data_prep.training import Trainer, Weights, initial_net
from harness import models
from harness.accelerator import of
from harness.loaders import Images
from harness.scoring.full_stack import (
    Labels,
    disparity_average,
    draw_attack_set,
    mia_efficacy,
    mia_privacy,
    svc_attack,
)
from harness.scoring.official import logit_scaled_confidence

__all__ = ["Metrics", "Models", "disparity"]

RETRAINED_SEED, AGAIN_SEED = 1000, 1500  # more than that of the original, whose first weights they do not share
AT_ONCE = 1000  # images, where nothing is trained
COMPARED = ("ua", "mia_efficacy", "ra", "ta")

Metrics = dict[str, float]


@dataclass(frozen=True)
class Models:
    """Trains the models of a seed, measures them, and keeps its originals in a folder."""

    images: Drawn
    protocol: Protocol
    seed: int
    folder: Path
    device: str

    @property
    def place(self) -> torch.device:
        """Where models are trained and measured."""
        return of(self.device).device()

    def original(self, cell: Cell) -> Weights:
        """Return the original of a cell."""
        if cell.sparsity == 0:
            return self._dense
        file = self.folder / f"seed-{self.seed}-{cell.pruner}-{round(100 * cell.sparsity)}.safetensors"
        if not file.is_file():
            _keep(self._pruned(cell), file)
        return load_file(file)

    def retrained(self, cell: Cell, sets: Sets, *, again: bool = False) -> Weights:
        """Return a model trained without what is forgotten, under the mask of the cell's original; again: another."""
        masks = [mask_of(self.original(cell), self.build)] if cell.sparsity else None
        seed = self.seed + (AGAIN_SEED if again else RETRAINED_SEED)
        return self._trainer(sets.retain).train([seed], masks=self._on_device(masks))[0]

    def net(self, weights: Weights) -> nn.Module:
        """Return a model in eval mode, on the device."""
        net = self.build().to(self.place).eval()
        net.load_state_dict(weights)
        return net

    def build(self) -> nn.Module:
        """Return a network that is not trained yet."""
        return models.build(self.protocol.model, n_classes=10, channels=3, width=self.protocol.width)

    def measured(self, net: nn.Module, sets: Sets) -> Metrics:
        """Return UA, MIA-Efficacy, MIA-Privacy, RA and TA of a net in eval mode, in percent."""
        right, confidence = {}, {}
        for name, images in vars(sets).items():
            logits, labels = self._logits(net, images), images.labels.numpy()
            right[name] = 100 * float((logits.argmax(1) == labels).mean())
            confidence[name] = logit_scaled_confidence(logits, labels).astype(np.float32)
        all_labels = Labels(**{name: images.labels.numpy() for name, images in vars(sets).items()})
        chosen = draw_attack_set(all_labels, seed=self.seed)
        sides = confidence["retain"][chosen.members], confidence["test"][chosen.non_members]
        return {
            "ua": 100 - right["forget"],
            "mia_efficacy": mia_efficacy(*sides, confidence["forget"], attack=svc_attack),
            "mia_privacy": mia_privacy(*sides, attack=svc_attack),
            "ra": right["retain"],
            "ta": right["test"],
        }

    # ---- trainings ------------------------------------------------------------------------------------------------

    @cached_property
    def _dense(self) -> Weights:
        return self._dense_and_early[0]

    @cached_property
    def _dense_and_early(self) -> tuple[Weights, Weights]:
        """Return the dense original, and what it was after the early epoch."""
        files = {name: self.folder / f"seed-{self.seed}-{name}.safetensors" for name in ("dense", "early")}
        lasts = {"dense": self.protocol.recipe.epochs, "early": self.protocol.rewind_epoch}
        for name, file in files.items():
            if not file.is_file():
                _keep(self._trainer(self.images.all).train([self.seed], epochs=lasts[name])[0], file)
        return load_file(files["dense"]), load_file(files["early"])

    def _pruned(self, cell: Cell) -> Weights:
        """Prune, and train what is left."""
        trainer = self._trainer(self.images.all)
        if cell.pruner == "synflow":
            mask = synflow_mask(initial_net(self.build, self.seed), trainer.images.shape[1:], cell.sparsity)
            return trainer.train([self.seed], masks=self._on_device([mask]))[0]
        weights, early = self._dense_and_early
        rounds = self.protocol.imp_rounds if cell.pruner == "imp" else 1
        for done in range(1, rounds + 1):
            mask = magnitude_mask(weights, convolutions(self.build()), 1 - (1 - cell.sparsity) ** (done / rounds))
            masks, start = self._on_device([mask]), self.protocol.rewind_epoch
            (weights,) = trainer.train([self.seed], initial=[early], masks=masks, first_epoch=start)
            weights = _on_cpu(weights)
        return weights

    def _trainer(self, images: Images) -> Trainer:
        examples = images.on(self.place)
        return Trainer(
            self.build,
            examples.inputs,
            examples.labels,
            self.protocol.recipe,
            mixed=of(self.device).is_gpu,
            channels_last=True,
            device=self.device,
        )

    def _on_device(self, masks: list[Weights] | None) -> list[Weights] | None:
        return masks and [{name: value.to(self.place) for name, value in mask.items()} for mask in masks]

    @torch.inference_mode()
    def _logits(self, net: nn.Module, images: Images) -> np.ndarray:
        """Return logits (n, n_classes); a net that has broken down says nothing, and that is measured."""
        logits = torch.cat([net(some) for some in images.on(self.place).inputs.split(AT_ONCE)])
        return logits.float().nan_to_num(nan=0, posinf=1e4, neginf=-1e4).cpu().numpy()


def disparity(model: Metrics, retrained: Metrics) -> float:
    """Return the disparity average of a model and a retrained one, in percentage points."""
    return disparity_average([model[name] for name in COMPARED], [retrained[name] for name in COMPARED])


def _keep(weights: Weights, file: Path) -> None:
    save_file(_on_cpu(weights), file.with_suffix(".part"))
    file.with_suffix(".part").replace(file)


def _on_cpu(weights: Weights) -> Weights:
    return {name: value.cpu() for name, value in weights.items()}
