"""Whether the declared architecture can be trained, stored and measured: found out before anything is trained.

A few examples go through all that a preparation does with a net. An architecture of one's own is ordinary Python and
may do anything; what the harness cannot work with is said in one sentence that names the file and the line.
"""

import ast
import contextlib
import copy
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from data_prep.pruning import convolutions
from data_prep.training import NO_MEMORY, Build, initial_net, train, train_stack
from harness.accelerator import is_out_of_memory
from harness.errors import MachineError, UsageError
from harness.loaders import to_inputs
from harness.models import FEWEST_STRIDED, own_file
from harness.runs.measure import build_model
from harness.tracks.track import Examples, Track

__all__ = [
    "begins_alike",
    "can_be_stacked",
    "check_architecture",
    "fault_of_own_file",
    "modules_beside",
    "takes_single_examples",
]

TRIED = 8  # examples of a trial
STORED = {torch.float32, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}


def check_architecture(track: Track, examples: Examples) -> None:
    """Raise UsageError unless nets of the declared architecture can be trained on examples, stored and measured."""
    track = replace(track, folder=track.folder.absolute())
    try:
        with contextlib.chdir(track.public):  # a run sees no other folder: what is read here has to be there
            _check(track, *_tried(track, examples))
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an architecture raises is the declaration's
        if is_out_of_memory(error):
            raise MachineError(NO_MEMORY) from None
        height, width, channels = examples.images.shape[1:]
        images = f"images are {width} x {height} with {channels} channel{'' if channels == 1 else 's'}"
        raise UsageError(f"model: {fault_of_own_file(track, error) or f'{_said(error)}; {images}'}") from None


def can_be_stacked(track: Track) -> bool:
    """Whether several nets of the architecture can be trained as one, with the same values changed as in one alone.

    One that looks at values on the way cannot, nor one that puts others in the place of its buffers.
    """
    some, build = _tried(track, track.examples("retain")), partial(build_model, track)
    start = initial_net(build, 0).state_dict()

    def changed(*seeds: int) -> set[str]:
        weights = train_stack(build, *some, track.declaration.training, seeds=seeds, epochs=1)[0]
        return {name for name, value in weights.items() if not torch.equal(value, start[name])}

    try:
        return changed(0, 1) == changed(0)
    except Exception:  # noqa: BLE001 - vmap and what it calls refuse with whatever they have
        return False


def begins_alike(track: Track) -> bool:
    """Whether all nets begin with the same weights, as where a net's own file sets a seed or reads weights."""
    nets = [initial_net(partial(build_model, track), seed) for seed in (0, 1)]
    trained = ([parameter for parameter in net.parameters() if parameter.requires_grad] for net in nets)
    return all(torch.equal(*pair) for pair in zip(*trained, strict=True))


def takes_single_examples(track: Track) -> bool:
    """Whether a net can be trained on a batch of one example, which BatchNorm of single values refuses."""
    inputs, _ = _tried(track, track.examples("forget"))
    try:
        initial_net(partial(build_model, track), 0).train()(inputs[:1])
    except Exception:  # noqa: BLE001 - it has taken several
        return False
    return True


def modules_beside(file: Path) -> list[str]:
    """Return the modules that a file imports from its own folder, which would not travel with it."""
    try:
        names = set(_imported(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return []  # which `check_architecture` says better
    return sorted(name for name in names if name.startswith(".") or _lies_in(file.parent, name.split(".")[0]))


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the modules that a syntax tree imports whatever is the case."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield f"{'.' * child.level}{child.module or ''}"
        elif not isinstance(child, ast.If | ast.Try):
            yield from _imported(child)


def _lies_in(folder: Path, module: str) -> bool:
    spec = None if module in sys.stdlib_module_names else PathFinder.find_spec(module, [str(folder)])
    if spec is None:
        return False
    return spec.origin is not None or any((folder / module).glob("*.py"))  # the latter: a package without __init__


def fault_of_own_file(track: Track, error: BaseException) -> str | None:
    """Return where in the track's own file an error arose, and the error; None if it did elsewhere."""
    own = own_file(track.declaration.model.name)
    if own is None:
        return None
    file, lines = str((track.public / own).absolute()), []
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    lines += [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not lines:
        return None
    said = error.msg if isinstance(error, SyntaxError) else _said(error)
    alone = "; the track takes this one file alone" if isinstance(error, ImportError | OSError) else ""
    return f"{own}, line {lines[-1]}: {type(error).__name__}: {said}{alone}"


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _tried(track: Track, examples: Examples) -> tuple[Tensor, Tensor]:
    """Return a few of some examples as inputs and labels."""
    data, few = track.declaration.data, examples[:TRIED]
    return to_inputs(few.images, scale=data.scale, mean=data.mean, std=data.std), torch.from_numpy(few.labels)


# ---- what a net has to be -----------------------------------------------------------------------------------------


def _check(track: Track, inputs: Tensor, labels: Tensor) -> None:
    build, n_classes = partial(build_model, track), track.manifest.n_classes
    net, other = initial_net(build, 0), initial_net(build, 1)
    _check_state(net)
    _check_form(net, other)
    _check_copied(net)
    _check_convolutions(net)
    is_trained = not track.declaration.model.is_forest
    if is_trained and not any(parameter.requires_grad for parameter in net.parameters()):
        raise UsageError("model: it has no parameters to train")
    if track.declaration.pruning is not None and not convolutions(net):
        raise UsageError("pruning: the model has no convolutions (torch.nn.Conv2d) to prune")
    with torch.no_grad():
        given = inputs.clone()
        for some in (inputs[:2], inputs[:1]):
            _check_outputs(outputs := net.eval()(some), len(some), n_classes)
            if not torch.equal(inputs, given):
                raise UsageError("model: forward changes the images it is given; change a copy (images = images - 0.5)")
            _check_logits(outputs)
        _check_outputs(net.train()(inputs[:TRIED]), len(inputs), n_classes, when="in training ")
    if not is_trained:
        return
    before = copy.deepcopy(other.state_dict())
    trained = train(build, inputs, labels, track.declaration.training, seed=0, epochs=1)
    _check_apart(before, other)
    _check_repeats(trained, build, inputs)


def _check_state(net: nn.Module) -> None:
    """Raise UsageError unless all that a net holds can be stored and read again."""
    for name, value in net.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise UsageError(f"model: {name} is {type(value).__name__}; only parameters and buffers can be stored")
        if is_lazy(value):
            raise UsageError(f"model: {name} has no size yet; give layers their sizes instead of lazy ones")
        if value.dtype not in STORED or value.is_meta or value.layout != torch.strided:
            kind = "on the device meta" if value.is_meta else str(value.dtype).removeprefix("torch.")
            raise UsageError(f"model: {name} is {kind}; make it an ordinary float32 tensor")
    places: dict[int, str] = {}
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        other = places.setdefault(value.untyped_storage().data_ptr(), name)
        if other != name and value.numel():
            raise UsageError(
                f"model: {other} and {name} share memory without being one tensor; assign the parameter itself "
                "(second.weight = first.weight), or let forward compute one from the other"
            )


def _check_form(net: nn.Module, other: nn.Module) -> None:
    ours, theirs = net.state_dict(), other.state_dict()
    for name in sorted({*ours, *theirs}):
        shapes = [tuple(state[name].shape) if name in state else "missing" for state in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"model: {name} is {shapes[0]} in one net and {shapes[1]} in another; build all nets of one form"
            )


def _check_convolutions(net: nn.Module) -> None:
    """Raise UsageError for a convolution that corrupts memory on this processor: harness/models.py tells of it."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return
    for name, layer in net.named_modules():
        is_strided = type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.stride != (1, 1)
        if is_strided and layer.in_channels < FEWEST_STRIDED:
            raise UsageError(
                f"model: {name} is a 1x1 convolution with a stride and {layer.in_channels} channels, which crashes on "
                f"this processor (oneDNN with AVX2 alone); give it {FEWEST_STRIDED} channels or more, or take the "
                "pixels first: images[:, :, ::2, ::2]"
            )


def _check_apart(before: dict[str, Tensor], other: nn.Module) -> None:
    """Raise UsageError if a net is not what it was before another was trained, as where both have the same layers."""
    for name, value in other.state_dict().items():
        if not torch.equal(value.nan_to_num(), before[name].nan_to_num()):
            raise UsageError(
                f"model: to train one net changes {name} of another; make the layers anew in each call of the function"
            )


def _check_copied(net: nn.Module) -> None:
    try:
        copy.deepcopy(net)
    except Exception as error:  # noqa: BLE001 - whatever the attributes of a net raise
        for place, module in net.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    computed = f"{place}.{name}".removeprefix(".")
                    raise UsageError(
                        f"model: {computed} is computed by a hook; use torch.nn.utils.parametrizations, or compute it "
                        "in forward"
                    ) from None
        raise UsageError(
            f"model: nets of it cannot be copied ({_said(error)}); keep layers, tensors and plain values in their "
            "attributes, nothing else"
        ) from None


def _check_outputs(outputs: object, n: int, n_classes: int, when: str = "") -> None:
    if not isinstance(outputs, Tensor):
        raise UsageError(f"model: outputs are {when}{type(outputs).__name__}, not one tensor of logits")
    images = f"{n} image{'' if n == 1 else 's'} of {n_classes} classes"
    if outputs.shape != (n, n_classes):
        raise UsageError(f"model: outputs are {when}{tuple(outputs.shape)} for {images}, not {(n, n_classes)}")
    if not outputs.is_floating_point():
        raise UsageError(f"model: outputs are {when}{outputs.dtype} for {images}, not logits")


def _check_logits(outputs: Tensor) -> None:
    if not outputs.isfinite().all():
        raise UsageError(
            "model: its outputs are no finite numbers before any training; look at its initial weights, and at mean "
            "and std of the data"
        )
    if (outputs >= 0).all() and torch.allclose(outputs.sum(dim=1), torch.ones(len(outputs))):
        raise UsageError(
            "model: its outputs are probabilities; leave out the softmax at the end, since the loss has one"
        )


def _check_repeats(trained: nn.Module, build: Build, inputs: Tensor) -> None:
    """Raise UsageError unless a trained net has the same outputs again, and so has another net with its weights."""
    again = copy.deepcopy(initial_net(build, 1)).eval()  # as it is copied to be measured
    again.load_state_dict(trained.state_dict())
    with torch.no_grad():
        first, second, other = trained(inputs), trained(inputs), again(inputs)
    if not _same(first, second):
        raise UsageError("model: its outputs change from call to call in eval mode; switch dropout off there")
    if not _same(first, other):
        raise UsageError(
            "model: two nets with the same weights have other outputs; keep all that forward uses in parameters and "
            "buffers of the state dict (register_buffer, nn.ModuleList in place of a list)"
        )


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5, equal_nan=True)
