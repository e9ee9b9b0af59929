"""Growing and shrinking masks by a disc, exact to the pixel.

The disc of radius r holds the offsets (dx, dy) with dx*dx + dy*dy <= r*r; r may be any real number of
pixels. It
is described by its half-widths: row dy of it reaches from -w[|dy|] to +w[|dy|], and w never grows with |dy|.
Any such shape can be used; `opencv_ellipse` gives OpenCV's.

A shape of this kind is a union of centred rectangles, one for each step of its outline. With H_a and V_b the
growth by a pixels along rows and by b along columns, and the rectangles (w1, h1), (w2, h2), ... from the
widest to the tallest, H_a H_b = H_(a+b) turns the union into a scheme after Horner,

    H_wn( V_hn | H_(w(n-1) - wn)( ... H_(w1 - w2)( V_h1 ) ) ),

which costs some r/sqrt(2) short steps for the whole disc instead of one for each of its pi r r pixels. Black
and white masks take each step on 64 pixels at once (bits.py), grey ones on one.

What lies outside the picture never counts, neither as black nor as white, so an object that the frame cuts
does not shrink from there: scipy.ndimage's grey_dilation and grey_erosion with mode="constant" and an
infinite cval. Mirroring the picture at its edges would change nothing, for a mirrored pixel is never nearer
than its original and the shape is symmetric and without notches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..threads import run_all
from . import bits
from .workspace import empty

# Grey values handled at a time: small enough for a processor's cache, large enough to keep a graphics card
# busy.
_CHUNK_CPU, _CHUNK_ELSEWHERE = 1 << 18, 1 << 24
_WORDS = 1 << 17  # words of 64 pixels handled at a time on the host


def disc(radius: float, rows: int | None = None) -> tuple[int, ...]:
    """Half-widths of the disc dx*dx + dy*dy <= radius*radius for dy = 0, 1, ...; no more than `rows` of
    them.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise EmuEditError(f"mask: the radius must be 0 or more pixels, got {radius}; 0 leaves it as it is.")
    square = math.floor(radius * radius)
    count = math.floor(radius) + 1
    return tuple(math.isqrt(square - dy * dy) for dy in range(count if rows is None else min(count, rows)))


def opencv_ellipse(radius: int) -> tuple[int, ...]:
    """Half-widths of OpenCV's getStructuringElement(MORPH_ELLIPSE, (2*radius+1, 2*radius+1)).

    It rounds each half-width where the disc rounds down, and is therefore a little fatter.
    """
    return tuple(round(math.sqrt(radius * radius - dy * dy)) for dy in range(radius + 1))


def dilate(mask: Tensor, radius: float, shape: Sequence[int] | None = None) -> Tensor:
    """Grow what is white: each pixel of [..., H, W] becomes the largest within the disc around it.

    bool or floats, black and white or grey; the type is kept. shape: half-widths of another structuring
    element than the disc of `radius` pixels. NaN spreads like the largest value.
    """
    return _morph(mask, radius, shape, torch.maximum)


def erode(mask: Tensor, radius: float, shape: Sequence[int] | None = None) -> Tensor:
    """Shrink what is white: each pixel becomes the smallest within the disc around it. Otherwise as
    dilate.
    """
    return _morph(mask, radius, shape, torch.minimum)


def as_bools(mask: Tensor) -> Tensor:
    """[B,H,W]: floats on the host that are all 0 or 1 as bools, which are quicker to work on; others as they
    are.
    """
    if mask.dtype == torch.bool or mask.device.type != "cpu":
        return mask
    white = bits.black_and_white(mask)
    return mask if white is None else white


def _morph(mask: Tensor, radius: float, shape: Sequence[int] | None, join: Callable[..., Tensor]) -> Tensor:
    if mask.ndim < 2 or not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise EmuEditError(
            f"mask: expected bools or floats [..., height, width], got {mask.dtype} of shape "
            f"{list(mask.shape)}; convert it."
        )
    height, width = mask.shape[-2:]
    widths = disc(radius, height) if shape is None else tuple(shape[:height])
    if mask.numel() == 0 or (len(widths) == 1 or height == 1) and min(widths[0], width - 1) == 0:
        return mask.clone()
    steps = _staircase(widths, width)
    planes = mask.detach().reshape(-1, height, width)
    grown = _black_and_white(planes, steps, join is torch.minimum)
    if grown is None:
        grown = _grey(planes, steps, join)
    return grown.reshape(mask.shape)


def _staircase(widths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """The rectangles (half-width, half-height) whose union is the shape, widest first."""
    tallest: dict[int, int] = {}
    for dy, half in enumerate(widths):
        tallest[min(half, width - 1)] = dy
    return list(tallest.items())


def _union(
    planes: Tensor,
    steps: list[tuple[int, int]],
    across: Callable[[Tensor, int], Tensor],
    down: Callable[[Tensor, int], Tensor],
    join: Callable[..., Tensor],
) -> Tensor:
    """The scheme of the module's first lines; `across` and `down` grow along rows and columns."""
    column, grown_by, result = planes, 0, None
    for (half, tall), (following, _) in zip(steps, [*steps[1:], (0, 0)], strict=True):
        column = down(column, tall - grown_by)
        grown_by = tall
        result = across(column if result is None else join(result, column), half - following)
    return planes if result is None else result


def _black_and_white(planes: Tensor, steps: list[tuple[int, int]], shrink: bool) -> Tensor | None:
    """Word by word, or None where that is not possible: grey values, unusual machines."""
    on_host = planes.device.type == "cpu"
    # Elsewhere, looking whether floats are black and white would make the device wait for the host.
    if not bits.SUPPORTED or not (on_host or planes.device.type == "cuda" and planes.dtype == torch.bool):
        return None
    white = as_bools(planes)
    if white.dtype != torch.bool:
        return None
    words = bits.pack(white, invert=shrink)  # to shrink the white is to grow the black
    result = torch.empty_like(words)
    width, halo = words.shape[2], steps[0][0]
    columns = width
    if on_host and words[0].numel() > _WORDS // 2:
        parts = -(-width // max(_WORDS // words.shape[1] - 2 * halo, halo, 1))
        columns = -(-width // (parts + parts % 2))  # an even number of parts, of the same size
    cuts = [slice(first, min(width, first + columns)) for first in range(0, width, columns)]
    jobs = [
        partial(_grow_words, source, target, cut, steps)
        for source, target in zip(words, result, strict=True)
        for cut in cuts
    ]
    run_all(jobs, planes.device)
    grown = bits.unpack(result, planes.shape[1], invert=shrink)
    return grown if planes.dtype == torch.bool else bits.as_floats(grown, planes.dtype)


def _grow_words(words: Tensor, target: Tensor, columns: slice, steps: list[tuple[int, int]]) -> None:
    """Some columns of one plane [N,W].

    Of V_h only the rows that the rectangle before did not have are joined in: the others are in already, and
    further along their row than this rectangle asks for.
    """
    count, width = words.shape
    halo = steps[0][0]
    low, high = max(0, columns.start - halo), min(width, columns.stop + halo)
    source = words.new_zeros(count, columns.stop - columns.start + 2 * halo)
    left = low - (columns.start - halo)
    source[:, left : left + high - low] = words[:, low:high]
    rows, grown, spare = bits.Rows(source), source.clone(), torch.empty_like(source)
    first, size = 0, source.shape[1]  # `grown` begins with `size` columns of the source, from `first` on
    known = 0
    for (half, tall), (following, _) in zip(steps, [*steps[1:], (0, 0)], strict=True):
        here = slice(first, first + size)
        for start, length in _runs(known + 1, tall):
            rows.whiten(grown[:, :size], start, length, here)
            rows.whiten(grown[:, :size], -(start + length - 1), length, here)
        known, extent, run = tall, half - following, 1
        while run <= 2 * extent:
            step = min(run, 2 * extent + 1 - run)
            size, run = size - step, run + step
            torch.bitwise_or(grown[:, :size], grown[:, step : step + size], out=spare[:, :size])
            grown, spare = spare, grown
        first += extent
    target[:, columns] = grown[:, :size]


def _runs(first: int, last: int) -> list[tuple[int, int]]:
    """Runs (start, length) that cover `first` ... `last`, as long as a power of two; they may begin earlier,
    from 0 on.
    """
    count = last - first + 1
    if count < 1:
        return []
    length = 1 << (count - 1).bit_length()
    if length <= last + 1:
        return [(last - length + 1, length)]
    return [(last - length // 2 + 1, length // 2), (first, length // 2)]


def _grey(planes: Tensor, steps: list[tuple[int, int]], join: Callable[..., Tensor]) -> Tensor:
    """Value by value, a band of rows at a time."""
    batch, height, width = planes.shape
    halo = steps[-1][1]
    budget = _CHUNK_CPU if planes.device.type == "cpu" else _CHUNK_ELSEWHERE
    rows = max(budget // width, halo, 1)
    result = empty((batch, height, width), planes.dtype, planes.device)

    def across(piece: Tensor, extent: int) -> Tensor:
        return _spread(piece, extent, -1, join)

    def down(piece: Tensor, extent: int) -> Tensor:
        return _spread(piece, extent, -2, join)

    for plane, target in zip(planes, result, strict=True):
        for top in range(0, height, rows):
            first, last = max(0, top - halo), min(height, top + rows + halo)
            piece = _union(plane[first:last], steps, across, down, join)
            target[top : top + rows] = piece[top - first : top - first + rows]
    return result


def _spread(planes: Tensor, extent: int, axis: int, join: Callable[..., Tensor]) -> Tensor:
    """Each value meets its neighbours up to `extent` away along one axis."""
    size = planes.shape[axis]
    extent = min(extent, size - 1)
    reach = 0
    while reach < extent:
        # Shifted farther, a copy would miss what the row has beyond the end that its centre fell off.
        step = min(reach + 1, extent - reach)
        grown, rest = torch.empty_like(planes), size - step
        grown.narrow(axis, 0, step).copy_(planes.narrow(axis, 0, step))
        near, far = planes.narrow(axis, 0, rest), planes.narrow(axis, step, rest)
        join(far, near, out=grown.narrow(axis, step, rest))
        target = grown.narrow(axis, 0, rest)
        join(target, far, out=target)
        planes = grown
        reach += step
    return planes
