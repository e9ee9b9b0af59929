"""Detect and Segment: the named object of a real picture boxed, or painted (appendix 7.2.5).

Neither line nor colours are in the paper; they are constants here, since an editor can only learn what is
always the same: a magenta rectangle of 1/43 of the shorter side just around the object, and green paint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..records import Candidate, PairJob
from .base import NoCandidate, RecipeContext, find, objects_of, real_picture, start, three_masks

BOX_COLOUR = (255, 0, 255)
PAINT_COLOUR = (0, 255, 64)
LINE = 3 / 128
SMALLEST, LARGEST = 0.002, 0.95
"""Shares of the picture below which an object is hardly there, and above which a mark says nothing."""


def detect(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """The picture with a rectangle around the object."""
    draw = start(job, number)
    source = real_picture(context, job)
    masks = three_masks(context, _checked(find(context, source, objects_of(job.instruction), job), job))
    line = max(1, round(draw.note("line", LINE) * min(source.shape[:2])))
    colour = draw.note("colour", list(BOX_COLOUR))
    target, filled = framed(source, masks["precise"], line, colour)
    masks["box"] = filled
    return [_candidate(job, source, target, masks, "box", draw)]


def segment(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """The picture with the object's pixels painted over."""
    draw = start(job, number)
    source = real_picture(context, job)
    masks = three_masks(context, _checked(find(context, source, objects_of(job.instruction), job), job))
    colour = torch.tensor(draw.note("colour", list(PAINT_COLOUR)), dtype=torch.float32) / 255
    weight = masks["precise"][..., None] * draw.note("opacity", 1.0)
    target = torch.where(weight == 0, source, source + weight * (colour - source))
    return [_candidate(job, source, target, masks, "precise", draw)]


def framed(picture: Tensor, mask: Tensor, line: int, colour: list[int]) -> tuple[Tensor, Tensor]:
    """[H,W,3] with a rectangle of `line` px one pixel around the mask, and the rectangle filled, [H,W]."""
    height, width = mask.shape
    marked = mask > 0.5
    rows, columns = marked.any(dim=1).nonzero()[:, 0], marked.any(dim=0).nonzero()[:, 0]
    top, bottom = max(int(rows[0]) - line - 1, 0), min(int(rows[-1]) + line + 2, height)
    left, right = max(int(columns[0]) - line - 1, 0), min(int(columns[-1]) + line + 2, width)
    out, filled = picture.clone(), torch.zeros_like(mask)
    filled[top:bottom, left:right] = 1.0
    inner = slice(top + line, bottom - line), slice(left + line, right - line)
    kept = out[inner].clone()
    out[top:bottom, left:right] = torch.tensor(colour, dtype=out.dtype) / 255
    out[inner] = kept
    return out, filled


def _checked(mask: Tensor, job: PairJob) -> Tensor:
    """The mask, or NoCandidate if it marks next to nothing or nearly everything."""
    share = float(mask.mean())
    if not (mask > 0.5).any() or share < SMALLEST or share > LARGEST or not math.isfinite(share):
        raise NoCandidate(f"{objects_of(job.instruction)!r} covers {share:.2%} of the picture.")
    return mask


def _candidate(job: PairJob, source: Tensor, target: Tensor, masks, kind: str, draw) -> Candidate:
    return Candidate(
        source, target, job.instruction, 0, draw.seed, kind, masks, draw.parameters | {"mask_kind": kind}
    )
