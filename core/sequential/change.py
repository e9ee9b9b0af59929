"""What an edit changed: the paper's rule, or a stricter one that draws the edit's border where it is.

The paper's rule (thresholding.py) low-passes the difference and asks for `alpha`. A strong edit then leaks
over its border by some sigmas, and a blurred copy of a strong edge, as every latent editor makes, counts as
edited. Hysteresis compares the pictures without their finest detail; wants every region to reach HIGH * alpha
somewhere; and near unchanged pixels wants a share of the strongest difference around, since a low-passed step
crosses about half its height right at the border, whatever its height.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EmuEditError
from ..filters import gaussian_low_pass
from ..masks.components import drop_specks, fill_holes, label
from ..masks.morphology import dilate, erode
from ..thresholding import ALPHA, SIGMA, check_threshold
from .colour import SPACES, to_space

MODES = ("paper", "hysteresis", "feathered")
HIGH = 2.0
# Of the strongest difference nearby. Half is the middle of a blurred step; less also keeps thin and faint
# parts.
SHARE = 0.35
REACH = 2.0  # sigmas around a pixel that "nearby" means
CLOSING = 2.0  # pixels: gaps that noise tears into thin parts
# Pixels from what both pictures show that are still judged: an editor's small slip uncovers such a strip.
UNSEEN = 4


@dataclass(frozen=True)
class ChangeSettings:
    """How two registered pictures are compared.

    mode: "paper", "hysteresis", or "feathered" (hysteresis, then a soft border, see composite.py). alpha:
    least difference, 0..1. sigma: low-pass of the difference, px. space: "srgb" (the paper), "linear",
    "perceptual". detail: px (a Gaussian's sigma) below which both pictures are smoothed before they are
    compared; None: 0 in the paper's mode, else 1. specks, holes: px of area up to which a region is dropped,
    a gap filled.
    """

    mode: str = "paper"
    alpha: float = ALPHA
    sigma: float = SIGMA
    space: str = "srgb"
    detail: float | None = None
    specks: float = 0.0
    holes: float = 0.0

    def check(self) -> None:
        """Refuse impossible settings in a sentence."""
        check_threshold(self.alpha, self.sigma)
        if self.mode not in MODES:
            raise EmuEditError(f"change: {self.mode!r} is no mode; choose {', '.join(MODES)}.")
        if self.space not in SPACES:
            raise EmuEditError(f"change: {self.space!r} is no colour space; choose {', '.join(SPACES)}.")
        for name, value in (("detail", self.detail or 0.0), ("specks", self.specks), ("holes", self.holes)):
            if math.isnan(value) or value < 0 or (name == "detail" and math.isinf(value)):
                raise EmuEditError(f"change: {name} must be 0 or more pixels, got {value}; 0 is off.")

    @property
    def smoothing(self) -> float:
        """`detail` in pixels."""
        if self.detail is not None:
            return self.detail
        return 0.0 if self.mode == "paper" else 1.0


def change_mask(
    previous: Tensor, edited: Tensor, settings: ChangeSettings, near: Tensor | None = None
) -> Tensor:
    """Bool [B,H,W], True = edited, of two registered pictures [B,H,W,3].

    near: int64 [B,H,W], for each pixel the flat index of the nearest one that both pictures show (itself,
    mostly); what only one shows is judged as that within UNSEEN pixels, and unchanged beyond, where
    there is no edit to take. None: all is shown.
    """
    settings.check()
    distance = _distance(previous, edited, settings)
    if near is not None:
        distance = distance.flatten(1).gather(1, near.flatten(1)).reshape(distance.shape)
    low_passed = gaussian_low_pass(distance, settings.sigma)
    changed = low_passed >= settings.alpha
    if settings.mode != "paper":
        changed = _hysteresis(low_passed, changed, settings)
    changed = fill_holes(drop_specks(changed, settings.specks), settings.holes)
    return changed if near is None else changed & _within(near, UNSEEN)


def _within(near: Tensor, reach: int) -> Tensor:
    """Bool [B,H,W]: whether the pixel that `near` names lies within `reach` rows and columns."""
    height, width = near.shape[1:]
    down = near // width - torch.arange(height, device=near.device)[:, None]
    along = near % width - torch.arange(width, device=near.device)
    return (down.abs() <= reach) & (along.abs() <= reach)


def _distance(previous: Tensor, edited: Tensor, settings: ChangeSettings) -> Tensor:
    """[B,H,W] per pixel: the channels' mean difference, or the distance in OKLab."""
    before, after = (to_space(images, settings.space) for images in (previous, edited))
    difference = after - before
    if settings.smoothing > 0:
        difference = gaussian_low_pass(difference.movedim(-1, 1), settings.smoothing).movedim(1, -1)
    if settings.space == "perceptual":
        return difference.square().sum(dim=-1).sqrt()
    red, green, blue = difference.abs().unbind(-1)
    return (red + green + blue) / 3.0


def _hysteresis(low_passed: Tensor, changed: Tensor, settings: ChangeSettings) -> Tensor:
    reach = round(REACH * math.hypot(settings.sigma, settings.smoothing))
    if reach > 0:
        strong = low_passed >= SHARE * _largest(low_passed, reach)
        alone = _largest((~changed).to(low_passed), reach) > 0
        changed = changed & (strong | ~alone)
        changed = changed | erode(dilate(changed, CLOSING), CLOSING)
    parts = label(changed)
    count = changed[0].numel() // 2 + 2  # as many parts as there can be, so that nobody has to look
    peaks = low_passed.new_zeros(len(parts), count)
    peaks = peaks.scatter_reduce(1, parts.flatten(1), low_passed.flatten(1), "amax")
    high = peaks >= HIGH * settings.alpha
    high[:, 0] = False
    return high.gather(1, parts.flatten(1)).reshape(changed.shape)


def _largest(planes: Tensor, reach: int) -> Tensor:
    """The largest of each pixel's square of 2 * reach + 1, by rows and then by columns."""
    size = 2 * reach + 1
    rows = F.max_pool2d(planes[:, None], (1, size), 1, (0, reach))
    return F.max_pool2d(rows, (size, 1), 1, (reach, 0))[:, 0]
