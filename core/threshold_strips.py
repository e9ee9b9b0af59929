"""The rule of thresholding.py in one pass over strips of rows that stay in the processor's cache.

Difference, low-pass, decision and selection of a strip follow on each other, so that each picture is read
once and the result written once; done one after the other over whole pictures, they wait for memory most of
the time. The Gaussian is a product with a banded matrix, tile by tile, and so is the spreading of a decision
over the three channels. For the CPU and small kernels; measured by
`python -m emu_edit.benchmarks.thresholding`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from .filters import gaussian_kernel
from .threads import extremes, run_all

NUMBERS = 1 << 17  # pixels of a strip, about
TILE_X, TILE_Y = 32, 16
SPREAD = 8  # pixels whose decisions are spread over the channels by one row of a product
WIDEST = 48  # pixels of kernel radius; beyond, the matrices are mostly halo


def suits(previous: Tensor, radius: int) -> bool:
    """Whether `threshold_strips` can take these pictures [B,H,W,3] and a kernel of that radius."""
    height, width = previous.shape[1:3]
    # A mirrored border of `radius` pixels must find as many pixels to mirror.
    return previous.device.type == "cpu" and 0 < radius <= min(WIDEST, height, width)


def threshold_strips(
    previous: Tensor, edited: Tensor, alpha: float, sigma: float
) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """As thresholding.sequential_threshold, for float32 pictures [B,H,W,3] of one size and batch.

    Also returns the least and the largest value of both pictures, NaN if there is one: they are in the cache
    at that moment, so that the caller need not read them all before.
    """
    previous, edited = previous.contiguous(), edited.contiguous()
    height, width = previous.shape[1:3]
    strips = _Strips(height, width, gaussian_kernel(sigma).to(torch.float32), alpha)
    kept, mask = _new(previous.shape), _new(previous.shape[:3])
    jobs = [
        partial(strips.run, *planes, slice(top, min(top + strips.rows, height)))
        for planes in zip(previous, edited, kept, mask, strict=True)
        for top in range(0, height, strips.rows)
    ]
    run_all(jobs, previous.device)
    return kept, mask, extremes(torch.tensor(strips.values))


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
    """What all strips of pictures of one size share; any number of threads may run at once."""

    def __init__(self, height: int, width: int, kernel: Tensor, alpha: float):
        self.height, self.width, self.alpha = height, width, alpha
        self.radius = len(kernel) // 2
        self.values: list[tuple[float, float]] = []  # the extremes of each strip
        self.tiles = -(-width // TILE_X)
        self.rows = max(2, NUMBERS // (width * TILE_Y)) * TILE_Y
        # A third of the three channels' sum is their mean.
        self.horizontal = _band(kernel / 3.0, TILE_X)
        self.vertical = _band(kernel, TILE_Y).T.contiguous()
        self.spread = torch.eye(SPREAD).repeat_interleave(3, dim=1)

    def run(self, previous: Tensor, edited: Tensor, kept: Tensor, mask: Tensor, rows: slice) -> None:
        """Some rows of one picture [H,W,3]: those of `kept` and `mask` are written."""
        sums = self._differ(previous, edited, rows)
        for picture in (previous, edited):
            low, high = picture[rows].aminmax()
            self.values.append((float(low), float(high)))
        bounds = self._suspects(sums)
        left, right = 0, 0
        if bounds is not None:
            first, last = bounds
            decided = self._decide(sums, first, last)
            left, right = first * TILE_X, min(last * TILE_X, self.width)
            mask[rows, left:right] = decided[: rows.stop - rows.start, : right - left]
            some = np.s_[rows, left:right]
            self._select(decided, previous[some], edited[some], kept[some])
        for untouched in (slice(0, left), slice(right, self.width)):
            mask[rows, untouched] = 0.0
            kept[rows, untouched] = previous[rows, untouched]

    def _differ(self, previous: Tensor, edited: Tensor, rows: slice) -> Tensor:
        """The channels' summed absolute difference of these rows and of r pixels around them, mirrored at the
        border: [rows + 2r, tiles * TILE_X + 2r] with zeros to the right."""
        r, w = self.radius, self.width
        first, last = max(0, rows.start - r), min(self.height, rows.stop + r)
        above, size = first - (rows.start - r), last - first
        wanted = -(-(rows.stop - rows.start) // TILE_Y) * TILE_Y + 2 * r
        raw = np.subtract(edited[first:last].numpy(), previous[first:last].numpy())
        np.abs(raw, out=raw)
        sums = np.zeros((wanted, self.tiles * TILE_X + 2 * r), np.float32)
        middle = sums[above : above + size, r : r + w]
        np.add(raw[..., 0], raw[..., 1], out=middle)  # several times as fast as torch on every third number
        np.add(middle, raw[..., 2], out=middle)
        if above:
            sums[:above] = sums[above : 2 * above][::-1]
        end, needed = above + size, rows.stop - rows.start + 2 * r
        if end < needed:
            sums[end:needed] = sums[2 * end - needed : end][::-1]
        sums[:, :r] = sums[:, r : 2 * r][:, ::-1]
        sums[:, r + w : w + 2 * r] = sums[:, w : w + r][:, ::-1]
        return torch.from_numpy(sums)

    def _suspects(self, sums: Tensor) -> tuple[int, int] | None:
        """The range of tile columns that may hold changes: elsewhere no difference reaches alpha, so that no
        weighted mean of them does."""
        most = np.max(sums.numpy(), axis=0) >= 3.0 * self.alpha * (1 - 1e-5)
        found = np.flatnonzero(most)
        if not len(found):
            return None
        low, high = found[0] - 2 * self.radius, found[-1]  # the pixels that see these columns
        return max(0, int(low) // TILE_X), min(self.tiles, int(high) // TILE_X + 1)

    def _decide(self, sums: Tensor, first: int, last: int) -> Tensor:
        """1 where the low-passed difference reaches alpha, else 0: [rows, (last - first) * TILE_X]."""
        count, r, rows = last - first, self.radius, len(sums)
        tiles = sums[:, first * TILE_X :].as_strided(
            (count, rows, TILE_X + 2 * r), (TILE_X, sums.stride(0), 1), first * TILE_X
        )  # every tile with its halo, without a copy
        across = torch.empty(rows, count * TILE_X)
        made = torch.bmm(tiles, self.horizontal.expand(count, -1, -1))
        across.view(rows, count, TILE_X).copy_(made.movedim(0, 1))
        low_passed = torch.empty(rows - 2 * r, count * TILE_X)
        for top in range(0, rows - 2 * r, TILE_Y):
            window = across[top : top + TILE_Y + 2 * r]
            torch.mm(self.vertical, window, out=low_passed[top : top + TILE_Y])
        return torch.ge(low_passed, self.alpha, out=low_passed)

    def _select(self, decided: Tensor, previous: Tensor, edited: Tensor, kept: Tensor) -> None:
        """`kept` = `edited` where decided, otherwise `previous`, bit for bit: all [rows,w,3]."""
        decided = decided[: len(previous), : previous.shape[1]]
        kept.copy_(previous)
        high, wide = (np.flatnonzero(decided.amax(dim=axis).numpy()) for axis in (1, 0))
        if not len(high):
            return
        # Selection is slow, and left to the box around what did change.
        top, bottom, left, right = int(high[0]), int(high[-1]) + 1, int(wide[0]), int(wide[-1]) + 1
        box = np.s_[top:bottom, left:right]
        padded = torch.zeros(bottom - top, -(-(right - left) // SPREAD) * SPREAD)
        padded[:, : right - left] = decided[box]
        spread = torch.mm(padded.view(-1, SPREAD), self.spread)
        bits = spread.to(torch.int32).neg_()  # all of them or none
        chosen = bits.view(bottom - top, -1)[:, : 3 * (right - left)]
        before, after, here = (x[box].view(torch.int32).flatten(1) for x in (previous, edited, kept))
        torch.bitwise_xor(before, torch.bitwise_xor(before, after).bitwise_and_(chosen), out=here)
