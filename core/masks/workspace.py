"""Large buffers, and the size of the pieces that work on them is cut into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Torch shares an operation among threads from 32768 numbers on. Many small operations run fastest below that,
# with the pieces of work themselves shared among threads: then no thread waits for another after each step.
PIECE = 32767
_LARGE = 1 << 22
_NUMPY = {
    torch.bool: np.bool_, torch.float16: np.float16, torch.float32: np.float32, torch.float64: np.float64,
}  # fmt: skip


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """torch.empty; on the host large ones come from numpy, which asks the system for large memory pages.

    With small pages, as torch takes them, filling a fresh buffer of 64 MiB takes several times as long.
    """
    size = torch.Size(shape)
    if device.type == "cpu" and dtype in _NUMPY and size.numel() >= _LARGE:
        return torch.from_numpy(np.empty(size, _NUMPY[dtype]))
    return torch.empty(size, dtype=dtype, device=device)
