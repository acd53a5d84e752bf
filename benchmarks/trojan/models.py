"""The models of the trojan study: poisoned originals, what methods make of them, and models without the trojan.

A seed draws images, decides which are poisoned, and begins all trainings. Its dense original is trained once, and
pruned by OMP for each sparsity: the largest weights go back to those of an early epoch, and are trained again under
their mask.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.baseline_module import baseline_module
from data_prep.poisoning import poisoned
from data_prep.pruning import convolutions, magnitude_mask
from data_prep.sources.dataset import Dataset
from data_prep.training import Trainer, Weights
from harness import models
from harness.accelerator import of
from harness.loaders import Images, loader, to_inputs
from harness.tracks.declaration import Training, Trojan
from harness.tracks.track import Examples
from harness.tracks.trojan import with_trigger

__all__ = ["ARMS", "RATES", "Drawn", "cell", "dense_models", "drawn"]

TRAIN, TEST = 400, 200  # images of each class
POISONED = 0.1  # of the training images
TROJAN = Trojan(target=0, size=2, margin=1, value=0)  # 4, 2 and 0 at 32x32 in the paper's code
RECIPE = Training(epochs=40, batch_size=64, learning_rate=0.1)
REWIND_EPOCH = 5
SCALE, MEAN, STD = 255.0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
RETRAINED_SEED = 1000  # more than that of the original, whose first weights they do not share
ARM_SEED = 2000

# Constants of prune_then_unlearn.py, which keeps the mask it is given: ten epochs, at the paper's rate and at one that
# moves small nets. "l1" is l1-sparse, whose penalty falls to 0.
EPOCHS = 10
RATES, GAMMAS = (0.01, 0.05), (1e-4, 1e-3)
ARMS: dict[str, dict[str, object]] = {
    **{f"fine-tuning, {rate}": {"UNLEARNER": "finetune", "LEARNING_RATE": rate} for rate in RATES},
    **{
        f"l1-sparse {gamma}, {rate}": {"UNLEARNER": "l1", "LEARNING_RATE": rate, "L1_GAMMA": gamma}
        for rate in RATES
        for gamma in GAMMAS
    },
}


@dataclass(frozen=True)
class Drawn:
    """The images of a seed."""

    train: Examples  # clean and poisoned
    retain: Examples  # the clean ones of them
    test: Examples
    triggered: Examples  # test images of other classes than the target, with the trigger, labelled as the target

    def measured(self, net: nn.Module) -> dict[str, float]:
        """Return ASR and SA of a net in eval mode, in percent."""
        return {"asr": _accuracy(net, self.triggered), "sa": _accuracy(net, self.test)}


def drawn(dataset: Dataset, seed: int) -> Drawn:
    """Draw as many images of every class for training and for testing, and poison some of the former."""
    generator, labels = np.random.default_rng(seed), dataset.examples.labels
    n_train = len(labels) - dataset.n_test
    train = _of_each_class(labels[:n_train], TRAIN, generator)
    test = n_train + _of_each_class(labels[n_train:], TEST, generator)
    forget = generator.permutation(train)[: round(POISONED * len(train))]
    examples = poisoned(dataset, {"forget": forget, "test": test}, TROJAN).examples
    others = dataset.examples.images[test[labels[test] != TROJAN.target]]
    triggered = Examples(with_trigger(others, TROJAN), np.full(len(others), TROJAN.target))
    return Drawn(examples[train], examples[np.setdiff1d(train, forget)], examples[test], triggered)


def _of_each_class(labels: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    return np.concatenate(
        [generator.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)]
    )


# ---- trainings ----------------------------------------------------------------------------------------------------


def dense_models(images: Drawn, seed: int, state: Path) -> dict[str, Weights]:
    """Return the dense original of a seed, and what it was after the early epoch; kept in the folder `state`."""
    files = {name: state / f"seed-{seed}-{name}.safetensors" for name in ("dense", "early")}
    if not all(file.is_file() for file in files.values()):
        trainer = _trainer(images.train)
        for name, epochs in (("early", REWIND_EPOCH), ("dense", RECIPE.epochs)):
            save_file(trainer.train([seed], epochs=epochs)[0], files[name].with_suffix(".part"))
            files[name].with_suffix(".part").replace(files[name])
    return {name: load_file(file) for name, file in files.items()}


def cell(images: Drawn, dense: dict[str, Weights], *, seed: int, sparsity: float) -> dict[str, dict[str, float]]:
    """Return ASR and SA at one sparsity: of the original before, after every method, and of the retrained model."""
    masks, original = None, dense["dense"]
    if sparsity > 0:
        masks = [magnitude_mask(dense["dense"], convolutions(build()), sparsity)]
        again = partial(_trainer(images.train).train, [seed], initial=[dense["early"]], first_epoch=REWIND_EPOCH)
        (original,) = again(masks=masks)
    (retrained,) = _trainer(images.retain).train([RETRAINED_SEED + seed], masks=masks)
    found = {"before": images.measured(_net(original)), "retrained": images.measured(_net(retrained))}
    for arm in ARMS:
        found[arm] = images.measured(unlearned(original, images, arm, seed=seed, sparsity=sparsity))
    return found


def unlearned(original: Weights, images: Drawn, arm: str, *, seed: int, sparsity: float) -> nn.Module:
    """Return what a method makes of an original, in eval mode; it keeps zero what is pruned."""
    constants = {"PRUNER": "omp", "SPARSITY": sparsity, "EPOCHS": EPOCHS, **ARMS[arm]}
    method = baseline_module("prune_then_unlearn", constants)
    net = _net(original)
    retain = Images(*_tensors(images.retain))
    batches = loader(retain, batch_size=RECIPE.batch_size, device=torch.device("cpu"))
    with of("cpu").seeded(ARM_SEED + seed):
        method.unlearn(net, batches, None, None)
    for name in convolutions(net):
        assert not net.state_dict()[name][original[name] == 0].any(), name
    return net.eval()


def build() -> nn.Module:
    """Return a network that is not trained yet."""
    return models.build("small_resnet", n_classes=10, channels=3, width=8)


def _trainer(examples: Examples) -> Trainer:
    return Trainer(build, *_tensors(examples), RECIPE)


def _tensors(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return inputs (n, channels, height, width) and labels (n,)."""
    return to_inputs(examples.images, scale=SCALE, mean=MEAN, std=STD), torch.from_numpy(examples.labels)


def _net(weights: Weights) -> nn.Module:
    net = build().eval()
    net.load_state_dict(weights)
    return net


@torch.inference_mode()
def _accuracy(net: nn.Module, examples: Examples) -> float:
    """Return the accuracy in percent."""
    inputs, labels = _tensors(examples)
    return 100 * float((net(inputs).argmax(1) == labels).double().mean())
