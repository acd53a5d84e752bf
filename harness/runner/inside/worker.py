"""One run, inside its process: make the net and the loaders, wait for "go", call the function, hand in weights.

All of this is within a submission's reach. It holds nothing a submission may not know, and nothing it says is trusted.
"""

import ast
import contextlib
import copy
import importlib
import inspect
import json
import linecache
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from harness import accelerator, models
from harness.contract import CALLS, PACKAGES, TIME_LIMIT_VARIABLE, TRAIN, Batch, Call
from harness.loaders import Images, loader, to_inputs
from harness.runner.inside.exceptions import own_lines, text_of
from harness.runner.inside.hints import hint
from harness.runner.inside.returned import BadOutputError, Schema, flat_weights, schema_of
from harness.runner.inside.start_methods import fork_only
from harness.runner.inside.state import packed, split_returned, unpacked
from harness.runner.message import HEADER, Job, RunReport
from harness.statements import compiled, without_docstrings

__all__ = ["PublicTrack", "handed_in", "handed_on", "laid_out", "load", "make_own", "run", "set_up", "warm_up"]

Model = nn.Module | list[nn.Module]  # a learner's may be several nets
TEXT_LENGTH = 1500  # of an exception's own text, where more is said after it


class PublicTrack:
    """The public part of a track, in memory."""

    def __init__(self, public: Path) -> None:
        self.public = public
        self.task = json.loads((public / "task.json").read_text())
        names = self.task.get("sets", ("retain", "forget", "val"))
        self.sets = {name: self._images(public / f"{name}.npz") for name in names}
        # One net per original, built here once: the process of a run has its own copy of all of this. Where there is
        # no original, every run is handed the weights of its own.
        originals = [public / f"original-{index}.safetensors" for index in range(self.task["originals"])]
        self.nets = [self._net(weights) for weights in originals] or [self._net()]

    def _images(self, path: Path) -> Images:
        with np.load(path, allow_pickle=False) as arrays:
            inputs = to_inputs(arrays["images"], scale=self.task["scale"], mean=self.task["mean"], std=self.task["std"])
            return Images(inputs, torch.from_numpy(arrays["labels"]))

    def _net(self, weights: Path | None = None) -> nn.Module:
        task = self.task
        net = models.build(
            task["model"],
            n_classes=task["n_classes"],
            channels=task["channels"],
            width=task["width"],
            options=task.get("options"),
            folder=self.public,
        )
        if weights is not None:
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


def set_up(world: PublicTrack, job: Job) -> tuple[Model, list[DataLoader[Batch]]]:
    """Return the net, or a learner's several, and the loaders of a run, with all random streams seeded."""
    here = accelerator.of(job.device)
    device = here.device()
    torch.set_num_threads(job.threads)
    net = _handed_over(world.nets[job.original], job, device)
    batch_size = world.task["batch_size"]
    if job.given:
        sets = _given(world.sets, job)
    else:
        sets = {name: Images(images.inputs, images.labels, _ids(job, name)) for name, images in world.sets.items()}
        sets = _swapped(sets) if job.swap_forget_set else sets
    loaders = [loader(images, batch_size=batch_size, device=device) for images in sets.values()]
    if here.is_gpu:
        here.warm_up(world.nets[job.original], *next(iter(loaders[0])))  # a second or two, before the clock starts
    random.seed(job.seeds["random"])
    np.random.seed(job.seeds["numpy"])
    here.seed(job.seeds["torch"])
    return net, loaders


def _handed_over(net: nn.Module, job: Job, device: torch.device) -> Model:
    """Return a net with the weights that come with a job, if any do, or several; `train` gets it in train mode."""
    if not job.weights:
        return net.to(device)
    values = torch.from_numpy(np.frombuffer(job.weights, np.float32).copy())
    size = sum(value.numel() for value in net.state_dict().values() if value.is_floating_point())
    parts = values.split(size)
    members = [net, *(copy.deepcopy(net) for _ in parts[1:])]
    for member, part in zip(members, parts, strict=True):
        _set_weights(member.train(job.call == TRAIN), part)
        member.to(device)
    return net if len(members) == 1 else members


@torch.no_grad()
def _set_weights(net: nn.Module, values: Tensor) -> None:
    state = [value for value in net.state_dict().values() if value.is_floating_point()]
    for value, part in zip(state, values.split([value.numel() for value in state]), strict=True):
        value.copy_(part.view_as(value))


def _ids(job: Job, name: str) -> Tensor | None:
    """Return where the examples of a set are in the training set, (n,) int64; None if nothing is known of them."""
    found = job.ids.get(name)
    return None if found is None else _positions(found)


def _positions(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.int32).astype(np.int64))


def _given(sets: dict[str, Images], job: Job) -> dict[str, Images]:
    """Return the sets of a deletion request. What later requests forget is among the retained, and nothing tells it."""
    training, val = sets.values()
    rows = {name: _positions(content) for name, content in job.given.items()}
    given = {name: Images(training.inputs[each], training.labels[each], each) for name, each in rows.items()}
    return {**given, "val": val}


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


def _run(job: Job, net: Model, loaders: list[DataLoader[Batch]], result: int) -> RunReport:
    """Read the file, call its function, hand in the weights; say how it went."""
    schema, result_at = schema_of(net[0] if isinstance(net, list) else net), 0
    started = time.perf_counter()
    try:
        state = handed_on(job)
    except BaseException as error:  # noqa: BLE001 - its own `train` left it
        return _report("BAD_OUTPUT", error, job)
    try:
        function = load(job)
    except ImportError as error:
        return _report("IMPORT_ERROR", error, job)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the file's
        return _report("EXCEPTION", error, job)
    try:
        returned = function(net, *loaders, *state)
        accelerator.of(job.device).synchronize()
    except BaseException as error:  # noqa: BLE001
        return _report("EXCEPTION", error, job)
    seconds = time.perf_counter() - started
    try:
        for content in laid_out(job, *handed_in(job, returned, net, schema, state)):
            result_at = _write(result, content, result_at)
    except BaseException as error:  # noqa: BLE001
        return _report("BAD_OUTPUT", error, job)
    return RunReport("OK", seconds_inside=seconds)


def handed_on(job: Job) -> list[dict[str, Tensor]]:
    """Return the state that a learner's `unlearn` is given, as its last argument. Raises BadOutputError."""
    left_by = "the call before" if job.given else "train"
    return [unpacked(job.state, left_by)] if job.call == "unlearn" else []


def handed_in(
    job: Job, returned: object, net: Model, schema: Schema, state_before: list[dict[str, Tensor]]
) -> tuple[list[Tensor], bytes]:
    """Return what a function returned: the weights of its net, or of each of several, and a learner's state.

    state_before: what `handed_on` returned; of a deletion request it stays the state where no other is returned.
    Raises BadOutputError.
    """
    function = CALLS[job.call].names[0]
    if job.call == "post-hoc":
        return [flat_weights(net if returned is None else returned, schema)], b""
    model, state = split_returned(returned, net, state_before[0] if job.given else {})
    members = model if isinstance(model, list) else [model]
    if not 0 < len(members) <= job.members:
        raise BadOutputError(f"{function} returned {len(members)} nets: return one, or a list of at most {job.members}")
    content = packed(state, job.state_bytes)
    return [flat_weights(member, schema, function=function) for member in members], content


def laid_out(job: Job, members: list[Tensor], state: bytes) -> Iterator[bytes | memoryview]:
    """Yield the parts of a result, one after the other."""
    if job.call != "post-hoc":
        yield HEADER.pack(len(members), len(state))
    for weights in members:
        yield memoryview(weights.numpy().data).cast("B")
    yield state


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
    exec(compiled(without_docstrings(tree), job.filename), module.__dict__)
    call = CALLS[job.call]
    named = [getattr(module, name, None) for name in call.names]
    functions = [each for each in named if callable(each) and not isinstance(each, type)]
    if not functions:
        raise TypeError(f"the file defines no function {call}")
    function = min(functions, key=lambda each: bool(_misfit(each, call)))  # the first of equals
    if misfit := _misfit(function, call):
        raise TypeError(f"the function takes {misfit}; it is called with {', '.join(call.arguments)}")
    return cast(Callable[..., object], function)


def _misfit(function: Callable[..., object], call: Call) -> str:
    """Return what a function takes if that is not what it is called with; nothing if it is, or if nobody can tell."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*call.arguments)
    except TypeError:
        return str(signature)
    return ""


def _write(descriptor: int, content: bytes | memoryview, start: int) -> int:
    """Write from a place on; return where the content ends."""
    written, content = 0, memoryview(content)
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], start + written)
    return start + written
