"""What `unlearn` hands back: wrappers of torch's own are looked through, all else is named with what to do about it."""

from collections.abc import Callable
from textwrap import indent

import numpy as np
import pytest

from harness.runner.execution import Finished
from harness.runner.outcome import Outcome

Ran = Callable[[str], Finished]

HEAD = """
import copy, torch, warnings
from torch import nn
from torch.nn import utils
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

warnings.simplefilter("ignore")  # some of all this is deprecated

class Wrapper(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.model = net

class Average:
    def __init__(self, net):
        self.shadow = net

def images():
    return torch.zeros(2, 1, 8, 8)

def averaged(net):
    average = AveragedModel(net)
    average.update_parameters(net)
    return average

def unlearn(net, retain_loader, forget_loader, val_loader):
    nn.init.normal_(net.fc.weight)
"""


def file(body: str) -> str:
    return HEAD + indent(body.replace("; ", "\n"), "    ")


@pytest.fixture(scope="module")
def expected(ran: Ran) -> np.ndarray:
    """The weights of a run that changes its net in place, and returns nothing."""
    weights = ran(file("")).weights
    assert weights is not None
    return weights


# ---- what computes the same, under other names --------------------------------------------------------------------

SAME = {
    "the net": "return net",
    "a copy": "return copy.deepcopy(net)",
    "DataParallel": "return nn.DataParallel(net)",
    "torch.compile": "return torch.compile(net, backend='eager')",
    "compiled in place": "net.compile(backend='eager')",
    "averaged": "return averaged(net)",
    "averaged, with buffers": "return AveragedModel(net, use_buffers=True)",
    "nested": "return averaged(nn.DataParallel(torch.compile(net, backend='eager')))",
    "a compiled layer": "net.layer1 = torch.compile(net.layer1, backend='eager')",
    "a layer within a layer": "part = net.layer1; part.bn1 = nn.DataParallel(part.bn1); net.layer1 = averaged(part)",
    "script": "return torch.jit.script(net)",
    "trace": "return torch.jit.trace(net, images())",
    "graph": "import torch.fx; return torch.fx.symbolic_trace(net)",
    "float64": "return net.double()",
    "channels last": "return net.to(memory_format=torch.channels_last)",
    "frozen": "net.requires_grad_(False)",
    "sparse": "net.fc.weight = nn.Parameter(net.fc.weight.detach().to_sparse())",
    "sparse rows": "net.fc.weight = nn.Parameter(net.fc.weight.detach().to_sparse_csr())",
    "batches not counted": "net.bn1.num_batches_tracked = None",
    "statistics not used": "net.bn1.track_running_stats = False",
    "SyncBatchNorm": "return nn.SyncBatchNorm.convert_sync_batchnorm(net)",
    "a mask taken off": "prune.identity(net.conv1, 'weight'); prune.remove(net.conv1, 'weight')",
    "a loss without weights of its own": "net.criterion = nn.CrossEntropyLoss()",
}


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_the_same_weights_come_back_however_they_are_wrapped(body: str, ran: Ran, expected: np.ndarray) -> None:
    finished = ran(file(body))
    assert finished.outcome == Outcome.OK, finished.message
    assert finished.weights is not None
    np.testing.assert_array_equal(finished.weights, expected)


@pytest.mark.parametrize("body", ["return net.half()", "return net.bfloat16()"])
def test_weights_of_half_the_precision_are_read_as_float32(body: str, ran: Ran, expected: np.ndarray) -> None:
    finished = ran(file(body))
    assert finished.weights is not None
    np.testing.assert_allclose(finished.weights, expected, rtol=0.01, atol=1e-3)


# ---- what is named, with what to do about it ----------------------------------------------------------------------

PARAMETRISED = 'call torch.nn.utils.parametrize.remove_parametrizations(net.{}, "weight")'
KEEP_BATCHNORM = "keep the BatchNorm layers, neither replaced nor fused, and their statistics"
OTHER = {
    "own wrapper": ("return Wrapper(net)", "returned Wrapper, a wrapper around the net: return only its .model"),
    "wrapped twice": ("return Wrapper(nn.DataParallel(net))", "return only its .model"),
    "with a layer before it": (
        "return nn.Sequential(nn.BatchNorm2d(1), net)",
        "Sequential, a wrapper around the net: return only its [1]",
    ),
    "two nets": ("w = Wrapper(net); w.ema = copy.deepcopy(net); return w", "return only one of its nets: .model, .ema"),
    "tuple": ("return net, 0.5", "returned tuple, not a net: return only its [0]"),
    "list of nets": (
        "return [net, copy.deepcopy(net)]",
        "returned list, not a net: return only one of its nets: [0], [1]",
    ),
    "checkpoint": ("return {'model': net, 3: 4}", "returned dict, not a net: return only its ['model']"),
    "object": ("return Average(net)", "returned Average, not a net: return only its .shadow"),
    "state": ("return net.state_dict()", "returned OrderedDict, not a net: load it, with net.load_state_dict(...)"),
    "parameters": ("return list(net.parameters())", "returned list, not a net: return the net you were given"),
    "class": ("return type(net)", "returned the class SmallResNet, not a net"),
    "coroutine": ("async def late(): return net; return late()", "with def, not with async def"),
    "generator": ("yield net", "a function with a yield in it is not executed"),
    "frozen graph": (
        "return torch.jit.freeze(torch.jit.trace(net, images()))",
        "(RecursiveScriptModule) has another architecture: no",
    ),
    "mask": (
        "prune.l1_unstructured(net.conv1, 'weight', 0.2); return net",
        'conv1.weight has a pruning mask left on: call torch.nn.utils.prune.remove(net.conv1, "weight")',
    ),
    "masks": (
        "prune.identity(net.layer2.downsample[0], 'weight'); prune.identity(net.fc, 'bias')",
        'fc.bias has a pruning mask left on: call torch.nn.utils.prune.remove(net.fc, "bias"), and so for 1 more',
    ),
    "weight norm": ("parametrizations.weight_norm(net.fc)", PARAMETRISED.format("fc")),
    "orthogonal": (
        "parametrizations.orthogonal(net.layer2.downsample[0])",
        PARAMETRISED.format("layer2.downsample[0]"),
    ),
    "weight norm of old": ("utils.weight_norm(net.fc)", 'torch.nn.utils.remove_weight_norm(net.fc, "weight")'),
    "spectral norm of old": ("utils.spectral_norm(net.fc)", 'torch.nn.utils.remove_spectral_norm(net.fc, "weight")'),
    "statistics removed": (
        "net.bn1.running_mean = net.bn1.running_var = None",
        f"no bn1.running_mean, no bn1.running_var; {KEEP_BATCHNORM}",
    ),
    "norm replaced": ("net.bn1 = nn.GroupNorm(1, 4)", KEEP_BATCHNORM),
    "norm fused": ("from torch.fx.experimental.optimization import fuse; return fuse(net)", KEEP_BATCHNORM),
    "head in a head": (
        "net.fc = nn.Sequential(nn.Dropout(), net.fc)",
        "no fc.bias, no fc.weight, unknown fc.1.bias, unknown fc.1.weight",
    ),
    "adapter": ("net.fc.lora_A = nn.Linear(2, 2)", "merge the adapters"),
    "teacher": ("net.teacher = copy.deepcopy(net)", "net.teacher was added or replaced: take it off"),
    "buffer": ("net.register_buffer('fisher', torch.ones(3))", "unknown fisher; net.fisher was added or replaced"),
    "mask of its own": ("net.conv1.register_buffer('weight_mask', torch.ones(3))", "net.conv1.weight_mask was added"),
    "layer with weights": (
        "net.relu = nn.PReLU()",
        "net.relu was added or replaced: take it off, or put the net's own",
    ),
    "tensor for a parameter": (
        "w = net.fc.weight.detach(); del net.fc.weight; net.fc.weight = w",
        "no fc.weight; fc.weight is in no state_dict: set it as nn.Parameter",
    ),
    "quantised": ("return torch.ao.quantization.quantize_dynamic(net, {nn.Linear})", "it was quantised"),
    "whole numbers": (
        "net.fc.weight = nn.Parameter(net.fc.weight.char(), requires_grad=False)",
        "fc.weight is of type torch.int8",
    ),
    "complex": (
        "net.fc.weight = nn.Parameter(net.fc.weight.to(torch.complex64))",
        "fc.weight is of type torch.complex64",
    ),
    "lazy": ("net.fc = nn.LazyLinear(10)", "fc.weight has no shape yet"),
}


@pytest.mark.parametrize(("body", "said"), OTHER.values(), ids=OTHER)
def test_what_is_no_such_net_is_named_with_what_to_do(body: str, said: str, ran: Ran) -> None:
    finished = ran(file(body))
    assert finished.outcome == Outcome.BAD_OUTPUT
    assert said in finished.message
