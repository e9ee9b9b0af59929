"""Connected parts of a mask: specks dropped and holes filled by their area, a box around each part.

White parts hang together at their corners too, black ones (holes) only along sides, as usual in pairs. Masks
on the host are labelled by scipy.ndimage, which comes with ComfyUI and is imported when it is needed; masks
elsewhere stay where they are (parts.py).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import EmuEditError
from . import parts

HALF = 0.5  # a pixel of at least this counts as white where areas are counted


def label(mask: Tensor, connectivity: int = 8) -> Tensor:
    """Number the white parts of [..., H, W]: int64 of the same shape on its device, 0 = black, 1, 2, ...
    anew in
    each picture. White is 0.5 or more (True). connectivity: 8 joins corners too, 4 only sides.
    """
    if connectivity not in (4, 8):
        raise EmuEditError(f"mask: connectivity must be 4 or 8, got {connectivity}; 8 joins corners too.")
    if mask.numel() and not _on_host(mask):
        planes = (mask.detach() >= HALF).reshape(-1, *mask.shape[-2:])
        return parts.number(planes, connectivity == 8).reshape(mask.shape)
    ndimage = _ndimage("to number the parts of a mask")
    white = (mask.detach() >= HALF).numpy().reshape(-1, *mask.shape[-2:])
    numbers = [torch.from_numpy(ndimage.label(plane, _neighbours(connectivity))[0]) for plane in white]
    if not numbers:
        return torch.zeros(mask.shape, dtype=torch.int64, device=mask.device)
    return torch.stack(numbers).reshape(mask.shape).to(torch.int64)


def drop_specks(mask: Tensor, area: float) -> Tensor:
    """Blacken the white parts of [..., H, W] (bool or float) that have fewer than `area` white pixels.

    A part reaches as far as its values are above 0, so its soft fringe goes with it; only pixels of at least
    0.5 are counted. 0 drops nothing.
    """
    return _clean(mask, area, "specks")


def fill_holes(mask: Tensor, area: float) -> Tensor:
    """Whiten the holes of [..., H, W] (bool or float) that have no more than `area` black pixels.

    A hole is surrounded by white: what touches the picture's edge is none. 0 fills nothing, infinity every
    hole.
    """
    return _clean(mask, area, "holes")


def _clean(mask: Tensor, area: float, what: str) -> Tensor:
    if math.isnan(area) or area < 0:
        raise EmuEditError(
            f"mask: the area of {what} must be 0 or more pixels, got {area}; 0 keeps them all."
        )
    if area == 0 or mask.numel() == 0:
        return mask.clone()
    planes = mask.detach().reshape(-1, *mask.shape[-2:])
    if not _on_host(mask):
        specks, everything = what == "specks", planes[0].numel() + 1
        inside, counted = (planes > 0, planes >= HALF) if specks else (planes < 1, planes < HALF)
        least = min(
            math.ceil(min(area, everything)) if specks else math.floor(min(area, everything)) + 1, everything
        )
        chosen = parts.small_parts(inside, counted, specks, least, enclosed=not specks)
        return planes.masked_fill(chosen, 0 if specks else 1).reshape(mask.shape)
    ndimage = _ndimage(f"to find {what}")
    result = planes.clone()
    for plane, target in zip(planes, result, strict=True):
        values = plane.to(torch.float32).numpy()
        if what == "specks":
            inside, counted, corners, new = values > 0, values >= HALF, 8, 0
        else:
            inside, counted, corners, new = values < 1, values < HALF, 4, 1
        labels, count = ndimage.label(inside, structure=_neighbours(corners))
        if count == 0:
            continue
        areas = torch.from_numpy(labels)[torch.from_numpy(counted)].bincount(minlength=count + 1)
        change = areas < area if what == "specks" else areas <= area
        change[0] = False
        if what == "holes":
            for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
                change[torch.from_numpy(edge).long()] = False
        if bool(change.any()):
            target[change[torch.from_numpy(labels).long()]] = new
    return result.reshape(mask.shape)


def part_boxes(mask: Tensor) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom), the last two exclusive, around the white parts of one [H,W] mask.

    A part is what hangs together at 0.5 or more. Boxes are Python's numbers, so the mask is read on the host.
    """
    ndimage = _ndimage("to put a box around each part of a mask")
    white = (mask.detach() >= HALF).cpu().numpy()
    labels, _ = ndimage.label(white, structure=_neighbours(8))
    return [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]


def _on_host(mask: Tensor) -> bool:
    return mask.device.type == "cpu"


def _neighbours(corners: int) -> list[list[int]]:
    edge = int(corners == 8)
    return [[edge, 1, edge], [1, 1, 1], [edge, 1, edge]]


def _ndimage(why: str) -> Any:
    try:
        from scipy import ndimage
    except ImportError as problem:
        raise EmuEditError(
            f"the Python package 'scipy' is needed {why} and could not be imported ({problem}); "
            "run: pip install scipy"
        ) from problem
    return ndimage
