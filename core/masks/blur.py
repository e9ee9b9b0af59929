"""Gaussian blur for any sigma at a cost that does not grow with it, borders as in scipy.ndimage.

Each axis is a product with a banded matrix, a tile of pixels at a time, in pieces of rows that stay in the
processor's cache. From sigma 4 px on, the blurred picture is computed only at nodes s px apart, s the largest
power of two that is no more than sigma/2, and drawn from them as a uniform cubic B-spline. The spline is
itself nearly a Gaussian, of variance s*s/3 (Unser, Aldroubi and Eden 1993, "B-spline signal processing"),
which is taken off the Gaussian's before. Error against scipy.ndimage.gaussian_filter in double precision:
below 1/512 of the value range (tests/test_masks.py), rounding alone below sigma 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..threads import run_all
from .workspace import empty

TRUNCATE = 4.0  # the Gaussian is cut off at so many sigmas, as scipy's is
# Beyond twice an axis' length every wave of a mirrored picture is gone (the slowest keeps 3e-9 of its
# height), so that a wider Gaussian gives the same.
_FLAT = 2.0
_SPLINE_FROM = 2.0  # least sigma in units of the nodes' distance
_TILE = 16  # nodes at a time where the picture is blurred
_ROWS = 64  # rows of a piece


def gaussian_blur(planes: Tensor, sigma: float, clamp: bool = False) -> Tensor:
    """Blur [..., H, W] of bool or floats by `sigma` px (0 = untouched) -> floats of the same shape.

    Equals scipy.ndimage.gaussian_filter(mode="reflect", truncate=4) along the last two axes within 1/512 of
    the value range. The result has the input's type, float32 for bools; the arithmetic is in float32 at
    least. clamp: cut off what rounding adds to a range of 0..1.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise EmuEditError(f"mask: sigma must be 0 or more pixels, got {sigma}; 0 leaves it sharp.")
    if planes.ndim < 2 or not (planes.dtype == torch.bool or planes.is_floating_point()):
        raise EmuEditError(
            f"mask: expected bools or floats [..., height, width], got {planes.dtype} of shape "
            f"{list(planes.shape)}; convert it."
        )
    out = torch.float32 if planes.dtype == torch.bool else planes.dtype
    # Less than one pixel beyond the middle one: scipy's kernel is that pixel alone.
    if planes.numel() == 0 or int(TRUNCATE * sigma + 0.5) == 0:
        return planes.to(out, copy=True)
    flat = planes.detach().reshape(-1, *planes.shape[-2:])
    source = flat.view(torch.uint8) if flat.dtype == torch.bool else flat  # torch converts bytes far faster
    result = empty(source.shape, out, source.device)
    working = torch.promote_types(out, torch.float32)
    down, across = (_plan(length, float(sigma), working, source.device) for length in source.shape[1:])
    _blur(source, result, down, across, clamp)
    return result.reshape(planes.shape)


def _blur(source: Tensor, result: Tensor, down: _Axis, across: _Axis, clamp: bool) -> None:
    """Planes [B,H,W] into `result` of the same shape: rows, columns, then the pixels between the nodes."""
    device, working = source.device, down.weights.dtype
    halves = empty((len(source), down.padded, across.nodes), working, device)
    nodes = empty((len(source), down.nodes, across.nodes), working, device)
    size = _ROWS if device.type == "cpu" else max(down.padded, across.nodes)
    at_once = max(1, size // down.block) * down.block

    def share(work: Callable[..., None], length: int, size: int, *tensors: Tensor) -> None:
        cuts = [slice(first, min(length, first + size)) for first in range(0, length, size)]
        run_all([partial(work, *each, cut) for each in zip(*tensors, strict=True) for cut in cuts], device)

    share(partial(_across, down, across), down.length, size, source, halves)
    share(partial(_above_and_below, down), across.nodes, size, halves)
    share(partial(_down, down), down.nodes, _TILE, halves, nodes)
    share(partial(_draw, down, across, clamp), down.length, at_once, nodes, result)


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis of `length` pixels and its nodes, `step` pixels apart, the first one step before pixel 0.

    before: mirrored pixels in front of pixel 0, padded: length
    of the axis with all that is mirrored. weights [seen, _TILE]: from pixels to the nodes of a tile. spline
    [count + 3, block]: from `count` + 3 nodes to the pixels of a block; None where pixels are the nodes.
    """

    length: int
    step: int
    nodes: int
    before: int
    padded: int
    weights: Tensor
    block: int
    spline: Tensor | None


@lru_cache(maxsize=32)
def _plan(length: int, sigma: float, dtype: torch.dtype, device: torch.device) -> _Axis:
    sigma = min(sigma, _FLAT * length)
    step = 1
    while 2 * step * _SPLINE_FROM <= sigma:
        step *= 2
    rest = math.sqrt(sigma * sigma - (step * step / 3 if step > 1 else 0))
    reach = int(TRUNCATE * rest + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    bell = torch.exp(-0.5 * (offsets / rest) ** 2)
    weights = torch.zeros(len(bell) + (_TILE - 1) * step, _TILE, dtype=torch.float64)
    for node in range(_TILE):
        weights[node * step : node * step + len(bell), node] = bell / bell.sum()
    count = max(4, 128 // step) if step > 4 else 16
    nodes = length if step == 1 else -(-length // step) + 3
    before = reach if step == 1 else reach + step
    padded = (-(-nodes // _TILE) * _TILE - 1) * step + 2 * reach + 1
    spline = None if step == 1 else _spline(step, count).to(device, dtype)
    return _Axis(length, step, nodes, before, padded, weights.to(device, dtype), count * step, spline)


def _spline(step: int, count: int) -> Tensor:
    """[count + 3, count * step]: the uniform cubic B-spline's weights; the first pixel lies on node 1."""
    t = torch.arange(step, dtype=torch.float64) / step
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    matrix = torch.zeros(count + 3, count * step, dtype=torch.float64)
    for node in range(count):
        for tap, part in enumerate(parts):
            matrix[node + tap, node * step : (node + 1) * step] = part / 6
    return matrix


def _mirror(planes: Tensor, axis: _Axis, dim: int) -> None:
    """Fill what lies around the axis' own pixels: d c b a | a b c d | d c b a, as often as it takes."""
    start, length = axis.before, axis.length
    end, after = start + length, axis.padded - start - length
    if max(start, after) <= length:
        for first, size, origin in ((0, start, start), (end, after, end - after)):
            planes.narrow(dim, first, size).copy_(planes.narrow(dim, origin, size).flip(dim))
        return
    index = torch.arange(-start, length + after, device=planes.device) % (2 * length)
    index = torch.where(index < length, index, 2 * length - 1 - index) + start
    for first, last in ((0, start), (end, axis.padded)):
        planes.narrow(dim, first, last - first).copy_(planes.index_select(dim, index[first:last]))


def _above_and_below(down: _Axis, halves: Tensor, columns: slice) -> None:
    _mirror(halves[:, columns], down, 0)


def _across(down: _Axis, across: _Axis, source: Tensor, halves: Tensor, rows: slice) -> None:
    """Blur some rows of one plane along themselves: `halves` [down.padded, across.nodes] are written."""
    padded = halves.new_empty(rows.stop - rows.start, across.padded)
    padded[:, across.before : across.before + across.length] = source[rows]
    _mirror(padded, across, 1)
    tiles, seen = -(-across.nodes // _TILE), len(across.weights)
    windows = padded.as_strided(
        (tiles, len(padded), seen), (_TILE * across.step, across.padded, 1)
    )  # overlap, without a copy
    made = torch.bmm(windows, across.weights.expand(tiles, -1, -1))
    target = halves[down.before + rows.start : down.before + rows.stop]
    target.copy_(made.movedim(0, 1).reshape(len(padded), -1)[:, : across.nodes])


def _down(down: _Axis, halves: Tensor, nodes: Tensor, tile: slice) -> None:
    """Blur along the columns, for a tile of nodes."""
    seen = halves[tile.start * down.step :][: len(down.weights)]
    torch.mm(down.weights.T[: tile.stop - tile.start], seen, out=nodes[tile])


def _draw(down: _Axis, across: _Axis, clamp: bool, nodes: Tensor, result: Tensor, rows: slice) -> None:
    """Draw some rows of one plane from its nodes, a block at a time."""
    for first in range(rows.start, rows.stop, down.block):
        target = result[first : min(first + down.block, rows.stop)]
        if down.spline is None:
            lines = nodes[first : first + len(target)]
        else:
            seen = nodes[first // down.step :][: len(down.spline)]
            lines = torch.mm(down.spline[: len(seen), : len(target)].T, seen)
        drawn = target if target.dtype == lines.dtype else lines.new_empty(target.shape)
        if across.spline is None:
            drawn.copy_(lines)
        else:
            for left in range(0, across.length, across.block):
                part = drawn[:, left : left + across.block]
                seen = lines[:, left // across.step :][:, : len(across.spline)]
                torch.mm(seen, across.spline[: seen.shape[1], : part.shape[1]], out=part)
        if clamp:
            drawn.clamp_(0.0, 1.0)
        if drawn is not target:
            target.copy_(drawn)
