"""Pictures of masks, for the eye: tinted overlays, outlines, and several masks side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..images import check_images, fit_mask, resize_images
from ..picture_files import to_pil
from .morphology import dilate, erode

Colour = tuple[float, float, float]  # red, green, blue in 0..1
# Told apart by most colour-blind eyes too (Okabe and Ito's palette, without its black).
COLOURS: tuple[Colour, ...] = (
    (0.84, 0.37, 0.00), (0.34, 0.71, 0.91), (0.94, 0.89, 0.26), (0.00, 0.62, 0.45), (0.80, 0.47, 0.65),
)  # fmt: skip
_LINE = 20  # height of a label's band in pixels
_GAP = 4


def overlay(images: Tensor, mask: Tensor, colour: Colour = COLOURS[0], opacity: float = 0.5) -> Tensor:
    """Tint [B,H,W,3] by `colour` where the mask [B,H,W] is white, as strongly as mask times opacity says."""
    share = (mask * opacity)[..., None]
    return images * (1 - share) + share * torch.tensor(colour, dtype=images.dtype, device=images.device)


def outline(mask: Tensor, thickness: float = 2.0) -> Tensor:
    """Where the mask [B,H,W] crosses one half: a line of about `thickness` px, bool [B,H,W]."""
    white = mask >= 0.5
    outer, inner = thickness / 2, max(0.0, thickness / 2 - 0.5)
    return dilate(white, outer) & ~erode(white, inner) if thickness > 1 else white & ~erode(white, 1.0)


def draw_outline(images: Tensor, mask: Tensor, colour: Colour, thickness: float = 2.0) -> Tensor:
    """Draw the outline of the mask [B,H,W] on [B,H,W,3]."""
    ink = torch.tensor(colour, dtype=images.dtype, device=images.device)
    return torch.where(outline(mask, thickness)[..., None], ink, images)


def mask_sheet(
    images: Tensor, masks: Mapping[str, Tensor], opacity: float = 0.5, tile: int = 384, outlines: bool = True
) -> Tensor:
    """One sheet [B,h,w,3] for each picture: all masks' outlines on it, then each mask as overlay and in grey.

    images: [B,H,W,3] in 0..1; masks: name -> [B,H,W] (one mask for all pictures is fine), at least one.
    tile: the
    longest side of each picture on the sheet in pixels; larger pictures are shrunk to it, smaller ones kept.
    The first column has the picture above its outlines, the others each mask's overlay above the mask.
    """
    images = check_images(images, "mask preview, picture").clamp(0, 1)
    if not masks:
        raise EmuEditError("mask preview: no mask came in, so there is nothing to show; wire at least one.")
    if tile < 16:
        raise EmuEditError(f"mask preview: a tile must be 16 pixels or more, got {tile}; 384 is usual.")
    batch, height, width = images.shape[:3]
    shrink = min(1.0, tile / max(height, width))
    size = max(1, round(height * shrink)), max(1, round(width * shrink))
    fitted = {
        name: fit_mask(mask.to(images.device), batch, height, width, f"mask preview, {name}")
        for name, mask in masks.items()
    }
    if shrink < 1:
        images = resize_images(images, *size)
        fitted = {name: fit_mask(mask.contiguous(), batch, *size) for name, mask in fitted.items()}
    lines, upper, lower, titles = images, [images], [], ["picture"]
    for (name, mask), colour in zip(fitted.items(), _cycle(len(fitted)), strict=True):
        lines = draw_outline(lines, mask, colour)
        shown = overlay(images, mask, colour, opacity)
        upper.append(draw_outline(shown, mask, colour) if outlines else shown)
        lower.append(mask[..., None].expand(*mask.shape, 3))
        titles.append(name)
    rows = [
        torch.cat([_cell(picture, title) for picture, title in zip(upper, titles, strict=True)], dim=2),
        torch.cat([_cell(picture, "") for picture in (lines, *lower)], dim=2),
    ]
    return torch.cat(rows, dim=1)


def _cycle(count: int) -> list[Colour]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _cell(picture: Tensor, title: str) -> Tensor:
    """A picture [B,h,w,3] with a margin, and with room above for a title if it has one."""
    batch, height, width = picture.shape[:3]
    top = _LINE if title else 0
    cell = picture.new_full((batch, height + _GAP + top, width + _GAP, 3), 0.12)
    cell[:, top : top + height, :width] = picture
    if title:
        cell[:, :_LINE, :width] = _text(title, width).to(cell)
    return cell


def _text(words: str, width: int) -> Tensor:
    """One line of white letters on grey, [_LINE,width,3]."""
    import numpy as np
    from PIL import ImageDraw

    band = to_pil(torch.full((_LINE, width, 3), 0.12))
    ImageDraw.Draw(band).text((4, 4), words, fill=(235, 235, 235))
    return torch.from_numpy(np.asarray(band, dtype=np.float32) / 255)
