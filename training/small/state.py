"""The state of a training run on disk: safetensors and JSON, whole or not there at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...core.errors import EmuEditError


def save_state(
    path: Path,
    model: nn.Module,
    ema: Mapping[str, Tensor],
    optimisers: Sequence[torch.optim.Optimizer],
    progress: Mapping[str, Any],
) -> None:
    """Write weights, their running average, the optimisers' moments and `progress` (JSON) to one file.

    The file is replaced only once the new one is complete, so a kill at any moment leaves one of the two.
    """
    tensors = {f"model.{k}": v.detach().contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v.contiguous() for k, v in ema.items()}
    for number, optimiser in enumerate(optimisers):
        for index, entry in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{index}.{k}": v.contiguous() for k, v in entry.items()}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    beside = path.with_name(path.name + ".new")
    save_file(tensors, beside, metadata={"progress": json.dumps(progress)})
    with open(beside, "r+b") as written:  # Windows flushes only what may be written to
        os.fsync(written.fileno())
    os.replace(beside, path)


def load_state(
    path: Path, model: nn.Module, ema: dict[str, Tensor], optimisers: Sequence[torch.optim.Optimizer]
) -> dict[str, Any]:
    """Put a saved state back in place; returns its progress.

    Raises EmuEditError for a state of another model, as an earlier version of the trainer may have left.
    """
    with safe_open(path, framework="pt") as file:
        progress = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if not _fits(tensors, progress, model, optimisers):
        raise EmuEditError(
            f"training: {path} was begun with another model or an earlier version of this trainer; take "
            "another --run, and --from the editor that it exported."
        )
    model.load_state_dict(_under(tensors, "model."))
    for name, value in _under(tensors, "ema.").items():
        ema[name].copy_(value)
    for number, optimiser in enumerate(optimisers):
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, f"optimiser.{number}.").items():
            index, key = name.split(".", 1)
            if value.ndim:  # the fused optimiser walks memory: moments must lie as their weights do
                value = torch.empty_like(parameters[int(index)]).copy_(value)
            moments.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return progress


def _fits(
    tensors: Mapping[str, Tensor],
    progress: Mapping[str, Any],
    model: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
) -> bool:
    """Whether weights, moments and counters are those of this model."""
    saved, now = _under(tensors, "model."), model.state_dict()
    if {name: w.shape for name, w in saved.items()} != {name: w.shape for name, w in now.items()}:
        return False
    for number, optimiser in enumerate(optimisers):
        shapes = [weight.shape for group in optimiser.param_groups for weight in group["params"]]
        for name, value in _under(tensors, f"optimiser.{number}.").items():
            index = int(name.split(".", 1)[0])
            if index >= len(shapes) or (value.ndim and value.shape != shapes[index]):
                return False
    return {"samples", "steps", "pair", "picture"} <= progress.keys()


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
