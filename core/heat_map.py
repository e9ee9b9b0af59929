"""Where two pictures differ, as a picture: dim grey where nothing changed, then violet, orange, yellow."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import EmuEditError

FULL_SCALE = 0.25
# Matplotlib's "inferno" (CC0) at 0, 1/4, 1/2, 3/4 and 1.
STOPS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
DIM = 0.35
SHOWN_FROM = 0.02  # of the full scale; below lies the rounding of 8-bit files


def colours(values: Tensor) -> Tensor:
    """[...] in 0..1 -> colours [...,3] in 0..1, linear between STOPS."""
    stops = torch.tensor(STOPS, dtype=torch.float32, device=values.device) / 255
    place = values.to(torch.float32).clamp(0, 1) * (len(STOPS) - 1)
    lower = place.floor().clamp(max=len(STOPS) - 2)
    share = (place - lower)[..., None]
    index = lower.long()
    return stops[index] * (1 - share) + stops[index + 1] * share


def heat_map(
    before: Tensor, difference: Tensor, full_scale: float = FULL_SCALE, mask: Tensor | None = None
) -> Tensor:
    """A picture [B,H,W,3] of `difference` [B,H,W] (0..1) laid over a dim grey of `before` [B,H,W,3].

    full_scale: the difference that is drawn brightest. mask [B,H,W]: its edge, at one half, is a white line,
    so that what changed outside it meets the eye.
    """
    if not (math.isfinite(full_scale) and full_scale > 0):
        raise EmuEditError(f"heat map: the full scale must be above 0, got {full_scale}; 0.25 is usual.")
    heat = (difference.to(torch.float32) / full_scale).clamp(0, 1)
    cover = ((heat - SHOWN_FROM) * 5).clamp(0, 1)[..., None]
    weights = torch.tensor((0.2126, 0.7152, 0.0722), dtype=torch.float32, device=before.device)
    grey = (before.to(torch.float32).clamp(0, 1) @ weights)[..., None] * DIM
    picture = grey * (1 - cover) + colours(heat) * cover
    if mask is None:
        return picture
    filled = (mask > 0.5).to(torch.float32)[:, None]
    radius = max(1, round(min(mask.shape[-2:]) / 512))
    grown = F.max_pool2d(filled, 2 * radius + 1, stride=1, padding=radius)
    edge = (grown - filled)[:, 0, :, :, None]
    return picture * (1 - edge) + edge
