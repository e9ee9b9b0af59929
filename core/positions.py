"""Where in the picture a latent lies, as waves: what lets a small U-Net draw something in a fixed place.

A convolution does not know where it is but for the zeros beyond the border, from which a large network works
it out; a small one is told (Liu et al. 1807.03247, with the sines and cosines of Vaswani et al. 1706.03762).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHANNELS = 4  # a frequency: sine and cosine, across and down


def positions(frequencies: int, height: int, width: int, like: Tensor) -> Tensor:
    """[1, 4 * frequencies, height, width] in -1..1, of the type and device of `like`.

    Places are counted from 0 to 1 in either direction, so a picture of any size has the same waves: half a
    one, 1, 2, 4, ... of them. Channels: for each frequency sin x, cos x, sin y, cos y.
    """
    planes = []
    across = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / width
    down = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / height
    for power in range(frequencies):
        for place in (across.expand(height, width), down[:, None].expand(height, width)):
            angle = math.pi * 2**power * place
            planes += [angle.sin(), angle.cos()]
    return torch.stack(planes)[None].to(like.dtype) if planes else like.new_zeros(1, 0, height, width)
