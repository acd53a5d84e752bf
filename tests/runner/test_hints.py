"""Exceptions whose own text does not say what to do in a run: the message does."""

from collections.abc import Callable

import pytest

from harness.runner.execution import Finished
from harness.runner.inside.hints import hint
from harness.runner.outcome import Outcome

Ran = Callable[[str], Finished]

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

def unlearn(net, retain_loader, forget_loader, val_loader):
    """
DEVICE = "device = next(net.parameters()).device"
CALLS_FOR_A_GPU = (
    *("torch.cuda.synchronize()", "net.cuda()", "net.to('cuda:1')", "torch.zeros(1, device='cuda')"),
    *("torch.cuda.Event(enable_timing=True).record()", "torch.cuda.Stream()", "torch.cuda.current_device()"),
    *("torch.cuda.reset_peak_memory_stats()", "next(iter(val_loader))[0].pin_memory()", "net.to('mps')"),
)
SAID = {
    **dict.fromkeys(CALLS_FOR_A_GPU, DEVICE),
    "retain_loader.batch_size = 256": "make a loader of your own: DataLoader(retain_loader.dataset, batch_size=256",
    "retain_loader.dataset.classes": "the data set has no classes: it has inputs, labels (also called targets)",
    "retain_loader.dataset.dataset": "the data set has no dataset: it has inputs, labels",
    "retain_loader.dataset.transform = abs": "would change nothing: it has inputs, labels (also called targets)",
    "Subset(retain_loader.dataset, [1]).targets": "the data are retain_loader.dataset.inputs and",
    "retain_loader.labels": "the data are retain_loader.dataset.inputs and",
    "next(iter(retain_loader)).to('cpu')": "a batch is a pair: images, labels = batch",
    "next(iter(retain_loader))['img']": "a batch has no 'img': it has image, label, age_group",
    "torch.hub.load_state_dict_from_url('https://example.org/a')": "a run has no network",
    "torch.optim.SGD([])": "there is nothing to train among what it was given",
    "raise ValueError('x' * 5000 + 'No CUDA GPUs are available')": DEVICE,
}
# Of builds and machines that are not at hand.
WORDINGS = (
    "AssertionError: Torch not compiled with CUDA enabled",
    "RuntimeError: No CUDA GPUs are available",
    "RuntimeError: CUDA error: invalid device ordinal",
    "RuntimeError: Tried to instantiate dummy base class Event",
    "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False",
)
WORKS = {
    "mixed precision": """
    images, labels = next(iter(retain_loader))
    with torch.autocast("cuda"):
        loss = nn.functional.cross_entropy(net(images), labels)
    scaler = torch.amp.GradScaler("cuda")
    scaler.scale(loss).backward()
    scaler.update()
    return net.half()""",
    "settings of a GPU": """
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True
    torch.cuda.empty_cache()
    torch.cuda.manual_seed_all(0)""",
    "counting targets": "assert len(retain_loader.dataset.targets.unique()) == 10",
}


@pytest.mark.parametrize(("call", "said"), SAID.items(), ids=SAID)
def test_an_exception_says_what_to_do(call: str, said: str, ran: Ran) -> None:
    finished = ran(HEAD + call)
    assert finished.outcome == Outcome.EXCEPTION
    assert said in finished.message
    assert finished.lines[0].startswith("foo.py, line 7, in unlearn: ")


@pytest.mark.parametrize("text", WORDINGS)
def test_other_wordings_get_the_same_hint(text: str) -> None:
    assert hint(text) == f"take the device from the net: {DEVICE}"


def test_an_exception_of_the_files_own_gets_none() -> None:
    assert hint("ValueError: the device of my net is wrong") is None


@pytest.mark.parametrize("body", WORKS.values(), ids=WORKS)
def test_what_a_cpu_need_not_do_is_left_undone(body: str, ran: Ran) -> None:
    finished = ran(HEAD + body)
    assert finished.outcome == Outcome.OK, finished
