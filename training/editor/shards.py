"""Weights in one piece and weights spread over processes, seen alike.

Under FSDP (version 2) every parameter is a DTensor, of which each process holds a part. Saving gathers the
whole on every process in turn; loading cuts each process's part out again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_spread(tensor: Tensor) -> bool:
    """True for a tensor of which this process holds a part."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Any) -> Tensor:
    """What this process holds of a tensor, sharing its memory: all of it, or its part."""
    return tensor.to_local() if is_spread(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """The whole tensor, contiguous, on the CPU. All processes must call this together."""
    full = tensor.full_tensor() if is_spread(tensor) else tensor
    return full.detach().to("cpu").contiguous()


@torch.no_grad()
def put(value: Tensor, into: Tensor) -> None:
    """Copy a whole tensor into a parameter, or into this process's part of it."""
    if is_spread(into):
        spread: Any = into
        local(spread).copy_(local(_part(value.to(spread.device, spread.dtype), spread)))
    else:
        into.copy_(value)


def like(value: Tensor, parameter: Tensor, fused: bool) -> Tensor:
    """A whole optimiser moment as this process must hold it beside `parameter`."""
    if is_spread(parameter) and value.shape == parameter.shape:
        return _part(value.to(parameter.device), parameter)
    if value.shape == parameter.shape and value.ndim:
        # Fused optimisers walk memory: moments must lie as their weights do.
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    # The count of steps stays on the CPU, but for fused optimisers.
    return value.to(parameter.device) if value.ndim or fused else value


def _part(value: Tensor, parameter: Any) -> Tensor:
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's moments by parameter name and key, whole, on the CPU."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            for key, value in optimiser.state.get(parameter, {}).items():
                value = value if isinstance(value, Tensor) else torch.tensor(float(value))
                found[f"{names[id(parameter)]}|{key}"] = whole(value)
    return found


def restore_optimiser(optimiser: torch.optim.Optimizer, model: nn.Module, file: Any) -> None:
    """Put moments saved by `optimiser_tensors` back, from an open safetensors file."""
    parameters = dict(model.named_parameters())
    fused = any(group.get("fused") for group in optimiser.param_groups)
    for label in file.keys():  # noqa: SIM118 (not a mapping)
        name, key = label.rsplit("|", 1)
        parameter = parameters[name]
        optimiser.state[parameter][key] = like(file.get_tensor(label), parameter, fused)
