"""Black and white masks with 64 pixels to a word, so that growing one costs a few operations on few words.

A mask [B,H,W] becomes words int64 [B,N,W] with N = ceil(H/64): bit b of word (j, x) is the pixel in row b*N
+ j and
column x. Neighbours of a word are therefore neighbours of each of its 64 pixels, along rows and along
columns,
and only at the seams does a bit move. Rows beyond the last are black.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from .workspace import PIECE, empty, run_all

BITS, BYTE = 64, 8
# Eight bools are read as one int64, whose lowest byte must be the first of them.
SUPPORTED = sys.byteorder == "little"
_ONES = 0x0101010101010101


class _Grey(Exception):
    """Met a value that is neither 0 nor 1."""


def black_and_white(mask: Tensor) -> Tensor | None:
    """[B,H,W] floats on the host as bools if all of them are 0 or 1, otherwise None."""
    white = empty(mask.shape, torch.bool, mask.device)

    def read(source: Tensor, target: Tensor) -> None:
        low, high = torch.addcmul(
            source, source, source, value=-1
        ).aminmax()  # x - x*x is 0 for 0 and 1 alone
        if float(low) != 0 or float(high) != 0:
            raise _Grey
        target.copy_(source)

    try:
        _piece_by_piece(mask, white, read)
    except _Grey:
        return None
    return white


def as_floats(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Bools [B,H,W] as 0 and 1 of a floating point type."""
    result = empty(mask.shape, dtype, mask.device)
    # The same bytes, but torch is several times as fast on them under this name.
    _piece_by_piece(mask.view(torch.uint8), result, lambda source, target: target.copy_(source))
    return result


def pack(mask: Tensor, invert: bool = False) -> Tensor:
    """[B,H,W] of bool -> words [B,N,W]; invert: black becomes white (not beyond the edges)."""
    batch, height, width = mask.shape
    count, lanes = -(-height // BITS), -(-width // BYTE)
    words = torch.empty(batch, count, width, dtype=torch.int64, device=mask.device)
    if (height, width) == (BITS * count, BYTE * lanes) and not invert:
        white = mask.contiguous()
    else:
        white = empty((batch, BITS * count, BYTE * lanes), torch.bool, mask.device)
        white[:, height:] = False
        white[:, :height, width:] = False
        inside = white[:, :height, :width]
        if invert:
            torch.logical_not(mask, out=inside)
        else:
            inside.copy_(mask)
    grouped = white.view(torch.uint8).view(torch.int64).view(batch, BITS // BYTE, BYTE, count, lanes)

    def piece(source: Tensor, target: Tensor, rows: slice) -> None:
        pixels = source[:, 0, rows].clone()  # [8 bytes of a word, rows, lanes of 8 columns]
        for bit in range(1, BYTE):
            pixels |= source[:, bit, rows] << bit
        planes = pixels.view(torch.uint8)  # [8, rows, columns]: byte i holds the bits 8i ... 8i+7 of its word
        target[rows] = planes[:, :, :width].permute(1, 2, 0).contiguous().view(torch.int64)[..., 0]

    jobs = [
        partial(piece, source, target, rows)
        for source, target in zip(grouped, words, strict=True)
        for rows in _pieces(count, lanes * BYTE, mask.device)
    ]
    run_all(jobs, mask.device)
    return words


def unpack(words: Tensor, height: int, invert: bool = False) -> Tensor:
    """Words [B,N,W] -> bools [B,height,W]; invert: black becomes white."""
    batch, count, width = words.shape
    lanes = -(-width // BYTE)
    white = empty((batch, BITS * count, BYTE * lanes), torch.bool, words.device)
    grouped = white.view(torch.uint8).view(torch.int64).view(batch, BITS // BYTE, BYTE, count, lanes)

    def piece(source: Tensor, target: Tensor, rows: slice) -> None:
        taken = ~source[rows] if invert else source[rows].contiguous()
        planes = taken.view(torch.uint8).view(*taken.shape, BITS // BYTE).permute(2, 0, 1)
        if width % BYTE:
            padded = planes.new_zeros(*planes.shape[:2], BYTE * lanes)
            padded[:, :, :width] = planes
            planes = padded
        pixels = planes.contiguous().view(torch.int64)
        for bit in range(BYTE):
            torch.bitwise_and(pixels >> bit, _ONES, out=target[:, bit, rows])

    jobs = [
        partial(piece, source, target, rows)
        for source, target in zip(words, grouped, strict=True)
        for rows in _pieces(count, lanes * BYTE, words.device)
    ]
    run_all(jobs, words.device)
    return white[:, :height, :width].contiguous()


def _piece_by_piece(source: Tensor, target: Tensor, work: Callable[[Tensor, Tensor], object]) -> None:
    """Do `work` on small pieces of two tensors [B,H,W]."""
    jobs = [
        partial(_in_pieces, part, whole, work)
        for one, other in zip(source, target, strict=True)
        for part, whole in zip(one.chunk(8), other.chunk(8), strict=True)
    ]
    run_all(jobs, source.device)


def _in_pieces(source: Tensor, target: Tensor, work: Callable[[Tensor, Tensor], object]) -> None:
    for rows in _pieces(source.shape[0], source.shape[1], source.device):
        work(source[rows], target[rows])


def _pieces(count: int, width: int, device: torch.device) -> list[slice]:
    """Rows in pieces of which each is small; on a graphics card all at once."""
    step = max(1, PIECE // width) if device.type == "cpu" else count
    return [slice(first, min(count, first + step)) for first in range(0, count, step)]


def spread_down(words: Tensor, extent: int) -> Tensor:
    """[..., N, W]: every white pixel whitens its column up to `extent` pixels up and down."""
    count = words.shape[-2]
    extent = min(extent, BITS * count - 1)
    reach = 0
    while reach < extent:
        # Shifted farther, a copy would miss what the column has beyond the end that its centre fell off.
        step = min(reach + 1, extent - reach)
        up, rest = divmod(step, count)
        near = count - rest  # words whose source lies before the seam
        grown = torch.empty_like(words)
        grown.narrow(-2, 0, rest).copy_(words.narrow(-2, 0, rest))
        shifted = _left(words.narrow(-2, 0, near), up)
        torch.bitwise_or(words.narrow(-2, rest, near), shifted, out=grown.narrow(-2, rest, near))
        grown.narrow(-2, 0, near).bitwise_or_(_right(words.narrow(-2, rest, near), up))
        if rest and up + 1 < BITS:
            grown.narrow(-2, 0, rest).bitwise_or_(_left(words.narrow(-2, near, rest), up + 1))
            grown.narrow(-2, near, rest).bitwise_or_(_right(words.narrow(-2, 0, rest), up + 1))
        words = grown
        reach += step
    return words


def _left(words: Tensor, by: int) -> Tensor:
    return words << by if by else words


def _right(words: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift repeats the sign bit."""
    return (words >> by) & ((1 << (BITS - by)) - 1) if by else words
