"""Gaussian blur for any sigma at a cost that does not grow with it, borders as in scipy.ndimage.

Along each axis the blur is a product with a banded matrix, taken a block of rows at a time. The picture is
mirrored at its borders with the edge pixel repeated (d c b a | a b c d | d c b a), which is folded into the
matrix. From sigma 16 px on, the picture is first averaged over cells of s x s pixels, s the largest power of
two
that is no more than sigma/8, and the result interpolated linearly from the cells' centres; the variance that
both add is taken off the Gaussian's. Measured error against scipy.ndimage.gaussian_filter in double
precision: below 1/512 of the value range everywhere (tests/test_masks.py), rounding alone below sigma 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EmuEditError
from .workspace import PIECE, empty, run_all

TRUNCATE = 4.0  # the Gaussian is cut off at so many sigmas, as scipy's is
# Beyond twice an axis' length every wave of a mirrored picture is gone (the slowest keeps 3e-9 of its
# height).
_FLAT = 2.0


def gaussian_blur(planes: Tensor, sigma: float, clamp: bool = False) -> Tensor:
    """Blur [..., H, W] of bool or floats by `sigma` px (0 = untouched) -> floats of the same shape.

    Equals scipy.ndimage.gaussian_filter(mode="reflect", truncate=4) along the last two axes within
    1/512 of the
    value range. The result has the input's type, float32 for bools; the arithmetic is in float32 at least.
    clamp: cut off what rounding adds to a range of 0..1.
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
    working = torch.float64 if out == torch.float64 else torch.float32
    height, width = planes.shape[-2:]
    flat = planes.detach().reshape(-1, height, width)
    step = 1
    while step * 16 <= sigma:
        step *= 2
    plain = flat.view(torch.uint8) if flat.dtype == torch.bool else flat  # torch converts bytes far faster
    cells = plain.to(working) if step == 1 else _cell_means(plain, step, working)
    down = _matrix(step, height, sigma, cells)
    across = down if width == height else _matrix(step, width, sigma, cells)
    nodes = _along_rows(_along_columns(cells, down), across)
    if clamp:
        nodes.clamp_(0.0, 1.0)
    result = nodes if step == 1 else _interpolate(nodes, step, height, width)
    return result.to(out).reshape(planes.shape)


def _along_columns(planes: Tensor, matrix: list[Block]) -> Tensor:
    """[B,cells,W] -> [B,nodes,W]."""
    result = empty((planes.shape[0], matrix[-1].last, planes.shape[2]), planes.dtype, planes.device)
    for plane, target in zip(planes, result, strict=True):
        for block in matrix:
            torch.mm(block.weights, plane[block.low : block.high], out=target[block.first : block.last])
    return result


def _along_rows(planes: Tensor, matrix: list[Block]) -> Tensor:
    """[B,H,cells] -> [B,H,nodes]."""
    result = empty((*planes.shape[:2], matrix[-1].last), planes.dtype, planes.device)
    for plane, target in zip(planes, result, strict=True):
        for block in matrix:
            target[:, block.first : block.last] = plane[:, block.low : block.high] @ block.weights.T
    return result


def _node_count(step: int, length: int) -> int:
    """Where the last cell is cut short, its pixels may lie beyond the centre of a whole one: one node
    more.
    """
    return -(-length // step) + (length % step > 0)


class Block(NamedTuple):
    """Rows first ... last-1 of a banded matrix, which are zero but for the columns low ... high-1."""

    first: int
    last: int
    low: int
    high: int
    weights: Tensor


def _matrix(step: int, length: int, sigma: float, like: Tensor) -> list[Block]:
    """The blur along one axis: from the cells' means to the values at the nodes.

    Cell c holds the mean of the pixels step*c ... step*c + step-1 that exist; node j is the blurred value
    at the centre of a whole cell, step*(j + 1/2). Pixel i covers i ... i+1.
    """
    reach = float(int(TRUNCATE * sigma + 0.5)) if step == 1 else TRUNCATE * sigma
    # Averaging over `step` pixels and linear interpolation between cells (mean over its phases).
    added = (step * step - 1) / 12 + (step * step / 6 + 1 / 12 if step > 1 else 0)
    variance = sigma * sigma - added
    cells, nodes = -(-length // step), _node_count(step, length)
    starts = torch.arange(cells, dtype=torch.float64, device=like.device) * step
    ends = (starts + step).clamp(max=length)
    centres, sizes = (starts + ends) / 2, ends - starts
    if sigma >= _FLAT * length:
        return [Block(0, nodes, 0, cells, (sizes / length).to(like.dtype).repeat(nodes, 1))]
    size = max(64 if nodes > 1024 else 128, 2 * math.ceil(reach / step))
    blocks = []
    for first in range(0, nodes, size):
        last = min(nodes, first + size)
        low = min(max(0, math.floor(first - reach / step)), cells - 1)
        high = max(min(cells, math.ceil(last + reach / step) + 1), low + 1)
        # A mirrored cell within reach belongs to a cell that is nearer, so the range above holds all of them.
        at = (torch.arange(first, last, dtype=torch.float64, device=like.device)[:, None] + 0.5) * step
        weights = torch.zeros(last - first, high - low, dtype=torch.float64, device=like.device)
        near, far = (first + 0.5) * step - reach, (last - 0.5) * step + reach
        for fold in range(math.floor(near / (2 * length)) - 1, math.ceil(far / (2 * length)) + 2):
            for side in (1, -1):
                edges = sorted((2 * length * fold, 2 * length * fold + side * length))
                if edges[1] < near or edges[0] > far:
                    continue
                distance = at - (2 * length * fold + side * centres[low:high])
                bell = torch.exp(distance.square() * (-0.5 / variance))
                weights += torch.where(distance.abs() <= reach, bell, 0.0)
        weights *= sizes[low:high]
        weights /= weights.sum(dim=1, keepdim=True)
        blocks.append(Block(first, last, low, high, weights.to(like.dtype)))
    return blocks


def _cell_means(planes: Tensor, step: int, dtype: torch.dtype) -> Tensor:
    """[B,H,W] -> [B,ceil(H/step),ceil(W/step)]: means of the pixels that exist in each cell."""
    batch, height, width = planes.shape
    tall = torch.empty(batch, -(-height // step), width, dtype=dtype, device=planes.device)

    def rows(source: Tensor, target: Tensor, piece: slice) -> None:
        result = target[piece].zero_()
        for offset in range(step):
            part = source[offset::step][piece].to(dtype)
            result[: part.shape[0]] += part

    _in_pieces(planes, tall, rows)
    wide = tall.new_zeros(batch, tall.shape[1], -(-width // step))
    for offset in range(step):
        part = tall[:, :, offset::step]
        wide[:, :, : part.shape[2]] += part
    wide /= step * step
    wide[:, -1] *= step / ((height - 1) % step + 1)
    wide[:, :, -1] *= step / ((width - 1) % step + 1)
    return wide


def _interpolate(nodes: Tensor, step: int, height: int, width: int) -> Tensor:
    """[B,nodes,nodes] -> [B,H,W]; above and left of the first node its value, likewise beyond the last."""
    wide = F.interpolate(nodes[:, None], scale_factor=(1.0, float(step)), mode="bilinear")[:, 0, :, :width]
    above = torch.cat((wide[:, :1], wide, wide[:, -1:]), dim=1)
    result = empty((nodes.shape[0], height, width), nodes.dtype, nodes.device)

    def rows(source: Tensor, target: Tensor, piece: slice) -> None:
        for offset in range(step):
            place = (offset + 0.5) / step + 0.5  # between the node above (0), this one (1) and the next (2)
            part = target[offset::step][piece]
            first = piece.start + int(place)
            upper, lower = (source[i : i + part.shape[0]] for i in (first, first + 1))
            torch.lerp(upper, lower, place % 1.0, out=part)

    _in_pieces(above, result, rows, -(-height // step))
    return result


def _in_pieces(
    source: Tensor, target: Tensor, work: Callable[[Tensor, Tensor, slice], None], count: int | None = None
) -> None:
    """Call work(source plane, target plane, rows) for small pieces of `count` rows (the target's own)."""
    width = target.shape[2]
    count = target.shape[1] if count is None else count
    step = max(1, PIECE // width) if target.device.type == "cpu" else count
    pieces = [slice(first, min(count, first + step)) for first in range(0, count, step)]
    jobs = [
        partial(work, one, other, piece)
        for one, other in zip(source, target, strict=True)
        for piece in pieces
    ]
    run_all(jobs, target.device)
