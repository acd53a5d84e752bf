"""One run, inside its process: make the net and the loaders, wait for "go", call `unlearn`, hand in weights.

All of this is within a submission's reach. It holds nothing a submission may not know, and nothing it says is trusted.
"""

import ast
import contextlib
import importlib
import inspect
import json
import linecache
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from harness import accelerator, models
from harness.contract import FUNCTION_NAMES, N_ARGUMENTS, PACKAGES, TIME_LIMIT_VARIABLE, Batch
from harness.loaders import Images, loader, to_inputs
from harness.runner.inside.exceptions import own_lines, text_of
from harness.runner.inside.hints import hint
from harness.runner.inside.returned import flat_weights, schema_of
from harness.runner.inside.start_methods import fork_only
from harness.runner.message import Job, RunReport
from harness.statements import without_docstrings

__all__ = ["PublicTrack", "load", "make_own", "run", "set_up", "warm_up"]

TEXT_LENGTH = 1500  # of an exception's own text, where more is said after it


class PublicTrack:
    """The public part of a track, in memory."""

    def __init__(self, public: Path) -> None:
        self.public = public
        self.task = json.loads((public / "task.json").read_text())
        self.sets = {name: self._images(public / f"{name}.npz") for name in ("retain", "forget", "val")}
        # One net per original, built here once: the process of a run has its own copy of all of this.
        self.nets = [self._net(public / f"original-{index}.safetensors") for index in range(self.task["originals"])]

    def _images(self, path: Path) -> Images:
        with np.load(path, allow_pickle=False) as arrays:
            inputs = to_inputs(arrays["images"], scale=self.task["scale"], mean=self.task["mean"], std=self.task["std"])
            return Images(inputs, torch.from_numpy(arrays["labels"]))

    def _net(self, weights: Path) -> nn.Module:
        task = self.task
        net = models.build(
            task["model"],
            n_classes=task["n_classes"],
            channels=task["channels"],
            width=task["width"],
            folder=self.public,
        )
        net.load_state_dict(load_file(weights))
        _keep_source(net)
        return net.eval()


def _keep_source(net: nn.Module) -> None:
    """Keep the source of a net's classes, whose files are hidden from runs: torch.jit.script asks for it."""
    forwards = (getattr(type(module), "forward", None) for module in net.modules())  # of a scripted one: nothing
    codes = (getattr(forward, "__code__", None) for forward in forwards)
    for file in {code.co_filename for code in codes if code is not None}:
        lines = linecache.getlines(file)
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)  # None: not looked for on the disk again


def warm_up(public: Path) -> PublicTrack:
    """Import what submissions may count on, and read the public part of the track, with one thread."""
    torch.set_num_threads(1)
    fork_only()
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    return PublicTrack(public)


def make_own(job: Job) -> None:
    """Make the process the run's own: its folder, its environment."""
    os.environ.update(HOME=job.scratch, TMPDIR=job.scratch, OMP_NUM_THREADS=str(job.threads), USER="runner")
    for cache in ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"):
        os.environ[cache] = job.cache or f"{job.scratch}/.cache"
    os.environ[TIME_LIMIT_VARIABLE] = f"{job.time_limit_seconds:.3f}"
    tempfile.tempdir = None  # looked up before the fork, it would be the zygote's
    os.chdir(job.scratch)


def set_up(world: PublicTrack, job: Job) -> tuple[nn.Module, list[DataLoader[Batch]]]:
    """Return the net and the loaders of a run, with all random streams seeded."""
    here = accelerator.of(job.device)
    device = here.device()
    torch.set_num_threads(job.threads)
    net = world.nets[job.original].to(device)
    batch_size = world.task["batch_size"]
    sets = {name: Images(images.inputs, images.labels, _ids(job, name)) for name, images in world.sets.items()}
    sets = _swapped(sets) if job.swap_forget_set else sets
    loaders = [loader(sets[name], batch_size=batch_size, device=device) for name in ("retain", "forget", "val")]
    if here.is_gpu:
        here.warm_up(net, *next(iter(loaders[0])))  # a second or two, before the clock starts
    random.seed(job.seeds["random"])
    np.random.seed(job.seeds["numpy"])
    here.seed(job.seeds["torch"])
    return net, loaders


def _ids(job: Job, name: str) -> Tensor | None:
    """Return where the examples of a set are in the training set, (n,) int64; None if nothing is known of them."""
    found = job.ids.get(name)
    return None if found is None else torch.from_numpy(np.frombuffer(found, np.int32).astype(np.int64))


def _swapped(sets: dict[str, Images]) -> dict[str, Images]:
    """Return the sets with the forget set in exchange for as many retain examples, always the same ones."""
    retain, forget = sets["retain"], sets["forget"]
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(retain)))
    chosen, others = shuffled[: len(forget)], shuffled[len(forget) :]
    kept = [torch.cat([stay[others], other]) for stay, other in zip(_tensors(retain), _tensors(forget), strict=True)]
    return {**sets, "retain": Images(*kept), "forget": Images(*(stay[chosen] for stay in _tensors(retain)))}


def _tensors(images: Images) -> tuple[Tensor, Tensor, Tensor]:
    return images.inputs, images.labels, images.ids


def run(world: PublicTrack, job: Job, result: int, report: int, wait_for_go: Callable[[], None]) -> None:
    """Run a submission once. result, report: descriptors for the raw float32 weights and for the JSON report."""
    net, loaders = set_up(world, job)
    wait_for_go()
    said = _run(job, net, loaders, result)
    os.pwrite(report, said.to_bytes(), 0)


def _run(job: Job, net: nn.Module, loaders: list[DataLoader[Batch]], result: int) -> RunReport:
    """Read the file, call `unlearn`, hand in the weights; say how it went."""
    schema = schema_of(net)
    started = time.perf_counter()
    try:
        unlearn = load(job)
    except ImportError as error:
        return _report("IMPORT_ERROR", error, job)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the file's
        return _report("EXCEPTION", error, job)
    try:
        returned = unlearn(net, *loaders)
        accelerator.of(job.device).synchronize()
    except BaseException as error:  # noqa: BLE001
        return _report("EXCEPTION", error, job)
    seconds = time.perf_counter() - started
    try:
        _write(result, flat_weights(net if returned is None else returned, schema))
    except BaseException as error:  # noqa: BLE001
        return _report("BAD_OUTPUT", error, job)
    return RunReport("OK", seconds_inside=seconds)


def _report(outcome: str, error: BaseException, job: Job) -> RunReport:
    text = text_of(error)
    if accelerator.is_out_of_memory(error, text):
        outcome = "MEMORY_LIMIT"
    elif (to_do := hint(text)) is not None:
        text = text[:TEXT_LENGTH].rstrip(". \n") + f"; {to_do}"
    return RunReport(outcome, text, own_lines(error, job.filename))


def load(job: Job) -> Callable[..., object]:
    """Execute the file as a module of its own and return its function."""
    lines = job.source.splitlines(keepends=True)
    linecache.cache[job.filename] = (len(job.source), None, lines, job.filename)
    module = ModuleType("submission")
    module.__file__ = job.filename
    sys.modules["submission"] = module
    sys.argv = [job.filename]  # a script that parses its arguments has none
    tree = ast.parse(job.source, job.filename)
    exec(compile(without_docstrings(tree), job.filename, "exec"), module.__dict__)
    named = [getattr(module, name, None) for name in FUNCTION_NAMES]
    functions = [each for each in named if callable(each) and not isinstance(each, type)]
    if not functions:
        raise TypeError("the file defines no function unlearn(net, retain_loader, forget_loader, val_loader)")
    function = min(functions, key=lambda each: bool(_misfit(each)))  # the first of equals
    if misfit := _misfit(function):
        raise TypeError(f"the function takes {misfit}; it is called with net, retain_loader, forget_loader, val_loader")
    return cast(Callable[..., object], function)


def _misfit(function: Callable[..., object]) -> str:
    """Return what a function takes if that is not what it is called with; nothing if it is, or if nobody can tell."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*range(N_ARGUMENTS))
    except TypeError:
        return str(signature)
    return ""


def _write(descriptor: int, weights: Tensor) -> None:
    content = memoryview(weights.numpy().data).cast("B")
    offset = 0
    while offset < len(content):
        offset += os.pwrite(descriptor, content[offset:], offset)
