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

from ..threads import run_all
from .workspace import PIECE, empty

BITS, BYTE = 64, 8
# Eight bools are read as one int64, whose lowest byte must be the first of them.
SUPPORTED = sys.byteorder == "little"
_ONES = 0x0101010101010101
_LARGE = 1 << 21  # pixels; with less a picture is done before another thread has woken up


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
        _copy_rows(
            planes[:, :, :width].permute(1, 2, 0), target[rows].view(torch.uint8).view(-1, width, BYTE)
        )

    jobs = [
        partial(piece, source, target, rows)
        for source, target in zip(grouped, words, strict=True)
        for rows in _pieces(count, lanes * BYTE, mask.device)
    ]
    run_all(jobs, mask.device, mask[0].numel() > _LARGE)
    return words


def unpack(words: Tensor, height: int, invert: bool = False) -> Tensor:
    """Words [B,N,W] -> bools [B,height,W]; invert: black becomes white."""
    batch, count, width = words.shape
    lanes = -(-width // BYTE)
    white = empty((batch, BITS * count, BYTE * lanes), torch.bool, words.device)
    grouped = white.view(torch.uint8).view(torch.int64).view(batch, BITS // BYTE, BYTE, count, lanes)

    def piece(source: Tensor, target: Tensor, rows: slice) -> None:
        taken = ~source[rows] if invert else source[rows].contiguous()
        planes = torch.zeros(BYTE, len(taken), BYTE * lanes, dtype=torch.uint8, device=words.device)
        _copy_rows(taken.view(torch.uint8).view(-1, width, BYTE), planes[:, :, :width].permute(1, 2, 0))
        pixels = planes.view(torch.int64)
        for bit in range(BYTE):
            torch.bitwise_and(pixels >> bit, _ONES, out=target[:, bit, rows])

    jobs = [
        partial(piece, source, target, rows)
        for source, target in zip(words, grouped, strict=True)
        for rows in _pieces(count, lanes * BYTE, words.device)
    ]
    run_all(jobs, words.device, words[0].numel() * BITS > _LARGE)
    return white[:, :height, :width].contiguous()


def _piece_by_piece(source: Tensor, target: Tensor, work: Callable[[Tensor, Tensor], object]) -> None:
    """Do `work` on small pieces of two tensors [B,H,W]."""
    jobs = [
        partial(_in_pieces, part, whole, work)
        for one, other in zip(source, target, strict=True)
        for part, whole in zip(one.chunk(8), other.chunk(8), strict=True)
    ]
    run_all(jobs, source.device, source[0].numel() > _LARGE)


def _in_pieces(source: Tensor, target: Tensor, work: Callable[[Tensor, Tensor], object]) -> None:
    for rows in _pieces(source.shape[0], source.shape[1], source.device):
        work(source[rows], target[rows])


def _copy_rows(source: Tensor, target: Tensor) -> None:
    """[N,W,8] to another order of memory, so few numbers at a time that torch does not share them out."""
    for rows in _pieces(len(source), source[:1].numel(), source.device):
        target[rows].copy_(source[rows])


def _pieces(count: int, width: int, device: torch.device) -> list[slice]:
    """Rows in pieces of which each is small; on a graphics card all at once."""
    step = max(1, PIECE // width) if device.type == "cpu" else count
    return [slice(first, min(count, first + step)) for first in range(0, count, step)]


class Rows:
    """Words [N,W] of one plane, read some pixels further up or down, alone or as runs of several rows.

    In a plane shifted by whole multiples of N rows each word is its own, shifted by as many bits; these are
    kept, since the shifts wanted grow from call to call.
    """

    def __init__(self, words: Tensor):
        self._runs: dict[tuple[bool, int], Tensor] = {(True, 1): words, (False, 1): words}
        self._shifted: dict[tuple[bool, int, int], Tensor] = {}

    def whiten(self, into: Tensor, first: int, length: int, columns: slice) -> None:
        """Each pixel of `into` [N,w] that has a white one `first` ... `first` + `length` - 1 rows below it.

        The rows must not lie on both sides of it, and `length` must be a power of two. columns: w of the W.
        """
        below = first >= 0
        self._merge(into, below, length, first if below else -(first + length - 1), columns)

    def _merge(self, into: Tensor, below: bool, length: int, offset: int, columns: slice) -> None:
        count = len(into)
        whole, rest = divmod(offset, count)
        near = self._get(below, length, whole)[:, columns]
        if below:
            into[: count - rest].bitwise_or_(near[rest:])
        else:
            into[rest:].bitwise_or_(near[: count - rest])
        if rest:
            far = self._get(below, length, whole + 1)[:, columns]
            if below:
                into[count - rest :].bitwise_or_(far[:rest])
            else:
                into[:rest].bitwise_or_(far[count - rest :])

    def _get(self, below: bool, length: int, whole: int) -> Tensor:
        """Runs of `length` rows, shifted by `whole` bits."""
        if (below, length) not in self._runs:
            half = self._get(below, length // 2, 0)
            self._runs[below, length] = half.clone()
            self._merge(self._runs[below, length], below, length // 2, length // 2, slice(None))
        runs = self._runs[below, length]
        if whole == 0:
            return runs
        if (below, length, whole) not in self._shifted:
            for old in [key for key in self._shifted if key[:2] == (below, length) and key[2] < whole - 1]:
                del self._shifted[old]
            if whole >= BITS:
                shifted = torch.zeros_like(runs)
            elif below:  # fill with zeros; torch's own shift to the right repeats the sign bit
                shifted = (runs >> whole).bitwise_and_((1 << (BITS - whole)) - 1)
            else:
                shifted = runs << whole
            self._shifted[below, length, whole] = shifted
        return self._shifted[below, length, whole]
