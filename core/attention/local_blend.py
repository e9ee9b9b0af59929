"""Prompt-to-Prompt's local blend: a mask of where the chosen words look, from recorded maps.

Source: 2208.01626, section 3.2 "local editing", and the published LocalBlend, whose layers (16 x 16 of 64 x
64 latents), pooling, scaling and threshold these are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .record import MapRecorder

THRESHOLD = 0.3


def words_mask(maps: Tensor, height: int, width: int, threshold: float = THRESHOLD) -> Tensor:
    """Maps [n,h,w] of the chosen words, any scale -> mask [n,height,width] of zeros and ones (float32).

    Each cell takes the largest of its 3 x 3 neighbours; the map is enlarged cell by cell and divided by its
    largest value; what exceeds `threshold` is 1. A map that is zero everywhere gives zeros.
    """
    pooled = F.max_pool2d(maps[:, None], kernel_size=3, stride=1, padding=1)
    large = F.interpolate(pooled, size=(height, width))  # nearest
    peak = large.amax(dim=(2, 3), keepdim=True)
    scaled = large / torch.where(peak > 0, peak, torch.ones_like(peak))
    return (scaled > threshold).float()[:, 0]


def blend_mask(recorder: MapRecorder, word: int, height: int, width: int, threshold: float) -> Tensor | None:
    """The mask [P,1,height,width] of column `word`: where either caption's words look; None before any step.

    The maps are those of the layers at a quarter of the latents' side, or the nearest recorded.
    """
    size = recorder.nearest(height * width / 16)
    if size is None:
        return None
    source, target = (words_mask(m[:, word], height, width, threshold) for m in recorder.average(size))
    return torch.maximum(source, target)[:, None]
