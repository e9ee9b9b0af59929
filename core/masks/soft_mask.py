"""The masks of an edit, after Emu Edit (arXiv 2311.10089, appendix 7.2.2): precise, grown and blurred, box.

The paper makes one picture with each of the three and keeps the best: within a tight mask a model tends to
put a new version of the old object back. Sizes are not in the paper; the defaults here, 2 % and 1 % of the
diagonal, lie among those of public reproductions at 512 px (dilation by 15 to 40 px across, a light blur).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EmuEditError
from .blur import gaussian_blur
from .components import drop_specks, fill_holes, part_boxes
from .morphology import as_bools, dilate
from .targets import Targets, fill_boxes

UNITS = ("% of diagonal", "pixels")
MODES = ("soft", "precise", "box", "fused", "background")
EMPTY = "its mask is empty, and so is that of the background"  # how the report's lines about such end


@dataclass(frozen=True)
class SoftMaskSettings:
    """How the masks are made.

    grow: radius of the disc by which the precise mask grows; blur: sigma of the Gaussian after it; specks,
    holes:
    parts and holes with an area below size x size are dropped and filled before anything else (0: none). All
    four
    are lengths in `unit`.
    """

    grow: float = 2.0
    blur: float = 1.0
    specks: float = 0.0
    holes: float = 0.0
    unit: str = UNITS[0]

    def __post_init__(self) -> None:
        for name in ("grow", "blur", "specks", "holes"):
            size_in_pixels(getattr(self, name), self.unit, 1, 1, name)


@dataclass(frozen=True)
class SoftMasks:
    """The masks of one run: precise, soft and box [B,H,W] float32 in 0..1, and sentences about them.

    Where precise is empty all are, the background's too: "all but the object" would be the whole picture, and
    a miss of the detector would have the editor repaint everything. A mask left empty on purpose looks the
    same and is treated the same.

    radius, sigma: what `grow` and `blur` were in pixels.
    """

    precise: Tensor
    soft: Tensor
    box: Tensor
    radius: float
    sigma: float
    report: tuple[str, ...]

    def pick(self, mode: str, weights: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
        """The mask [B,H,W] that one of MODES names; `weights` are those of the fused one."""
        if mode == "fused":
            return fuse((self.precise, self.soft, self.box), weights)
        if mode == "background":
            found = (self.precise > 0).flatten(1).any(dim=1)[:, None, None]
            return background_mask(self.precise, self.radius, self.sigma) * found
        if mode not in MODES:
            raise EmuEditError(f"soft mask: {mode!r} is no kind of mask; pick one of {', '.join(MODES)}.")
        return getattr(self, mode)


def size_in_pixels(size: float, unit: str, height: int, width: int, name: str = "size") -> float:
    """A length given in pixels, or in percent of the picture's diagonal, in pixels."""
    if unit not in UNITS:
        raise EmuEditError(f"soft mask: {unit!r} is no unit of length; pick one of {', '.join(UNITS)}.")
    if not (math.isfinite(size) and size >= 0):
        raise EmuEditError(f"soft mask: {name} must be 0 or more {unit}, got {size}; 0 switches it off.")
    return size if unit == "pixels" else size / 100 * math.hypot(height, width)


def soft_mask(precise: Tensor, radius: float, sigma: float) -> Tensor:
    """[B,H,W] grown by a disc of `radius` px, then blurred by a Gaussian of `sigma` px: the paper's mask
    (b).
    """
    return gaussian_blur(dilate(as_bools(precise), radius), sigma, clamp=True)


def background_mask(precise: Tensor, radius: float, sigma: float) -> Tensor:
    """What is not the object, reaching `radius` px into it, with a soft edge (appendix 7.2.2, Background
    task).

    The minimum filter takes from the object, so that the background extends and no rim of the old one stays
    around the object; then a Gaussian of `sigma` px.
    """
    background = dilate(
        as_bools(1.0 - precise), radius
    )  # the smallest of a mask is the largest of its opposite
    return gaussian_blur(background, sigma, clamp=True)


def fuse(masks: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted mean of masks of one shape, in 0..1.

    Weights (1 - c, 0, c) of precise, soft and box give UltraEdit's soft mask (arXiv 2407.05282): the
    constant c
    where the box holds more than the precise mask.
    """
    if len(weights) != len(masks) or not all(math.isfinite(w) and w >= 0 for w in weights):
        raise EmuEditError(
            f"soft mask: the weights must be {len(masks)} numbers of 0 or more, got {list(weights)}; "
            f"give one "
            "for each mask."
        )
    total = math.fsum(weights)
    if total == 0:
        raise EmuEditError("soft mask: all weights are 0, which leaves nothing to fuse; raise at least one.")
    result = torch.zeros_like(masks[0])
    for mask, weight in zip(masks, weights, strict=True):
        if weight:
            result.add_(mask, alpha=weight / total)
    return result.clamp_(0.0, 1.0)


def make_masks(targets: Targets, settings: SoftMaskSettings | None = None) -> SoftMasks:
    """The masks of every picture of `targets`; where nothing was found they are empty and the report says so.

    Where boxes came in, the box mask holds them, otherwise a box around each part of the precise mask.
    """
    settings = settings or SoftMaskSettings()
    height, width = targets.masks.shape[1:]

    def pixels(name: str) -> float:
        return size_in_pixels(getattr(settings, name), settings.unit, height, width, name)

    radius, sigma = pixels("grow"), pixels("blur")
    precise = fill_holes(drop_specks(targets.masks, pixels("specks") ** 2), pixels("holes") ** 2)
    boxes = [
        frame or (part_boxes(mask) if count else ())
        for mask, frame, count in zip(precise, targets.boxes, targets.counts, strict=True)
    ]
    box = fill_boxes(boxes, height, width, precise)
    lines = [f"{width}x{height} pixels, grown by {radius:.1f}, blurred by {sigma:.1f} (sigma)"]
    lines += _report(targets, precise, box, [len(frame) for frame in boxes])
    return SoftMasks(precise, soft_mask(precise, radius, sigma), box, radius, sigma, tuple(lines))


def _report(targets: Targets, precise: Tensor, box: Tensor, boxes: list[int]) -> list[str]:
    """One line for each picture; an area counts its grey pixels in part."""
    before, after, boxed = (mask.mean(dim=(1, 2)).tolist() for mask in (targets.masks, precise, box))
    lines = []
    for index, count in enumerate(targets.counts):
        name = f"picture {index + 1}: " if len(boxes) > 1 else ""
        if before[index] == 0:
            lines.append(f"{name}nothing found; {EMPTY}")
        elif after[index] == 0:
            lines.append(f"{name}only specks found, and dropped; {EMPTY}")
        else:
            found = f"{count} mask{'s' if count != 1 else ''}" if count else "no mask, so its boxes filled"
            lines.append(
                f"{name}{found}, {100 * after[index]:.1f} % of the picture; {boxes[index]} "
                f"box{'es' if boxes[index] != 1 else ''}, {100 * boxed[index]:.1f} %"
            )
    return lines
