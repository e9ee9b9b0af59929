"""Undo what an editor did to a picture's size: stretched it, cut its middle out, or put borders around it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..images import resize_images
from .align import MARGIN
from .geometry import compose, covered, displacement, inverse, sample
from .register import Registration, register

FITS = ("auto", "stretch", "crop", "pad")
# Pixels: a crop to the next multiple of 16 parts proportions by a percent or less, so only those that agree
# to a pixel's rounding are taken for the same.
ALIKE = 1.0
# Pixels a side, less than: what an editor cuts off whose sides must be multiples of 64.
SLIVER = 64
# Of two ways after which the pictures agree about as well, that is meant which leaves less motion to undo.
CLOSE = 0.02


def fit_map(how: str, size: tuple[int, int], edited: tuple[int, int], batch: int) -> Tensor:
    """[B,2,3]: a point of the previous picture of `size` (height, width) -> the same in one of size
    `edited`.

    how: one of FITS but "auto", or "cut": the middle was cut out, by whole pixels, and not scaled.
    """
    (height, width), (new_height, new_width) = size, edited
    if how == "cut":
        x0, y0 = -float((width - new_width) // 2), -float((height - new_height) // 2)
        return torch.tensor([[1.0, 0.0, x0], [0.0, 1.0, y0]]).repeat(batch, 1, 1)
    x, y = new_width / width, new_height / height
    if how == "crop":  # the picture filled the new frame and ran over it
        x = y = max(x, y)
    elif how == "pad":
        x = y = min(x, y)
    left, top = (new_width - x * width) / 2, (new_height - y * height) / 2
    return torch.tensor([[x, 0.0, left], [0.0, y, top]]).repeat(batch, 1, 1)


def choose_fit(how: str, size: tuple[int, int], edited: tuple[int, int]) -> tuple[str, ...]:
    """The ways worth trying, see `fit_map`; of those that agree equally well the first is meant."""
    if how not in FITS:
        raise EmuEditError(f"keep: {how!r} is no way to fit a picture; choose {', '.join(FITS)}.")
    (height, width), (new_height, new_width) = size, edited
    lost = height - new_height, width - new_width
    # Without a loss on either side a cut is a crop of scale 1 already; and editors cut slivers off, to fit a
    # multiple: a picture made half as large is no cut worth a registration.
    cut = ("cut",) if min(lost) > 0 and max(lost) < SLIVER else ()
    if how != "auto":
        return (how, *cut) if how == "crop" else (how,)
    off = abs(new_width - width * new_height / height), abs(new_height - height * new_width / width)
    if min(off) <= ALIKE:
        return ("stretch", *cut)
    return ("stretch", "crop", *cut, "pad")


def undo_fit(edited: Tensor, how: str, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(edited [B,h,w,3] as [B,height,width,3], the map used); bit for bit the same where nothing is to do."""
    size = edited.shape[1], edited.shape[2]
    map_ = fit_map(how, (height, width), size, len(edited)).to(edited.device)
    if how == "stretch":
        return resize_images(edited, height, width), map_
    scale = float(map_[0, 0, 0])
    if scale > 1:  # shrinking: antialias first, then cut or pad
        shape = max(1, round(size[0] / scale)), max(1, round(size[1] / scale))
        edited = resize_images(edited, *shape)
        map_to = fit_map(how, (height, width), shape, len(edited)).to(edited.device)
        return sample(edited, map_to, height, width).clamp(0, 1), map_
    return sample(edited, map_, height, width).clamp(0, 1), map_


def place(
    previous: Tensor, edited: Tensor, how: str, wanted: bool, rotation: bool, mask: Tensor | None
) -> tuple[Tensor, Tensor | None, str, Registration | None]:
    """Bring `edited` [B,h,w,3] onto `previous` [B,H,W,3].

    Returns (edited [B,H,W,3], near or None, the fit taken, registration or None). near: int64 [B,H,W], for
    each pixel the flat index of the nearest that the edited picture shows too; None when it shows them all.
    Where only a motion is to undo, pixels are fetched once, from the editor's own resolution if it is the
    lower.
    """
    height, width = previous.shape[1:3]
    size = edited.shape[1], edited.shape[2]
    best: tuple[float, float, str, Tensor, Tensor, Registration | None] | None = None
    ways = choose_fit(how, (height, width), size)
    for way in ways:
        fitted, map_ = undo_fit(edited, way, height, width)
        seen, score, motion = None, 0.0, 0.0
        if wanted or len(ways) > 1:
            seen = register(previous, fitted, _blind(map_, height, width, size, mask), rotation)
            score = float(seen.agreement.mean())
            motion = float(displacement(seen.map, height, width).mean())
        if best is None or _better(score, motion, best[0], best[1]):
            best = (score, motion, way, fitted, map_, seen)
    assert best is not None
    *_, way, fitted, map_, seen = best
    if not wanted or seen is None or not bool(seen.found.any()):
        total = map_
    else:
        total = compose(map_, seen.map)
        small = max(size) <= max(height, width)
        moved = sample(edited, total, height, width) if small else sample(fitted, seen.map, height, width)
        fitted = torch.where(seen.found[:, None, None, None], moved.clamp(0.0, 1.0), fitted)
    name = "crop" if way == "cut" else way
    return fitted, _nearest(total, height, width, size), name, seen if wanted else None


def _blind(
    map_: Tensor, height: int, width: int, size: tuple[int, int], mask: Tensor | None
) -> Tensor | None:
    """The mask, and white too where the editor's picture shows nothing: its repeated border agrees with
    nothing, and would speak against the very crop that it comes from.
    """
    if bool(covered(map_, height, width, *size).all()):
        return mask
    hidden = (~covered(map_, height, width, *size, MARGIN)).to(torch.float32)
    return hidden if mask is None else torch.maximum(mask, hidden)


def _better(score: float, motion: float, best: float, best_motion: float) -> bool:
    """Registration undoes a wrong scale too, so that agreement alone does not tell a cut from a crop."""
    if abs(score - best) > CLOSE:
        return score > best
    return motion < best_motion - 0.5


def _nearest(map_: Tensor, height: int, width: int, size: tuple[int, int]) -> Tensor | None:
    """See `place`. Bicubic fetching near the edge sees repeated pixels, so half a pixel there does not
    count.
    """
    shown = covered(map_, height, width, *size)
    if bool(shown.all()):
        return None
    back = inverse(map_)
    x = torch.arange(width, device=map_.device) + 0.5
    y = torch.arange(height, device=map_.device)[:, None] + 0.5
    there = [m[:, 0, None, None] * x + m[:, 1, None, None] * y + m[:, 2, None, None] for m in map_.unbind(1)]
    there = [t.clamp(0.5, side - 0.5) for t, side in zip(there, (size[1], size[0]), strict=True)]
    rows = back.unbind(1)
    here = [
        m[:, 0, None, None] * there[0] + m[:, 1, None, None] * there[1] + m[:, 2, None, None] for m in rows
    ]
    column = here[0].floor().long().clamp(0, width - 1)
    row = here[1].floor().long().clamp(0, height - 1)
    own = torch.arange(height * width, device=map_.device).reshape(height, width)
    return torch.where(shown, own, row * width + column)
