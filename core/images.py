"""Pictures as tensors: checks, the working size and its exact undo, masks that fit. Files: picture_files.py.

Every picture in this package is a float tensor [B,H,W,3] in 0..1 (sRGB as stored in files), every mask a
float tensor [B,H,W] in 0..1, as ComfyUI passes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import EmuEditError
from .threads import extremes

# Resampling (bicubic, Lanczos) overshoots 0..1 a little, which is fine; -1..1 and 0..255 are mistakes.
OVERSHOOT = 0.25


def check_images(images: Tensor, where: str) -> Tensor:
    """Return `images` [B,H,W,3] as float32 on its own device, or say in a sentence why it is no picture.

    Values must be finite and in 0..1 (overshoot of up to 0.25 from resampling is let through, unclamped, so
    that untouched pixels stay bit-identical). `where` names the input in the sentence, such as "the picture".
    """
    if not isinstance(images, Tensor):
        raise EmuEditError(
            f"{where}: expected a tensor [batch, height, width, 3], got {type(images).__name__}; "
            "load the file as a picture first."
        )
    shape = list(images.shape)
    if images.ndim != 4:
        raise EmuEditError(
            f"{where}: expected 4 axes [batch, height, width, 3], got shape {shape}; add or remove an axis."
        )
    if shape[-1] != 3:
        raise EmuEditError(
            f"{where}: expected 3 colour channels on the last axis, got shape {shape}; "
            "convert it to RGB (flatten the alpha channel, or repeat a grey one)."
        )
    if min(shape) == 0:
        raise EmuEditError(f"{where}: the picture is empty (shape {shape}); give at least one pixel.")
    if not images.is_floating_point():
        raise EmuEditError(
            f"{where}: expected floats in 0..1, got {images.dtype}; divide 8-bit values by 255."
        )
    images = images.to(torch.float32)
    low, high = extremes(images)  # NaN propagates into both
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(images)).sum())
        raise EmuEditError(
            f"{where}: {bad} of its values are NaN or infinite; look at the step that made the picture "
            "(often a VAE in half precision)."
        )
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise EmuEditError(
            f"{where}: values run from {low:.3g} to {high:.3g} but must lie in 0..1; rescale the picture."
        )
    return images


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """[B,H,W,3] -> [B,height,width,3]: antialiased bicubic, clamped to 0..1; untouched if the size agrees."""
    if tuple(images.shape[1:3]) == (height, width):
        return images
    planes = images.movedim(-1, 1)
    resized = F.interpolate(planes, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
    return resized.clamp(0.0, 1.0).movedim(1, -1).contiguous()


def fill_size(images: Tensor, height: int, width: int) -> Tensor:
    """[B,H,W,3] -> [B,height,width,3]: the largest part in the middle of these proportions, resized."""
    share = min(images.shape[1] / height, images.shape[2] / width)
    high, wide = max(1, round(height * share)), max(1, round(width * share))
    top, left = (images.shape[1] - high) // 2, (images.shape[2] - wide) // 2
    return resize_images(images[:, top : top + high, left : left + wide], height, width)


@dataclass(frozen=True)
class ResizePlan:
    """From a picture's own size to the size an editor works at, and back to exactly the former.

    The whole picture is kept: nothing is cropped or padded. Each side is stretched by its own factor; the two
    differ by no more than the rounding to `multiple`. Pictures whose size already agrees pass untouched.
    """

    height: int
    width: int
    working_height: int
    working_width: int

    @property
    def identity(self) -> bool:
        """True when apply and undo change nothing."""
        return (self.height, self.width) == (self.working_height, self.working_width)

    def apply(self, images: Tensor) -> Tensor:
        """[B,height,width,3] -> [B,working_height,working_width,3]."""
        self._expect(images, self.height, self.width, "the picture to resize")
        return resize_images(images, self.working_height, self.working_width)

    def undo(self, images: Tensor) -> Tensor:
        """[B,working_height,working_width,3] -> [B,height,width,3]."""
        self._expect(images, self.working_height, self.working_width, "the edited picture to restore")
        return resize_images(images, self.height, self.width)

    def _expect(self, images: Tensor, height: int, width: int, where: str) -> None:
        if tuple(images.shape[1:3]) != (height, width):
            raise EmuEditError(
                f"{where}: expected {width}x{height} pixels, got {images.shape[2]}x{images.shape[1]}; "
                "plan the resize again for this picture."
            )


def plan_resize(height: int, width: int, size: int | None, multiple: int) -> ResizePlan:
    """Plan the working size: the longest side becomes `size` px, both sides multiples of `multiple` px.

    `size=None` stays as near to the picture's own size as the multiple allows. Each side is rounded to the
    nearest multiple and is at least one.
    """
    for name, value in (("height", height), ("width", width), ("size", size), ("multiple", multiple)):
        if value is not None and value < 1:
            raise EmuEditError(f"working size: {name} must be 1 pixel or more, got {value}; give more.")
    scale = 1.0 if size is None else size / max(height, width)

    def fit(side: int) -> int:
        return max(1, math.floor(side * scale / multiple + 0.5)) * multiple

    return ResizePlan(height, width, fit(height), fit(width))


def fit_mask(mask: Tensor, batch: int, height: int, width: int, where: str = "the mask") -> Tensor:
    """Mask [h,w] or [1|B,h,w] in 0..1 (bool is fine) -> float32 [B,height,width], 1 = may change.

    Another size is resampled (antialiased bilinear; areas of 0 and 1 stay exactly that) when its proportions
    agree with the picture's; other proportions, another batch, NaN and values outside 0..1 are refused.
    """
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3) or 0 in mask.shape:
        got = f"shape {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise EmuEditError(
            f"{where}: expected a tensor [batch, height, width] in 0..1, got {got}; give one channel."
        )
    if not (mask.is_floating_point() or mask.dtype == torch.bool):
        raise EmuEditError(f"{where}: expected floats in 0..1, got {mask.dtype}; divide 8-bit values by 255.")
    mask = mask.to(torch.float32)
    mask = mask[None] if mask.ndim == 2 else mask
    low, high = (float(v) for v in mask.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise EmuEditError(f"{where}: some of its values are NaN or infinite; look at the step that made it.")
    if low < -1e-3 or high > 1 + 1e-3:
        raise EmuEditError(
            f"{where}: values run from {low:.3g} to {high:.3g} but must lie in 0..1; rescale the mask."
        )
    count, h, w = mask.shape
    if count not in (1, batch):
        raise EmuEditError(
            f"{where}: holds {count} masks for {batch} picture{'s' if batch != 1 else ''}; "
            "give one mask, or one for each picture."
        )
    # Two roundings to whole pixels may part the proportions by one pixel of the smaller picture.
    slack = max(0.02, 1.0 / min(h, w, height, width))
    if abs(math.log((h * width) / (w * height))) > slack:
        raise EmuEditError(
            f"{where}: its {w}x{h} pixels have other proportions than the picture's {width}x{height}; "
            "draw or crop the mask on the same picture."
        )
    if (h, w) != (height, width):
        planes = mask[:, None]
        planes = F.interpolate(planes, (height, width), mode="bilinear", align_corners=False, antialias=True)
        mask = planes[:, 0]
        mask = torch.where(mask > 1 - 1e-5, 1.0, mask)  # as exactly: the weights' sum is rounded
    return mask.clamp(0.0, 1.0).expand(batch, height, width)
