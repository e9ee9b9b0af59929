"""An editor whose weights stand still while gradients pass through it, to a vector, a text or a latent.

Such gradients need the activations but none of the weights' own gradients, which would cost as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def frozen(backbone: Any, checkpointing: bool) -> Iterator[None]:
    """Let gradients through an editor's network but none into its weights; on leaving all is as before.

    Weights that were loaded in inference mode, as hosts of nodes do it, are replaced by equal ordinary ones
    and stay so: call this outside of inference mode. `checkpointing` computes activations twice instead of
    keeping them.
    """
    modules = [m for m in (getattr(backbone, n, None) for n in ("unet", "conditioner")) if m is not None]
    parts = [module for module in modules if isinstance(module, nn.Module)]
    for part in parts:
        _leave_inference_mode(part)
    wanted = [p for part in parts for p in part.parameters() if p.requires_grad]
    unet = parts[0] if parts else None
    saves = checkpointing and unet is not None and hasattr(unet, "enable_gradient_checkpointing")
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        if saves:
            unet.enable_gradient_checkpointing()  # type: ignore[union-attr, operator]
        yield
    finally:
        if saves:
            unet.disable_gradient_checkpointing()  # type: ignore[union-attr, operator]
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
