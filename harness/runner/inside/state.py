"""What a learner keeps of a training for its `unlearn`: tensors by name, as bytes that nobody else reads.

Loaded inside a run's process. The bytes are those of safetensors, which holds numbers and no code.
"""

from collections.abc import Mapping

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from harness.runner.inside.returned import BadOutputError

__all__ = ["packed", "split_returned", "unpacked"]


def split_returned(returned: object, net: object, state: object) -> tuple[object, object]:
    """Return the net, or the list of nets, and the state in what a learner's function returned.

    None stands for the net that was handed over, changed in place. state: what stands for none.
    """
    if isinstance(returned, tuple) and len(returned) == 2:
        returned, state = returned
    return (net if returned is None else returned), state


def packed(state: object, most_bytes: int) -> bytes:
    """Return a state as bytes. Raises BadOutputError that says what in it cannot be kept."""
    if not isinstance(state, Mapping):
        raise BadOutputError(f"the state is of type {type(state).__name__}: make it a dict of tensors or arrays")
    tensors = {_name(name): _tensor(name, value) for name, value in state.items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    content = save(tensors) if size <= most_bytes else b""
    if (size := max(size, len(content))) > most_bytes:
        too_much = f"the state has {size / 2**20:.1f} MB, the limit is {most_bytes / 2**20:g} MB"
        raise BadOutputError(f"{too_much}: keep less, or in half precision")
    return content


def unpacked(content: bytes, left_by: str) -> dict[str, Tensor]:
    """Return the state in such bytes: tensors on the CPU. Raises BadOutputError if the call before left others."""
    try:
        return dict(load(content)) if content else {}
    except Exception as error:  # noqa: BLE001 - of whatever those bytes are
        raise BadOutputError(f"the state that {left_by} left cannot be read: {error}") from None


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise BadOutputError(f"the state has the name {name!r:.80}: name what it holds by strings")
    return name


def _tensor(name: str, value: object) -> Tensor:
    """Return a value of a state as a tensor of its own on the CPU."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor):
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"
        raise BadOutputError(
            f"state[{name!r:.80}] is {kind}: keep tensors or arrays of numbers, such as torch.tensor({_example(value)})"
        )
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        raise BadOutputError(f"state[{name!r:.80}] is a tensor without plain values: keep a dense one")
    if value.isnan().any():
        raise BadOutputError(f"state[{name!r:.80}] holds NaN: keep what it holds finite")
    return value.detach().to("cpu", copy=True).contiguous()


def _example(value: object) -> str:
    return f"{value!r:.40}" if isinstance(value, bool | int | float) else "..."
