"""Undo an editor's colour and exposure drift, measured on what it did not edit; and spaces to compare colours
in.

OKLab: Björn Ottosson, "A perceptual color space for image processing", 2020. Its lightness runs from 0 to 1,
so that a difference of 0.03 means about as much in each of the spaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EmuEditError
from ..filters import gaussian_low_pass

COLOUR_MODES = ("none", "gain", "matrix")
SPACES = ("srgb", "linear", "perceptual")

# A drift that moves some colour further than this is taken for a wish ("make it night") and left alone.
MOST = 0.12
# A drift that moves no colour further than half a level of an 8-bit file is none.
IDENTITY = 0.5 / 255
# The least share of the picture that must look unchanged, or there is nothing to measure on.
LEAST_SHARE = 0.05
WORKING_SIDE = 512
ROUNDS = 12
# Residuals that count, from first to last: the drift is not known yet, the noise stays.
SCALE_FIRST, SCALE_LAST = 0.1, 0.01


@dataclass(frozen=True, eq=False)
class ColourMatch:
    """matrix [B,3,3] and offset [B,3]: previous = edited @ matrix^T + offset; the identity where not `found`.

    share: [B], how much of the picture it was measured on. reasons: why the colours stay, "" where they move.
    """

    matrix: Tensor
    offset: Tensor
    found: Tensor
    share: Tensor
    reasons: tuple[str, ...]

    def apply(self, images: Tensor) -> Tensor:
        """[B,H,W,3] -> the same with the drift undone, clamped to 0..1; untouched bits where nothing was
        found.
        """
        if not bool(self.found.any()):
            return images
        matched = images @ self.matrix.transpose(1, 2)[:, None] + self.offset[:, None, None]
        return torch.where(self.found[:, None, None, None], matched.clamp(0.0, 1.0), images)


def match_colour(
    previous: Tensor, edited: Tensor, mask: Tensor | None = None, mode: str = "gain"
) -> ColourMatch:
    """Fit edited -> previous, both [B,H,W,3] in 0..1 and registered.

    mask: [B,H,W] in 0..1, 1 = edited, not looked at. mode: "none", "gain" (a factor and an offset for each
    channel) or "matrix" (3x3 and an offset). Least squares under weights that fall off with the residual
    (Geman and McClure), starting from no drift: what differs strongly was edited.
    """
    if mode not in COLOUR_MODES:
        raise EmuEditError(f"colour: {mode!r} is no way to match colours; choose {', '.join(COLOUR_MODES)}.")
    batch, device = len(previous), previous.device
    matrix = torch.eye(3, device=device).repeat(batch, 1, 1)
    offset = torch.zeros(batch, 3, device=device)
    share = torch.zeros(batch, device=device)
    if mode == "none":
        return ColourMatch(matrix, offset, share > 0, share, ("not asked for",) * batch)
    target, source, free = _small(previous, edited, mask)
    # Clipped values say nothing of what they were.
    free = free * ((source > 0.004) & (source < 0.996)).all(dim=-1)
    for scale in torch.logspace(_log(SCALE_FIRST), _log(SCALE_LAST), ROUNDS).tolist():
        residual = (target - source @ matrix.transpose(1, 2) - offset[:, None]).abs().amax(dim=-1)
        weight = free / (1 + (residual / scale) ** 2) ** 2
        matrix, offset = (_gain if mode == "gain" else _matrix)(target, source, weight)
    share = weight.mean(dim=1)
    most = (source @ matrix.transpose(1, 2) + offset[:, None] - source).abs().amax(dim=(1, 2))
    lone, strong, small = share < LEAST_SHARE, most > MOST, most < IDENTITY
    found = ~(lone | strong | small)
    reasons = []
    for verdict in torch.stack([lone, small, strong], dim=1).tolist():
        told = zip(verdict, _REASONS, strict=True)
        reasons.append(next((reason for true, reason in told if true), ""))
    keep = found.to(matrix)
    matrix = torch.lerp(torch.eye(3, device=device).expand_as(matrix), matrix, keep[:, None, None])
    return ColourMatch(matrix, offset * keep[:, None], found, share, tuple(reasons))


_REASONS = (
    "too little is unchanged to measure colours on",
    "the colours already agree",
    "the colours differ more than by an editor's slip",
)


def _log(value: float) -> float:
    return torch.tensor(value).log10().item()


def _small(previous: Tensor, edited: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both pictures [B,N,3], smoothed so that sharpness has no say, and the weight [B,N], 1 = unmasked."""
    height, width = previous.shape[1:3]
    free = torch.ones_like(previous[..., 0]) if mask is None else 1 - mask.to(previous).clamp(0, 1)
    planes = torch.cat([previous, edited, free[..., None]], dim=-1).movedim(-1, 1)
    scale = WORKING_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        planes = F.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
    free = (planes[:, 6] > 0.999).to(planes)
    planes = gaussian_low_pass(planes[:, :6], 1.5).flatten(2).transpose(1, 2)
    return planes[..., :3], planes[..., 3:], free.flatten(1)


def _gain(target: Tensor, source: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and offset for each channel; without contrast the factor stays 1."""
    weight = weight[..., None]
    total = weight.sum(1) + 1e-9
    mean_x, mean_y = (weight * source).sum(1) / total, (weight * target).sum(1) / total
    x, y = source - mean_x[:, None], target - mean_y[:, None]
    ridge = 1e-4  # the variance of a contrast of a hundredth
    factor = ((weight * x * y).sum(1) / total + ridge) / ((weight * x * x).sum(1) / total + ridge)
    return torch.diag_embed(factor), mean_y - factor * mean_x


def _matrix(target: Tensor, source: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """3x3 and offset; colours that the picture does not show stay as they are."""
    total = weight.sum(1)[:, None] + 1e-9
    mean_x = (weight[..., None] * source).sum(1, keepdim=True) / total[..., None]
    mean_y = (weight[..., None] * target).sum(1, keepdim=True) / total[..., None]
    x, y = source - mean_x, target - mean_y
    weighted = (weight / total)[..., None] * x
    ridge = 1e-3 * torch.eye(3, device=x.device)
    normal = weighted.transpose(1, 2) @ x + ridge
    factor = torch.linalg.solve(normal, weighted.transpose(1, 2) @ y + ridge).transpose(1, 2)
    return factor, (mean_y - mean_x @ factor.transpose(1, 2))[:, 0]


def to_space(images: Tensor, space: str) -> Tensor:
    """sRGB [...,3] in 0..1 -> "srgb" itself, "linear" light, or "perceptual" (OKLab: lightness, a, b)."""
    if space == "srgb":
        return images
    if space not in SPACES:
        raise EmuEditError(f"colour: {space!r} is no space to compare in; choose {', '.join(SPACES)}.")
    images = images.clamp(0.0, 1.0)
    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    if space == "linear":
        return linear
    cones = linear @ torch.tensor(_RGB_TO_CONES, device=images.device).T
    return cones.clamp(min=0).pow(1 / 3) @ torch.tensor(_CONES_TO_LAB, device=images.device).T


_RGB_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_CONES_TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
