"""Masks read off pictures: the paint of an editor's Segment task, and the difference of two pictures.

The bundled editor was trained to lay a flat paint over what "segment the ..." names. Where its picture
has moved from the original towards that paint, there is the object: text to mask without any download. It
is as good as the editor is: for drawn scenes, not for photographs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone
from ..edit import EditSettings, edit
from ..errors import EmuEditError
from ..images import check_images, resize_images
from ..thresholding import ALPHA, SIGMA, check_threshold, difference
from .components import label as numbered
from .morphology import dilate
from .phrases import Phrase
from .sources import NONE_FOUND, DetectSettings, Found

PAINT = (0.0, 1.0, 64 / 255)
TASK = "segment"
# A decoded picture differs everywhere by some grain; paint below the first share is none, above the second
# full.
NO_PAINT, FULL_PAINT = 0.2, 0.7
LEAST_AREA = 1e-4  # of the picture; less is grain
# A thing in stripes or with a pole before it is painted in parts. Gaps up to twice NEAR of the picture's
# diagonal are bridged, and parts under LEAST_SHARE of the largest are its crumbs, no things of their own.
NEAR, LEAST_SHARE = 0.01, 0.05


def painted_mask(before: Tensor, painted: Tensor, paint: tuple[float, float, float] = PAINT) -> Tensor:
    """How far each pixel has moved from `before` towards the paint: [B,H,W] in 0..1 from two [B,H,W,3].

    For painted = before + m * (paint - before) it is m. What moved aside of that line is taken off, so that
    other changes of the picture do not count.
    """
    way = painted.new_tensor(paint) - before
    moved = painted - before
    square = way.square().sum(dim=-1).clamp_min(1e-2)  # what has the paint's colour already cannot tell
    along = (moved * way).sum(dim=-1) / square
    aside = (moved - along[..., None] * way).norm(dim=-1) / square.sqrt()
    return (along - aside).clamp(0.0, 1.0)


def changed_mask(before: Tensor, after: Tensor, alpha: float = ALPHA, sigma: float = SIGMA) -> Tensor:
    """Where two pictures [B,H,W,3] differ: [B,H,W] in 0..1, 1/2 where sequential thresholding begins to keep.

    Either batch may be 1; another size of `after` is resized. alpha, sigma: as in thresholding.
    """
    check_threshold(alpha, sigma)
    before = check_images(before, "the picture before")
    after = check_images(after, "the picture after").to(before.device)
    if before.shape[0] != after.shape[0] and 1 not in (before.shape[0], after.shape[0]):
        raise EmuEditError(
            f"pictures: {before.shape[0]} before against {after.shape[0]} after; give as many, or one."
        )
    after = resize_images(after, *before.shape[1:3])
    return (difference(before, after, sigma) / (2 * max(alpha, 1e-6))).clamp(0.0, 1.0)


def found_in(mask: Tensor, label: str, threshold: float) -> Found:
    """A find for each thing in a soft mask [H,W] (see things_in), the surest first.

    Its box is around what is above 1/2, its score the mean mask there; below `threshold` it is left out.
    """
    things = things_in(mask.cpu())
    scores = [float(thing[thing > 0.5].mean()) for thing in things]
    rows = sorted((i for i, score in enumerate(scores) if score >= threshold), key=lambda i: -scores[i])
    if not rows:
        return NONE_FOUND
    boxes = torch.tensor([_box(things[i] > 0.5) for i in rows])
    masks = torch.stack([things[i] for i in rows])
    return Found(boxes, torch.tensor([scores[i] for i in rows]), (label,) * len(rows), masks)


def things_in(mask: Tensor) -> list[Tensor]:
    """A soft mask [H,W] on the host taken apart into masks of one thing each, which sum to it.

    A thing is what hangs together above 1/2, small gaps aside (NEAR). Crumbs and faint paint elsewhere go
    with the thing whose box is nearest, so that all things together are the mask as it was painted.
    """
    solid = mask > 0.5
    height, width = mask.shape
    number = numbered(dilate(solid, max(1.0, NEAR * math.hypot(height, width))))
    areas = number[solid].bincount(minlength=1)
    least = max(LEAST_AREA * mask.numel(), LEAST_SHARE * float(areas.max()))
    kept = (areas >= least).nonzero()[:, 0].tolist()
    if len(kept) < 2:
        return [mask] * len(kept)
    nearest, owner = torch.full_like(mask, math.inf), torch.zeros_like(number)
    for k in kept:
        ours = number == k
        away = _away(_box(solid & ours), height, width).masked_fill_(ours, -1.0)
        owner[away < nearest] = k
        nearest = torch.minimum(nearest, away)
    return [torch.where(owner == k, mask, 0.0) for k in kept]


def _box(solid: Tensor) -> list[float]:
    """Left, top, right, bottom around what is True in [H,W], the last two exclusive."""
    rows, columns = solid.any(dim=1).nonzero()[:, 0], solid.any(dim=0).nonzero()[:, 0]
    return [float(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


def _away(box: Sequence[float], height: int, width: int) -> Tensor:
    """How far each pixel's centre is from a box: [height,width], 0 within."""
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    aside = (box[0] - x).clamp_min(0) + (x - box[2]).clamp_min(0)
    above = (box[1] - y).clamp_min(0) + (y - box[3]).clamp_min(0)
    return torch.hypot(*torch.broadcast_tensors(aside[None], above[:, None]))


@dataclass(frozen=True, eq=False)
class EditorSource:
    """An editor that knows the Segment task, asked to "segment the ..." for each phrase.

    An editor paints all objects of a name at once; each that stands apart is a find of its own. The threshold
    on scores applies; text_threshold means nothing here. on_step is handed to core.edit and may raise to
    interrupt.
    """

    backbone: Backbone
    settings: EditSettings | None = None
    on_step: Callable[[Any], None] | None = None

    def __post_init__(self) -> None:
        if TASK not in self.backbone.task_names:
            raise EmuEditError(
                f"the editor {self.backbone.name!r} has no task {TASK!r}, so it cannot mark things; choose "
                f"the "
                "bundled editor or a detector."
            )

    @property
    def name(self) -> str:
        return f"the Segment task of {self.backbone.name}"

    def detect(
        self, images: Tensor, phrases: Sequence[Phrase], settings: DetectSettings
    ) -> tuple[Found, ...]:
        images = check_images(images, "the picture")
        finds: list[list[Found]] = [[] for _ in range(images.shape[0])]
        for phrase in phrases:
            order = f"segment the {phrase.text}"
            painted = edit(self.backbone, images, order, TASK, None, self.settings, self.on_step).images
            share = painted_mask(images, painted)
            masks = ((share - NO_PAINT) / (FULL_PAINT - NO_PAINT)).clamp(0.0, 1.0)
            for here, mask in zip(finds, masks, strict=True):
                here.append(found_in(mask, phrase.text, settings.threshold))
        return tuple(_joined(here) for here in finds)


def _joined(finds: Sequence[Found]) -> Found:
    """The finds of several phrases in one picture."""
    some = [found for found in finds if found.count]
    if not some:
        return NONE_FOUND
    return Found(
        torch.cat([found.boxes for found in some]),
        torch.cat([found.scores for found in some]),
        tuple(label for found in some for label in found.labels),
        torch.cat([found.masks for found in some if found.masks is not None]),
    )
