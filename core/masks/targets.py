"""What an edit is aimed at: for each picture a precise mask, and boxes, from whatever a graph brings.

Masks come as [N,H,W] with one for each picture, one for all, or one for each object found (ComfyUI's SAM3
Detect with individual masks), boxes as ComfyUI's BOUNDING_BOX: {"x", "y", "width", "height"} in
pixels, a list of
them for all pictures, or a list of such lists, one for each picture. Nothing found is a result like others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..images import fit_mask

INSTANCES = ("auto", "one mask per picture", "one mask per box", "all masks together")
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, the last two exclusive


@dataclass(frozen=True)
class Targets:
    """What was found in B pictures.

    masks: [B,H,W] in 0..1, the union of each picture's (its filled boxes where boxes are all there is).
    counts: how
    many masks each had. boxes: those that came in for it.
    """

    masks: Tensor
    counts: tuple[int, ...]
    boxes: tuple[tuple[Box, ...], ...]


def read_boxes(boxes: Any) -> list[list[Box]]:
    """BOUNDING_BOX in any of its three forms -> lists of boxes: one list for all pictures, or one for
    each.
    """
    if isinstance(boxes, Mapping):
        return [[_box(boxes)]]
    if not isinstance(boxes, Sequence) or isinstance(boxes, str):
        raise EmuEditError(
            f"boxes: expected a list of boxes with x, y, width and height, got {type(boxes).__name__}; "
            f"wire a "
            "BOUNDING_BOX output."
        )
    if boxes and all(isinstance(entry, Sequence) and not isinstance(entry, str) for entry in boxes):
        return [[_box(box) for box in frame] for frame in boxes]
    return [[_box(box) for box in boxes]]


def _box(box: Any) -> Box:
    try:
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError) as problem:
        raise EmuEditError(
            f"boxes: {str(box)[:80]!r} is no box with the numbers x, y, width and height; wire a "
            f"BOUNDING_BOX."
        ) from problem
    if not all(math.isfinite(v) for v in (x, y, width, height)) or width < 0 or height < 0:
        raise EmuEditError(
            f"boxes: x {x:g}, y {y:g}, width {width:g}, height {height:g} is no box; the numbers must "
            f"be finite, "
            "width and height 0 or more."
        )
    return x, y, x + width, y + height


def fill_boxes(boxes: Sequence[Sequence[Box]], height: int, width: int, like: Tensor | None = None) -> Tensor:
    """Boxes of each picture -> float32 [B,height,width]: 1 in every pixel that one of them touches."""
    device = None if like is None else like.device
    filled = torch.zeros(len(boxes), height, width, device=device)
    for plane, frame in zip(filled, boxes, strict=True):
        for left, top, right, bottom in frame:
            rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
            plane[rows, max(0, math.floor(left)) : max(0, math.ceil(right))] = 1.0
    return filled


def collect(
    mask: Tensor | None,
    boxes: Any = None,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    instances: str = "auto",
) -> Targets:
    """Sort masks and boxes to the pictures they belong to.

    mask: [h,w], [N,h,w] or with one channel, in 0..1 (bool is fine), or None; N may be 0, as when a detector
    found nothing. boxes: a BOUNDING_BOX or None. batch, size (height, width): the pictures'; by default the
    masks' own. instances: how N masks belong to the pictures, one of INSTANCES; "auto" takes N = batch as
    one for each, one mask as everybody's, any number as one picture's where there is but one, and otherwise
    as
    many masks as boxes in the boxes' order.

    Where a picture has boxes and no mask, the filled boxes stand in for it.
    """
    if instances not in INSTANCES:
        raise EmuEditError(
            f"mask: {instances!r} is no way to read masks; pick one of {', '.join(INSTANCES)}."
        )
    frames = None if boxes is None else read_boxes(boxes)
    planes = None if mask is None else _planes(mask)
    if planes is None and frames is None:
        raise EmuEditError("soft mask: neither a mask nor boxes came in; wire at least one of them.")
    if size is None:
        if planes is None:
            raise EmuEditError("soft mask: boxes alone have no picture size; wire the picture or a mask too.")
        size = (planes.shape[1], planes.shape[2])
    count = 0 if planes is None else planes.shape[0]
    if batch is None:
        batch = _batch(count, frames, instances, planes is not None)
    if frames is not None and len(frames) == 1:
        frames = frames * batch
    if frames is not None and len(frames) not in (0, batch):
        raise EmuEditError(
            f"soft mask: boxes for {len(frames)} pictures came in, but there are {batch}; wire boxes "
            f"that were "
            "found in the same pictures."
        )
    listed = frames or [[] for _ in range(batch)]
    if planes is None or count == 0:
        device = None if planes is None else planes.device
        return _stand_in(torch.zeros(batch, *size, device=device), (0,) * batch, listed)
    fitted = fit_mask(planes, count, *size)
    groups = _groups(count, batch, [len(frame) for frame in listed], instances)
    if groups == [[i] for i in range(batch)]:
        union = fitted
    else:
        empty = fitted.new_zeros(*size)
        union = torch.stack([fitted[group].amax(dim=0) if group else empty for group in groups])
    return _stand_in(union, tuple(len(group) for group in groups), listed)


def _planes(mask: Tensor) -> Tensor:
    """[h,w], [N,h,w], [N,1,h,w] or [N,h,w,1] -> [N,h,w]."""
    if isinstance(mask, Tensor):
        if mask.ndim == 4 and 1 in (mask.shape[1], mask.shape[3]):
            mask = mask[:, 0] if mask.shape[1] == 1 else mask[..., 0]
        mask = mask[None] if mask.ndim == 2 else mask
        if mask.ndim == 3 and 0 not in mask.shape[1:]:
            return mask
    got = f"shape {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
    raise EmuEditError(
        f"mask: expected a tensor [batch, height, width] in 0..1, got {got}; give one channel."
    )


def _batch(count: int, frames: list[list[Box]] | None, instances: str, masked: bool) -> int:
    """How many pictures there are when nobody says."""
    shown = len(frames) if frames else 0
    if instances == "all masks together" or not masked:
        return max(1, shown)
    per_box = shown > 1 and count not in (1, shown) and count == sum(map(len, frames or []))
    if instances == "one mask per box" or per_box or count == 0:
        return max(1, shown)
    return count


def _groups(count: int, batch: int, boxes: list[int], instances: str) -> list[list[int]]:
    """Which masks belong to which picture."""
    everything = list(range(count))
    by_box = instances == "one mask per box"
    if instances == "all masks together":
        return [everything] * batch
    if not by_box and count == batch:
        return [[i] for i in everything]
    if not by_box and count == 1:
        return [[0]] * batch
    if instances == "auto" and batch == 1:
        return [everything]
    if (by_box or instances == "auto") and sum(boxes) == count:
        ends = [sum(boxes[: i + 1]) for i in range(batch)]
        return [everything[end - n : end] for end, n in zip(ends, boxes, strict=True)]
    found = f" and {sum(boxes)} boxes" if sum(boxes) else ""
    raise EmuEditError(
        f"soft mask: {count} masks{found} came in for {batch} picture{'s' if batch != 1 else ''}, read as "
        f"{instances!r}; give one mask for each picture or for each box, or one for all."
    )


def _stand_in(masks: Tensor, counts: tuple[int, ...], boxes: list[list[Box]]) -> Targets:
    """Fill the boxes of the pictures in which no mask marks anything."""
    full = tuple(tuple(frame) for frame in boxes)
    # A mask in which nothing is marked says no more than none.
    missing = [bool(frame) and not bool((mask > 0).any()) for mask, frame in zip(masks, full, strict=True)]
    if any(missing):
        filled = fill_boxes(full, masks.shape[1], masks.shape[2], masks)
        masks = torch.where(torch.tensor(missing, device=masks.device)[:, None, None], filled, masks)
        counts = tuple(0 if gone else count for gone, count in zip(missing, counts, strict=True))
    return Targets(masks, counts, full)
