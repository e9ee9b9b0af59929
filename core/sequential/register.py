"""How far an edited picture shifted, zoomed and turned: known to a few hundredths of a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EmuEditError
from ..filters import gaussian_low_pass
from .align import Level, Motion, agreement, first_guess, moves, refine
from .geometry import scaling

# What an editor may do by mistake; more than this is a mismatch, or was asked for.
MAX_SHIFT = 0.15  # of the side
MAX_ZOOM = 0.2  # either way
MAX_ANGLE = math.radians(8)
# Unrelated drawn scenes reach 0.16, edits of half the picture stay above 0.35 (benchmarks/sequential.py).
AGREEMENT = 0.25
# Mean square of the brightness' gradient: less is noise of 8-bit files, not texture.
TEXTURE = (0.25 / 255) ** 2
# Pixels: a smaller motion is no motion, and the picture is not resampled for it.
IDENTITY = 0.05
# The longest side that is worked at; what is known to 1/40 pixel there is known to 1/10 at 4096.
WORKING_SIDE = 1024
COARSEST = 48
REACH = 32  # pixels to either side that the wider of the band's two low-passes sees


@dataclass(frozen=True, eq=False)
class Registration:
    """What `register` found, one entry [B] a picture; the identity where `found` is False.

    map: [B,2,3] (see geometry.py), a point of the previous picture -> the same point of the edited one. x, y:
    shift in pixels. zoom: 1 = none. angle: radians. agreement: up to 1, how well the two pictures' gradients
    agree under the map. reasons: why the identity was kept, "" where a motion was found.
    """

    map: Tensor
    x: Tensor
    y: Tensor
    zoom: Tensor
    angle: Tensor
    agreement: Tensor
    found: Tensor
    reasons: tuple[str, ...]


def register(
    previous: Tensor, edited: Tensor, mask: Tensor | None = None, rotation: bool = True
) -> Registration:
    """Measure how `edited` lies against `previous`, both [B,H,W,3] in 0..1 of one size.

    mask: [B,H,W] in 0..1, 1 = was edited, is not looked at. rotation=False allows shift and zoom only.
    Pictures that show nothing in common, or nothing at all, keep the identity, and `reasons` says so.
    """
    if previous.shape != edited.shape:
        raise EmuEditError(
            f"registration: the pictures have shapes {list(previous.shape)} and {list(edited.shape)}; "
            "bring the edited one to the size of the previous one first."
        )
    height, width = previous.shape[1:3]
    levels = _pyramid(previous, edited, mask)
    motion = first_guess(levels[-1])
    for level in reversed(levels):
        motion = refine(level, motion, first=level is levels[-1], rotation=rotation)
    return _judge(levels[0], motion, height, width)


def _pyramid(previous: Tensor, edited: Tensor, mask: Tensor | None) -> list[Level]:
    """Finest first, each half of the one before, down to about COARSEST pixels."""
    before, after = _brightness(previous), _brightness(edited)
    weight = torch.ones_like(before) if mask is None else 1 - mask.to(before).clamp(0, 1)
    planes = torch.stack([before, after, weight], dim=1)
    height, width = before.shape[1:]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    levels = []
    while True:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        if size != tuple(planes.shape[-2:]):
            planes = F.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
        levels.append(Level(_band(planes[:, 0]), _band(planes[:, 1]), planes[:, 2]))
        scale /= 2
        if min(size) / 2 < COARSEST:
            return levels


def _brightness(images: Tensor) -> Tensor:
    """[B,H,W]: shows a shift as well as the colours do, at a third of the work (weights: ITU-R BT.601)."""
    red, green, blue = images.unbind(-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _band(plane: Tensor) -> Tensor:
    """Light smoothing against noise and interpolation error, less all that shading and colour drift reach."""
    smooth = gaussian_low_pass(plane, 1.0)
    beyond = [min(REACH, side - 1) for side in smooth.shape[1:]]
    wide = _continued(_continued(smooth, beyond[1]).transpose(1, 2), beyond[0]).transpose(1, 2)
    low = gaussian_low_pass(wide, 8.0)
    return smooth - low[:, beyond[0] : low.shape[1] - beyond[0], beyond[1] : low.shape[2] - beyond[1]]


def _continued(planes: Tensor, count: int) -> Tensor:
    """Rows [B,h,w] that go on at both ends as they came, turned about their last value, by `count` pixels.

    A plain mirror would put a bend at the border, which stays there whatever the picture does.
    """
    if count == 0:
        return planes
    left = 2 * planes[..., :1] - planes[..., 1 : count + 1].flip(-1)
    right = 2 * planes[..., -1:] - planes[..., -count - 1 : -1].flip(-1)
    return torch.cat([left, planes, right], dim=-1)


def _judge(level: Level, motion: Motion, height: int, width: int) -> Registration:
    """Believe a motion that is plausible, makes the pictures agree, and more so than no motion does."""
    identity = scaling(len(level.before), 1.0, 1.0, level.before.device)
    alike, texture = agreement(level, motion.map(*level.size))
    still, still_texture = agreement(level, identity)
    plain = torch.minimum(texture, still_texture) < TEXTURE
    foreign = torch.maximum(alike, still) < AGREEMENT
    strong = (motion.x.abs() > MAX_SHIFT) | (motion.y.abs() > MAX_SHIFT)
    strong |= ((motion.zoom - 1).abs() > MAX_ZOOM) | (motion.angle.abs() > MAX_ANGLE)
    small = moves(motion, height, width) < IDENTITY
    worse = alike < 0.9 * still  # a large edit agrees with nothing, and decides between near equals by chance
    found = ~(plain | foreign | strong | worse | small)
    motion = Motion(
        *(torch.where(found, value, 0) for value in (motion.x, motion.y, motion.stretch, motion.turn))
    )
    reasons = []
    for verdict in torch.stack([plain, foreign, small, strong, worse], dim=1).tolist():
        told = zip(verdict, _REASONS, strict=True)
        reasons.append(next((reason for true, reason in told if true), ""))
    return Registration(
        torch.where(found[:, None, None], motion.map(height, width), identity),
        motion.x * width,
        motion.y * height,
        motion.zoom,
        motion.angle,
        torch.where(found, alike, still),
        found,
        tuple(reasons),
    )


_REASONS = (
    "there is no texture to register on",
    "the pictures have too little in common to register",
    "the pictures already lie on each other",
    "the motion seen is more than an editor's slip",
    "no motion makes the pictures agree better",
)
