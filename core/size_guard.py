"""Sizes that an editor can take, and the exact way back.

Latent editors want sides that are multiples of 8 (Stable Diffusion), 16 (FLUX Kontext, FLUX.2), 32
(Qwen-Image-Edit) or 64, and otherwise resize or cut a picture themselves, untold. Here it is done beforehand
and written down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .errors import EmuEditError
from .images import check_images, resize_images

MODES = ("pad", "crop", "stretch")


@dataclass(frozen=True, eq=False)
class SizeRecord:
    """What `guard_size` did: `original` [B,H,W,3] was scaled to `scaled` (height, width), and then brought to
    `guarded` (height, width), `top` and `left` pixels of border being added (pad) or cut off (crop)."""

    mode: str
    original: Tensor
    scaled: tuple[int, int]
    guarded: tuple[int, int]
    top: int
    left: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the original."""
        return self.original.shape[1], self.original.shape[2]

    def describe(self) -> str:
        """One line for people."""
        (height, width), (new_height, new_width) = self.size, self.guarded
        if self.size == self.guarded:
            return f"{width}x{height} fits as it is"
        how = {"pad": "padded", "crop": "cropped", "stretch": "stretched"}[self.mode]
        words = [f"scaled to {self.scaled[1]}x{self.scaled[0]}"] if self.scaled != self.size else []
        if self.scaled != self.guarded:
            words.append(f"{how} to {new_width}x{new_height}")
        return f"{width}x{height} {' and '.join(words)}"


def guard_size(
    images: Tensor, multiple: int = 16, mode: str = "pad", size: int = 0
) -> tuple[Tensor, SizeRecord]:
    """[B,H,W,3] -> (the same with sides that are multiples of `multiple` px, the record for the way back).

    mode: "pad" repeats the border's pixels on all sides, "crop" cuts the middle out, "stretch" rounds each
    side. size: the longest side becomes about this many pixels first; 0 = as it is. A picture that fits
    passes untouched.
    """
    images = check_images(images, "size guard, the picture")
    if mode not in MODES:
        raise EmuEditError(f"size guard: {mode!r} is no mode; choose {', '.join(MODES)}.")
    if multiple < 1 or size < 0:
        raise EmuEditError(
            f"size guard: multiple must be 1 or more and size 0 or more, got {multiple} and {size}; "
            "16 and 0 suit most editors."
        )
    height, width = images.shape[1:3]
    factor = size / max(height, width) if size else 1.0
    scaled = max(1, round(height * factor)), max(1, round(width * factor))
    if mode == "stretch":
        sides = height * factor, width * factor
        guarded = tuple(max(1, round(side / multiple)) * multiple for side in sides)
        scaled = (guarded[0], guarded[1])
    elif mode == "crop":
        guarded = tuple(side // multiple * multiple for side in scaled)
        if min(guarded) == 0:
            raise EmuEditError(
                f"size guard: nothing is left of {scaled[1]}x{scaled[0]} pixels cut to multiples of "
                f"{multiple}; pad instead."
            )
    else:
        guarded = tuple(-(-side // multiple) * multiple for side in scaled)
    top, left = abs(guarded[0] - scaled[0]) // 2, abs(guarded[1] - scaled[1]) // 2
    record = SizeRecord(mode, images, scaled, (guarded[0], guarded[1]), top, left)
    result = resize_images(images, *scaled)
    if scaled == record.guarded:
        return result, record
    if mode == "crop":
        return result[:, top : top + guarded[0], left : left + guarded[1]].contiguous(), record
    bottom, right = guarded[0] - scaled[0] - top, guarded[1] - scaled[1] - left
    padded = F.pad(result.movedim(-1, 1), (left, right, top, bottom), mode="replicate")
    return padded.movedim(1, -1).contiguous(), record


def restore_size(edited: Tensor, record: SizeRecord) -> Tensor:
    """An editor's result [b,h,w,3] of the guarded picture -> [b,H,W,3] of the original's size.

    An editor that returned another size than it was given is taken to have stretched the picture. Padding is
    cut off, what was cropped off comes back from the original; where no scaling was needed, no pixel is
    resampled.
    """
    edited = check_images(edited, "size restore, the edited picture")
    original = record.original.to(edited.device)
    if len(original) not in (1, len(edited)):
        raise EmuEditError(
            f"size restore: {len(edited)} edited pictures for {len(original)} originals; give as many."
        )
    original = original.expand(len(edited), -1, -1, -1)
    (height, width), (scaled_height, scaled_width) = record.size, record.scaled
    edited = resize_images(edited, *record.guarded)
    if record.mode == "pad":
        edited = edited[:, record.top : record.top + scaled_height, record.left : record.left + scaled_width]
    if record.mode != "crop" or record.scaled == record.guarded:
        return resize_images(edited, height, width).contiguous()
    whole = resize_images(original, scaled_height, scaled_width).clone()
    rows = slice(record.top, record.top + record.guarded[0])
    columns = slice(record.left, record.left + record.guarded[1])
    whole[:, rows, columns] = edited
    if record.scaled == record.size:
        return whole
    # Scaled and cropped: beyond the crop the original's own pixels are better than twice resampled ones.
    whole, result = resize_images(whole, height, width), original.clone()
    down, right = height / scaled_height, width / scaled_width
    inner = slice(int(rows.start * down), -int(-rows.stop * down // 1))
    across = slice(int(columns.start * right), -int(-columns.stop * right // 1))
    result[:, inner, across] = whole[:, inner, across]
    return result
