"""Take an edit where it is, and nothing else: outside the mask every bit of the previous picture stays."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masks.morphology import erode

STEPS = 8  # of a soft border, at most


def feather(changed: Tensor, width: float) -> Tensor:
    """Bool [B,H,W] -> soft mask [B,H,W] that rises from the border inwards to 1 over `width` pixels.

    Outside `changed` it is exactly 0, so that feathering moves nothing there. 0 px: hard, 0 or 1.
    """
    steps = max(1, min(STEPS, round(width)))
    total = changed.to(torch.float32)
    for step in range(1, steps):
        total = total + erode(changed, width * step / steps).to(torch.float32)
    return total / steps


def composite(previous: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """[B,H,W,3]: previous + mask * (edited - previous); exactly `previous` where 0, exactly `edited` where
    1.
    """
    soft = mask[..., None]
    mixed = torch.where(soft >= 1, edited, torch.lerp(previous, edited, soft))
    return torch.where(soft <= 0, previous, mixed)
