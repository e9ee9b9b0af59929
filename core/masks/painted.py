"""Masks read off pictures: the paint of an editor's Segment task, and the difference of two pictures.

The bundled editor was trained to lay a flat paint over what "segment the ..." names. Where its picture
has moved from the original towards that paint, there is the object: text to mask without any download. It
is as good as the editor is: for drawn scenes, not for photographs.
"""

from __future__ import annotations

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
from .phrases import Phrase
from .sources import NONE_FOUND, DetectSettings, Found

PAINT = (0.0, 1.0, 64 / 255)
TASK = "segment"
# A decoded picture differs everywhere by some grain; paint below the first share is none, above the second
# full.
NO_PAINT, FULL_PAINT = 0.2, 0.7
LEAST_AREA = 1e-4  # of the picture; less is grain


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
    """One find from a soft mask [H,W]: the box around what is above 1/2, scored by the mean mask there."""
    solid = mask > 0.5
    if float(solid.float().mean()) < LEAST_AREA:
        return NONE_FOUND
    score = float(mask[solid].mean())
    if score < threshold:
        return NONE_FOUND
    rows, columns = solid.any(dim=1).nonzero()[:, 0], solid.any(dim=0).nonzero()[:, 0]
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    boxes = torch.tensor([[float(edge) for edge in box]])
    return Found(boxes, torch.tensor([score]), (label,), mask[None].cpu())


@dataclass(frozen=True, eq=False)
class EditorSource:
    """An editor that knows the Segment task, asked to "segment the ..." for each phrase.

    One find for each phrase and picture: an editor paints all objects of a name at once. The thresholds on
    scores
    apply; text_threshold means nothing here. on_step is handed to core.edit and may raise to interrupt.
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
