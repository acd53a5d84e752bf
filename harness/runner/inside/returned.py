"""What a submission handed back, read as weights of the track's architecture; if it cannot be, what to return instead.

Loaded inside a run's process: nothing here is trusted, and it imports little but torch.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from harness.models import WRAPPERS, qualified_name

__all__ = ["BadOutputError", "Schema", "flat_weights", "schema_of"]

Schema = dict[str, Tensor]  # names, with shapes and types, of all that a net's state holds; on the meta device

# What replaces a tensor and can be taken off: how its own tensors are called, what it is, how it is taken off.
LEFT_ON = (
    (r"parametrizations\.(\w+)\.\w+", "parametrisation", "torch.nn.utils.parametrize.remove_parametrizations"),
    (r"(\w+)_mask", "pruning mask", "torch.nn.utils.prune.remove"),
    (r"(\w+)_g", "weight norm", "torch.nn.utils.remove_weight_norm"),
    (r"(\w+)_u", "spectral norm", "torch.nn.utils.remove_spectral_norm"),
)


class BadOutputError(Exception):
    """What was returned cannot be read as weights of the track's architecture."""


def schema_of(net: nn.Module) -> Schema:
    """Return what the state of a returned net must hold."""
    return {name: value.to("meta") for name, value in _state(net).items()}


def flat_weights(returned: object, schema: Schema, *, function: str = "unlearn") -> Tensor:
    """Return parameters and float buffers as one float32 vector in the order of the track's architecture.

    Raises BadOutputError, which says what the function returned and what to return instead.
    """
    if not isinstance(returned, nn.Module):
        raise BadOutputError(_not_a_net(returned, schema, function))
    state = _state(returned)
    missing, unknown = _differences(state, schema)
    if missing or unknown:
        raise BadOutputError(_another_net(returned, missing, unknown, schema, function))
    with torch.no_grad():
        return torch.cat([_values(name, state[name], schema[name].shape) for name in schema if _counts(schema[name])])


def _state(net: nn.Module) -> dict[str, Tensor]:
    """Return the state of a net under the names it has without any of the WRAPPERS, around it or around a part."""
    state = dict(net.state_dict())
    for path, module in reversed(list(net.named_modules())):  # inner ones first
        if (wrapper := qualified_name(module)) in WRAPPERS:
            inner, others = WRAPPERS[wrapper]
            outside = f"{path}." if path else ""
            for name in others:
                state.pop(outside + name, None)
            within = f"{outside}{inner}."
            state = {
                outside + name.removeprefix(within) if name.startswith(within) else name: value
                for name, value in state.items()
            }
    return state


def _counts(value: Tensor) -> bool:
    """Whether a value of the architecture is handed in: BatchNorm's counters of batches are not."""
    return value.dtype.is_floating_point


def _differences(state: Mapping[str, object], schema: Schema) -> tuple[list[str], list[str]]:
    """Return the names that are missing in a state, and those the architecture does not have."""
    missing = [name for name, value in schema.items() if _counts(value) and name not in state]
    return sorted(missing), sorted((name for name in state if name not in schema), key=str)


def _values(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Return a parameter or buffer as a vector in float32 on the CPU, whatever its layout, device and precision."""
    if nn.parameter.is_lazy(value):
        raise BadOutputError(f"{name} has no shape yet (a lazy layer that was never called): keep the net's own")
    if value.shape != shape:
        raise BadOutputError(f"{name} has shape {tuple(value.shape)}, not {tuple(shape)}")
    if value.is_meta:
        raise BadOutputError(f"{name} holds no data (device meta): return a net that was not made or moved there")
    if not value.dtype.is_floating_point:
        raise BadOutputError(f"{name} is of type {value.dtype}: return floating-point weights")
    dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
    return dense.to("cpu", torch.float32).reshape(-1)


# ---- what to say of the rest --------------------------------------------------------------------------------------


def _not_a_net(returned: object, schema: Schema, function: str) -> str:
    if isinstance(returned, type):
        return f"{function} returned the class {returned.__name__}, not a net: return the net you were given"
    kind = type(returned).__name__
    if isinstance(returned, Mapping) and not any(_differences(returned, schema)):
        remedy = "load it, with net.load_state_dict(...), and return net"
    elif kind == "coroutine":
        remedy = f"nothing of it was executed; define {function} with def, not with async def"
    elif kind == "generator":
        remedy = "a function with a yield in it is not executed when it is called; return the net instead"
    else:
        remedy = _instead(_items(returned), schema) or "return the net you were given"
    return f"{function} returned {kind}, not a net: {remedy}"


def _items(returned: object) -> Iterator[tuple[str, object]]:
    """Yield what a container or an object holds, each with what has to be written to get it."""
    if isinstance(returned, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in returned.items())
    elif isinstance(returned, Sequence):
        yield from ((f"[{index}]", value) for index, value in enumerate(returned))
    else:
        yield from ((f".{name}", value) for name, value in getattr(returned, "__dict__", {}).items())


def _another_net(net: nn.Module, missing: list[str], unknown: list[str], schema: Schema, function: str) -> str:
    kind = type(net).__name__
    parts = ((_access(path), module) for path, module in net.named_modules() if path)
    if missing and (instead := _instead(parts, schema)) is not None:
        return f"{function} returned {kind}, a wrapper around the net: {instead}"
    if (left := _left_on(missing, unknown)) is not None:
        return left
    names = [f"no {name}" for name in missing[:3]] + [f"unknown {name}" for name in unknown[:3]]
    said = f"the returned net ({kind}) has another architecture: {', '.join(names)}"
    return f"{said}; {remedy}" if (remedy := _remedy(net, missing, unknown, schema)) else said


def _instead(parts: Iterable[tuple[str, object]], schema: Schema) -> str | None:
    """Return which part of what came back to return, each with what has to be written to get it; None if none fits."""
    nets: list[str] = []
    for access, value in parts:
        is_within = any(access.startswith(f"{net}.") for net in nets)
        if not is_within and isinstance(value, nn.Module) and not any(_differences(_state(value), schema)):
            nets.append(access)
    if not nets:
        return None
    return f"return only its {nets[0]}" if len(nets) == 1 else f"return only one of its nets: {', '.join(nets[:3])}"


def _left_on(missing: list[str], unknown: list[str]) -> str | None:
    """Return which masks, norms or parametrisations were left on, and how to take them off; None if there are none."""
    for pattern, what, remove in LEFT_ON:
        found = [match for name in unknown if (match := re.fullmatch(rf"((?:.*\.)?){pattern}", name))]
        replaced = dict.fromkeys((match[1], match[2]) for match in found if match[1] + match[2] in missing)
        if replaced:
            layer, tensor = next(iter(replaced))
            others = f", and so for {len(replaced) - 1} more" if len(replaced) > 1 else ""
            access = f"net{_access(layer.removesuffix('.'))}"
            return f'{layer}{tensor} has a {what} left on: call {remove}({access}, "{tensor}"){others}'
    return None


def _remedy(net: nn.Module, missing: list[str], unknown: list[str], schema: Schema) -> str | None:
    """Return what to do about some known changes of an architecture."""
    if any("_packed_params" in name or name.endswith("zero_point") for name in unknown):
        return "it was quantised: return the net with floating-point weights"
    if any("lora_" in name for name in unknown):
        return "merge the adapters into the layers' own weights"
    plain = [name for name in missing if isinstance(reduce(_attribute, name.split("."), net), Tensor)]
    if plain:
        return f"{plain[0]} is in no state_dict: set it as nn.Parameter, or as a buffer that is saved"
    without_statistics = {name.rpartition(".")[0] for name in missing if name.endswith(".running_mean")}
    if missing and without_statistics == {name.rpartition(".")[0] for name in missing}:
        return "keep the BatchNorm layers, neither replaced nor fused, and their statistics (track_running_stats=True)"
    if not missing:
        changed = f"net{_access(_added(unknown[0], schema))}"
        return f"{changed} was added or replaced: take it off, or put the net's own back"
    return None


def _attribute(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)


def _added(name: str, schema: Schema) -> str:
    """Return the module that an unknown name belongs to, if it was added as a whole; else the name."""
    parts = name.split(".")
    paths = [".".join(parts[:length]) for length in range(1, len(parts))]
    return next((path for path in paths if not any(known.startswith(f"{path}.") for known in schema)), name)


def _access(path: str) -> str:
    """Return what has to be written after a net to get a module of it: .layer1[0] for layer1.0."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split(".") if part)
