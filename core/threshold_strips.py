"""The rule of thresholding.py in one pass over strips of rows that stay in the processor's cache.

Difference, low-pass, decision and selection of a strip follow on each other, so that each picture is read
once and the result written once; done one after the other over whole pictures, they wait for memory most of
the time. The Gaussian is a product with a banded matrix for each direction, and columns in which the values
before a product already settle the decision are spared it. For the CPU and small kernels; measured by
`python -m emu_edit.benchmarks.thresholding`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from .filters import gaussian_kernel
from .images import OVERSHOOT
from .threads import run_all

ROWS = 32, 256  # of a strip: at least and at most
CHUNK = 1 << 17  # pixels whose differences are taken at a time: fewer, and threads wait for the interpreter
TILE = 32  # pixels of one side that one product gives
# Pixels up to which one thread is faster than two that share a core: with steps this short they mostly wait
# for each other's turn at the interpreter.
ALONE = 1 << 20
WIDEST = 48  # pixels of kernel radius; beyond, the matrices are mostly halo

PIXEL = np.dtype("V12")  # three floats that are copied as one
# Read as unsigned numbers, floats above 0 keep their order, and what is negative or NaN lies above them all.
LARGEST = int(np.float32(1 + OVERSHOOT).view(np.uint32))


def suits(previous: Tensor, radius: int) -> bool:
    """Whether `threshold_strips` can take these pictures [B,H,W,3] and a kernel of that radius."""
    height, width = previous.shape[1:3]
    # A mirrored border of `radius` pixels must find as many pixels to mirror.
    return previous.device.type == "cpu" and 0 < radius <= min(WIDEST, height, width)


def threshold_strips(
    previous: Tensor, edited: Tensor, alpha: float, sigma: float
) -> tuple[Tensor, Tensor, bool]:
    """As thresholding.sequential_threshold, for float32 pictures [B,H,W,3] of one size and batch.

    Also returns whether no value of either picture is negative, above 1 + OVERSHOOT or NaN: they are in the
    cache at that moment, so that the caller need not read them all before.
    """
    height, width = previous.shape[1:3]
    strips = _Strips(height, width, gaussian_kernel(sigma).to(torch.float32), alpha)
    kept, mask = _new(previous.shape), _new(previous.shape[:3])
    before, after = ([np.ascontiguousarray(x) for x in y.detach().numpy()] for y in (previous, edited))
    threads = torch.get_num_threads() if len(before) * height * width > ALONE else 1
    rows = _rows(height, -(-threads // len(before)))
    jobs = [
        partial(strips.run, *planes, slice(top, min(top + rows, height)))
        for planes in zip(before, after, kept.numpy(), mask.numpy(), strict=True)
        for top in range(0, height, rows)
    ]
    run_all(jobs, previous.device, most=threads)
    return kept, mask, all(strips.plain)


def _rows(height: int, wanted: int) -> int:
    """How many rows a strip has: whole tiles, about as many in each, and `wanted` strips if possible."""
    least, most = ROWS
    count = max(wanted, -(-height // most))
    return max(least, -(-height // (count * TILE)) * TILE)


def _new(shape: tuple[int, ...]) -> Tensor:
    """Unset float32 memory. NumPy asks for huge pages, torch does not: the first write is four times as
    fast.
    """
    return torch.from_numpy(np.empty(tuple(shape), np.float32))


def _band(kernel: Tensor) -> Tensor:
    """[TILE + 2r, TILE]: column j holds the kernel from row j on, so that a row times it is a correlation."""
    matrix = torch.zeros(TILE + len(kernel) - 1, TILE)
    for j in range(TILE):
        matrix[j : j + len(kernel), j] = kernel
    return matrix


class _Strips:
    """What all strips of pictures of one size share; any number of threads may run at once."""

    def __init__(self, height: int, width: int, kernel: Tensor, alpha: float):
        self.height, self.width = height, width
        self.alpha = np.float32(min(alpha, 1e30))  # what is larger is no float32
        self.radius = len(kernel) // 2
        self.plain: list[bool] = []  # of each strip, whether its values are those of a picture
        self.tiles = -(-width // TILE)
        # A third of the three channels' sum is their mean.
        self.horizontal = _band(kernel / 3.0)
        self.vertical = _band(kernel).T.contiguous()

    def run(
        self, previous: np.ndarray, edited: np.ndarray, kept: np.ndarray, mask: np.ndarray, rows: slice
    ) -> None:
        """Some rows of one picture [H,W,3]: those of `kept` and `mask` are written."""
        sums = self._differ(previous, edited, rows)
        after, here = (x.view(PIXEL)[rows, :, 0] for x in (edited, kept))
        kept[rows] = previous[rows]
        mask[rows] = 0.0
        first, last = self._suspects(sums, 3 * self.alpha, 2 * self.radius)
        if first == last:
            return
        across = self._across(sums, first, last)
        start, stop = self._suspects(across.numpy(), self.alpha, 0)
        if start == stop:
            return
        low_passed = self._down(across[:, start * TILE : stop * TILE]).numpy()
        columns = slice((first + start) * TILE, min((first + stop) * TILE, self.width))
        decided = low_passed[: len(here), : columns.stop - columns.start] >= self.alpha
        mask[rows, columns] = decided
        # Where neighbours are decided alike they are copied together: many times as fast as a selection.
        np.copyto(here[:, columns], after[:, columns], where=decided)

    def _differ(self, previous: np.ndarray, edited: np.ndarray, rows: slice) -> np.ndarray:
        """The channels' summed absolute difference of these rows and of r pixels around them, mirrored at the
        border: [whole tiles + 2r, whole tiles + 2r] with zeros below and to the right."""
        r, w = self.radius, self.width
        first, last = max(0, rows.start - r), min(self.height, rows.stop + r)
        above, size = first - (rows.start - r), last - first
        wanted = -(-(rows.stop - rows.start) // TILE) * TILE + 2 * r
        sums = np.zeros((wanted, self.tiles * TILE + 2 * r), np.float32)
        step = max(1, CHUNK // w)
        scratch = np.empty((min(step, size), w, 3), np.float32)
        plain = True
        for top in range(first, last, step):
            old, new = (x[top : min(top + step, last)] for x in (previous, edited))
            raw = scratch[: len(old)]
            np.subtract(new, old, out=raw)
            plain = plain and max(x.view(np.uint32).max() for x in (old, new)) <= LARGEST
            np.abs(raw, out=raw)
            inside = sums[above + top - first : above + top - first + len(old), r : r + w]
            np.add(raw[..., 0], raw[..., 1], out=inside)  # several times as fast as a sum over three
            np.add(inside, raw[..., 2], out=inside)
        self.plain.append(bool(plain))
        if above:
            sums[:above] = sums[above : 2 * above][::-1]
        end, needed = above + size, rows.stop - rows.start + 2 * r
        if end < needed:
            sums[end:needed] = sums[2 * end - needed : end][::-1]
        sums[:, :r] = sums[:, r : 2 * r][:, ::-1]
        sums[:, r + w : w + 2 * r] = sums[:, w : w + r][:, ::-1]
        return sums

    def _suspects(self, values: np.ndarray, threshold: np.float32, halo: int) -> tuple[int, int]:
        """The range of tile columns that may hold changes, of values [rows, columns + halo]: elsewhere none
        reaches the threshold, so that no weighted mean of them does."""
        found = np.flatnonzero(np.max(values, axis=0) >= threshold * np.float32(1 - 1e-5))
        if not len(found):
            return 0, 0
        tiles = (values.shape[1] - halo) // TILE
        return max(0, int(found[0]) - halo) // TILE, min(tiles, int(found[-1]) // TILE + 1)

    def _across(self, sums: np.ndarray, first: int, last: int) -> Tensor:
        """The rows under the kernel, in a range of tile columns: [rows, (last - first) * TILE]."""
        planes = torch.from_numpy(sums)
        rows, pitch = planes.shape
        made = torch.empty(rows, last - first, TILE)
        # Tiles and the halos to their right overlap, which a factor's rows may not: one product for each
        # TILE columns of what goes into a tile.
        for part in range(0, len(self.horizontal), TILE):
            weights = self.horizontal[part : part + TILE].expand(rows, -1, -1)
            shape = rows, last - first, weights.shape[1]
            into = planes.as_strided(shape, (pitch, TILE, 1), first * TILE + part)
            torch.baddbmm(made, into, weights, beta=int(part > 0), out=made)
        return made.view(rows, -1)

    def _down(self, across: Tensor) -> Tensor:
        """The columns under the kernel: [rows - 2r, columns]."""
        rows, columns = across.shape
        count, pitch = (rows - 2 * self.radius) // TILE, across.stride(0)
        windows = across.as_strided(
            (count, TILE + 2 * self.radius, columns), (TILE * pitch, pitch, 1), across.storage_offset()
        )
        return torch.bmm(self.vertical.expand(count, -1, -1), windows).view(-1, columns)
