"""What a submission is: the page for participants.

A submission is one Python file that defines

    def unlearn(net, retain_loader, forget_loader, val_loader): ...

(the name `unlearning`, of the 2023 starting kit, is accepted as well). It is called once per run, in a process of its
own that starts with nothing but this file. The file may be a notebook, or a script that does more: then what the
function needs of it is run (docs/notebooks.md).

What it gets
    net             a fresh copy of an original model, on the run's device, in eval mode, all parameters trainable
    retain_loader   the training examples that stay
    forget_loader   the training examples to be forgotten
    val_loader      examples the model was not trained on
  The loaders are `torch.utils.data.DataLoader`s: shuffled, not augmented, of the track's batch size. A batch answers
  to both habits: `for images, labels in loader`, and `batch["image"]`, `batch["label"]` or `batch["age_group"]`.
  Batches are on the run's device, which is the net's: `next(net.parameters()).device`. A CPU has no `torch.cuda`.
  `loader.dataset[i]` and a loader of your own over it serve CPU tensors:
  `DataLoader(retain_loader.dataset, batch_size=256, shuffle=True, num_workers=2)`.
  A data set has `inputs` (n, channels, height, width) float32, normalised, and `labels` (n,) int64, also called
  `targets`, and `ids` (n,) int64: the position of each example in the training set, -1 in the val set. There are no
  `classes`, and no `transform`: change the batches, or wrap the data set in one of your own.

What it returns
    The unlearned net, or None if it changed `net` in place. Only weights come back: parameters and buffers under the
    names and shapes of the track's architecture, finite, read as float32. Hooks and swapped modules mean nothing.
    DataParallel, torch.compile and AveragedModel may be around it. Masks and parametrisations have to be removed.

On a track with several deletion requests a run calls the function for each, on the net that the call before left
(docs/tracks.md, "Deletion streams"). Time limit, process and folder are those of one call.

A file whose `unlearn` requires a fifth argument, `state`, is a learner: it defines train(net, train_loader, val_loader)
too, whose net `unlearn` starts from (docs/learners.md).

What it may count on
    Seeds, number of runs, run index and clock are the harness's. Torch, numpy and `random` are seeded before the file
    is read, differently in every run, the same when a run is repeated. Nothing is carried from one run to the next.
    `os.environ["UNLEARN_TIME_LIMIT_SECONDS"]` holds the time limit. The clock starts before the file is read, with
    the PACKAGES already imported, and stops when the process has ended.
    The mean time of the runs must not exceed the limit, on most tracks 10 % of one training. At twice the limit a run
    is killed.

What it may use
    Memory, processes (threads count), temporary files, size of the file and of its output: limits of the track, which
    `harness check` shows. Processes, a loader's workers among them, are forked under every Python; to spawn them is
    refused. There is no network, and no file but the system's programs, the Python packages and an empty folder of its
    own, HOME and TMPDIR, that is gone after the run.

`harness check FILE` checks all this without scoring; `submissions/template.py` is a file to start from.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CALLS",
    "FUNCTION_NAMES",
    "KEYS",
    "N_ARGUMENTS",
    "PACKAGES",
    "SUFFIXES",
    "TIME_LIMIT_VARIABLE",
    "TRAIN",
    "Batch",
    "Call",
]

FUNCTION_NAMES = ("unlearn", "unlearning")  # the first one defined is called
N_ARGUMENTS = 4
TRAIN = "train"
SUFFIXES = (".py", ".ipynb")  # of the files that are looked for as submissions
TIME_LIMIT_VARIABLE = "UNLEARN_TIME_LIMIT_SECONDS"


@dataclass(frozen=True)
class Call:
    """A function of a file that is called in a process of its own, and what it is given."""

    names: tuple[str, ...]  # the first that is there and fits
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.names[0]}({', '.join(self.arguments)})"


_LOADERS = ("retain_loader", "forget_loader", "val_loader")
CALLS = {
    "post-hoc": Call(FUNCTION_NAMES, ("net", *_LOADERS)),
    "train": Call((TRAIN,), ("net", "train_loader", "val_loader")),  # the two of a learner
    "unlearn": Call(FUNCTION_NAMES, ("net", *_LOADERS, "state")),
}

# Imported before the clock starts, where installed, so that nobody pays for them.
PACKAGES = (
    "torch",
    "torch.nn",
    "torch.optim",
    "torch.utils.data",
    "torch._dynamo",  # torch.optim imports it at its first use
    "torchvision",
    "numpy",
    "scipy.stats",
    "scipy.optimize",
    "sklearn.linear_model",
    "pandas",
    "PIL.Image",
    "tqdm",
)

KEYS = {"image": 0, "label": 1, "age_group": 1}


class _Pair(NamedTuple):
    images: "Tensor"
    labels: "Tensor"


class Batch(_Pair):
    """Images (n, channels, height, width) and labels (n,); for a single example without the first dimension.

    A pair that also answers to keys: `images, labels = batch` or `batch["image"]`, `batch["label"]`.
    """

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key not in KEYS:
            raise KeyError(f"a batch has no {key!r}: it has {', '.join(KEYS)}")
        return super().__getitem__(KEYS[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        """Return the names a batch answers to."""
        return list(KEYS)
