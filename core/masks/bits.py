"""Black and white masks packed 64 pixels to a word, so that growing one costs a few word operations a row.

A word is an int64 of 64 neighbouring pixels of a row, the leftmost in the lowest bit. A row that does not fill
its last word ends in zeros.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

BITS = 64
# Eight bools viewed as one int64 have the leftmost pixel in the lowest byte only on such machines.
SUPPORTED = sys.byteorder == "little"
# Pixels handled at a time: what one pass leaves behind is still in the cache for the next.
_CHUNK = 1 << 19


def pack(mask: Tensor) -> Tensor | None:
    """[B,H,W] of bool, or of floats that are all 0 or 1 -> words [B,H,ceil(W/64)]; None for other floats.

    Whether floats are black and white is found on the way, which on a graphics card would have to wait for the
    host: give bools there.
    """
    batch, height, width = mask.shape
    count = -(-width // BITS)
    words = torch.empty(batch, height, count, dtype=torch.int64, device=mask.device)
    rows = max(1, _CHUNK // max(1, width))
    for item in range(batch):
        for top in range(0, height, rows):
            piece = mask[item, top : top + rows]
            white = piece if piece.dtype == torch.bool else piece != 0
            if white is not piece and not torch.equal(white.to(piece.dtype), piece):
                return None
            words[item, top : top + rows] = _pack_rows(white, count)
    return words


def _pack_rows(white: Tensor, count: int) -> Tensor:
    height, width = white.shape
    if width != count * BITS:
        padded = torch.zeros(height, count * BITS, dtype=torch.bool, device=white.device)
        padded[:, :width] = white
        white = padded
    lanes = white.contiguous().view(torch.uint8).view(torch.int64)  # eight bytes, each 0 or 1
    # Bit i of byte 0 becomes pixel i; what gathers in the other bytes is dropped by the cast.
    lanes = lanes | (lanes >> 7)
    lanes = lanes | (lanes >> 14)
    lanes = lanes | (lanes >> 28)
    return lanes.to(torch.uint8).view(torch.int64)


def unpack(words: Tensor, width: int, dtype: torch.dtype = torch.bool, inverted: bool = False) -> Tensor:
    """Words [B,H,ceil(W/64)] -> [B,H,W] of bool, or of 0 and 1 in another type; `inverted` swaps the two."""
    batch, height, count = words.shape
    result = torch.empty(batch, height, width, dtype=dtype, device=words.device)
    pixels = (torch.arange(256, device=words.device)[:, None] >> torch.arange(8, device=words.device)) & 1
    pixels = 1 - pixels if inverted else pixels
    table = pixels.to(torch.uint8).view(torch.int64)[:, 0]  # byte -> its eight pixels as eight bytes
    rows = max(1, _CHUNK // max(1, width))
    for item in range(batch):
        for top in range(0, height, rows):
            piece = words[item, top : top + rows].contiguous()
            lanes = table.index_select(0, piece.view(torch.uint8).flatten().to(torch.int32))
            white = lanes.view(torch.uint8).view(torch.bool).view(-1, count * BITS)
            result[item, top : top + rows] = white[:, :width]
    return result


def _logical_right(words: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift repeats the sign bit."""
    return (words >> by) & ((1 << (BITS - by)) - 1) if by else words


def spread(words: Tensor, extent: int) -> Tensor:
    """Every white pixel whitens its row up to `extent` pixels (less than a row has) to either side."""
    reach = 0
    while reach < extent:
        # Two copies shifted by up to 2*reach+1 touch: the reach triples with each round.
        step = min(2 * reach + 1, extent - reach)
        jump, by = divmod(step, BITS)
        last = words.shape[-1] - jump
        grown = words.clone()
        grown[..., jump:] |= words[..., :last] << by
        grown[..., :last] |= _logical_right(words[..., jump:], by)
        if by and last > 1:
            grown[..., jump + 1 :] |= _logical_right(words[..., : last - 1], BITS - by)
            grown[..., : last - 1] |= words[..., jump + 1 :] << (BITS - by)
        words = grown
        reach += step
    return words
