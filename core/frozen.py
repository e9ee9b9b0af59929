"""An editor whose weights stand still while gradients pass through it, to a vector, a text or a latent.

Such gradients need the activations but none of the weights' own gradients, which would cost as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def frozen(backbone: Any, checkpointing: bool, decoder: bool = False) -> Iterator[None]:
    """Let gradients through an editor's network, with `decoder` its autoencoder too, but none into their
    weights; on leaving all is as before.

    Weights that were loaded in inference mode, as hosts of nodes do it, are replaced by equal ordinary ones
    and stay so: call this outside of inference mode. `checkpointing` computes activations twice instead of
    keeping them.
    """
    names = ("unet", "conditioner", *(("vae",) if decoder else ()))
    parts = [
        part for part in (getattr(backbone, name, None) for name in names) if isinstance(part, nn.Module)
    ]
    for part in parts:
        _leave_inference_mode(part)
    wanted = [p for part in parts for p in part.parameters() if p.requires_grad]
    saving = [
        part
        for part in parts
        if checkpointing
        and getattr(part, "_supports_gradient_checkpointing", False)
        and not part.is_gradient_checkpointing
    ]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        for part in saving:
            part.enable_gradient_checkpointing()  # type: ignore[operator]
        yield
    finally:
        for part in saving:
            part.disable_gradient_checkpointing()  # type: ignore[operator]
        for parameter in wanted:
            parameter.requires_grad_(True)


def _leave_inference_mode(module: nn.Module) -> None:
    """Replace weights that were loaded in inference mode by equal ones that gradients can pass through."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            if weight.is_inference():
                setattr(part, name, nn.Parameter(weight.data.clone(), requires_grad=weight.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_inference():
                setattr(part, name, buffer.clone())
