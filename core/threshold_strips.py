"""The rule of thresholding.py in one pass over strips of rows that stay in the processor's cache.

Difference, low-pass, decision and selection of a strip follow on each other, so that each picture is read
once and the result written once; done one after the other over whole pictures, they wait for memory most of
the time. The Gaussian is a product with a banded matrix, tile by tile. For the CPU and small kernels;
measured by `python -m emu_edit.benchmarks.thresholding`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .filters import gaussian_kernel

ROWS = 128  # of a strip
TILE_X, TILE_Y = 64, 32
WIDEST = 48  # pixels of kernel radius; beyond, the matrices are mostly halo


def suits(previous: Tensor, radius: int) -> bool:
    """Whether `threshold_strips` can take these pictures [B,H,W,3] and a kernel of that radius."""
    height, width = previous.shape[1:3]
    # A mirrored border of `radius` pixels must find as many pixels to mirror.
    return previous.device.type == "cpu" and 0 < radius <= min(WIDEST, height, width)


def threshold_strips(previous: Tensor, edited: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
    """As thresholding.sequential_threshold, for checked float32 pictures [B,H,W,3] of one size and batch."""
    kernel = gaussian_kernel(sigma).to(torch.float32)
    strips = _Strips(previous.shape[1], previous.shape[2], kernel)
    kept, mask = _new(previous.shape), _new(previous.shape[:3])
    for index in range(len(previous)):
        strips.run(previous[index], edited[index], alpha, kept[index], mask[index])
    return kept, mask


def _new(shape: tuple[int, ...]) -> Tensor:
    """Unset float32 memory. NumPy asks for huge pages, torch does not: the first write is four times as
    fast.
    """
    return torch.from_numpy(np.empty(tuple(shape), np.float32))


def _band(kernel: Tensor, size: int) -> Tensor:
    """[size + 2r, size]: column j holds the kernel from row j on, so that a row times it is a correlation."""
    matrix = torch.zeros(size + len(kernel) - 1, size)
    for j in range(size):
        matrix[j : j + len(kernel), j] = kernel
    return matrix


class _Strips:
    """The buffers for pictures of one size; their halo holds the mirrored border or the neighbouring rows."""

    def __init__(self, height: int, width: int, kernel: Tensor):
        self.height, self.width = height, width
        self.radius = r = len(kernel) // 2
        self.tiles = -(-width // TILE_X)
        rows = ROWS + 2 * r
        self.raw = torch.empty(rows, 3 * width)
        self.sums = torch.zeros(rows, self.tiles * TILE_X + 2 * r)
        self.across = torch.empty(self.tiles, rows, TILE_X)
        # Overlapping views: every tile with its halo, without a copy.
        self.sums_tiled = self.sums.as_strided(
            (self.tiles, rows, TILE_X + 2 * r), (TILE_X, self.sums.stride(0), 1)
        )
        self.across_tiled = self.across.as_strided(
            (self.tiles, ROWS // TILE_Y, TILE_Y + 2 * r, TILE_X), (rows * TILE_X, TILE_Y * TILE_X, TILE_X, 1)
        )
        # A third of the three channels' sum is their mean.
        self.horizontal = _band(kernel / 3.0, TILE_X).expand(self.tiles, -1, -1)
        self.vertical = _band(kernel, TILE_Y).T.contiguous()

    def run(self, previous: Tensor, edited: Tensor, alpha: float, kept: Tensor, mask: Tensor) -> None:
        """One picture [H,W,3]; `kept` and `mask` are written."""
        for top in range(0, self.height, ROWS):
            rows = slice(top, min(top + ROWS, self.height))
            self._differ(previous, edited, rows)
            columns = self._suspects(alpha)
            if columns is None:
                kept[rows] = previous[rows]
                mask[rows] = 0.0
                continue
            first, last = columns
            across = self.across[first:last]
            torch.bmm(self.sums_tiled[first:last], self.horizontal[first:last], out=across)
            low_passed = torch.matmul(self.vertical, self.across_tiled[first:last])  # column, row, y, x
            changed = (low_passed >= alpha).permute(1, 2, 0, 3).reshape(ROWS, -1)
            left, right = first * TILE_X, min(last * TILE_X, self.width)
            mask[rows, :left] = 0.0
            mask[rows, left:right] = changed[: rows.stop - top, : right - left]
            mask[rows, right:] = 0.0
            # Selection is slow, and left to the columns of tiles where anything did change.
            touched = (low_passed.amax(dim=(1, 2, 3)) >= alpha).nonzero().flatten().tolist() or [0, -1]
            start, stop = left + touched[0] * TILE_X, min(left + (touched[-1] + 1) * TILE_X, self.width)
            kept[rows, :start] = previous[rows, :start]
            kept[rows, stop:] = previous[rows, stop:]
            some = np.s_[rows, start:stop]
            decided = changed[: rows.stop - top, start - left : stop - left, None]
            torch.where(decided, edited[some], previous[some], out=kept[some])

    def _suspects(self, alpha: float) -> tuple[int, int] | None:
        """The range of tile columns that may hold changes: elsewhere no difference reaches alpha, so that no
        weighted mean of them does."""
        largest = self.sums_tiled.amax(dim=(1, 2))
        found = (largest >= 3.0 * alpha * (1 - 1e-5)).nonzero().flatten()
        return (int(found[0]), int(found[-1]) + 1) if len(found) else None

    def _differ(self, previous: Tensor, edited: Tensor, rows: slice) -> None:
        """Fill `sums` with the channels' summed absolute difference of these rows and their halo."""
        r, w = self.radius, self.width
        first, last = max(0, rows.start - r), min(self.height, rows.stop + r)
        above, size, wanted = first - (rows.start - r), last - first, rows.stop - rows.start + 2 * r
        raw = self.raw[:size].view(size, w, 3)
        torch.sub(edited[first:last], previous[first:last], out=raw).abs_()
        middle = self.sums[above : above + size, r : r + w]
        torch.add(raw[..., 0], raw[..., 1], out=middle).add_(raw[..., 2])
        if above:
            self.sums[:above] = self.sums[above : 2 * above].flip(0)
        end = above + size
        if end < wanted:
            self.sums[end:wanted] = self.sums[2 * end - wanted : end].flip(0)
        self.sums[:, :r] = self.sums[:, r : 2 * r].flip(1)
        self.sums[:, r + w : w + 2 * r] = self.sums[:, w : w + r].flip(1)
