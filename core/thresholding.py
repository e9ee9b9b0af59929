"""Sequential edit thresholding: in a chain of edits, keep the previous picture where little changed.

Emu Edit (arXiv 2311.10089), section on multi-turn editing; formula in the paper's notation:

    d = ||c^{s+1} - c^{s}||_1,  dbar = low_pass(d),
    c^{s+1}(p) <- c^{s}(p) where dbar(p) < alpha, else c^{s+1}(p),  alpha = 0.03.

The paper leaves open the value range, sum or mean over the channels, and the filter. Here: 0..1 (the only
range in which 0.03 makes sense), mean, and a Gaussian.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import EmuEditError
from .filters import gaussian_low_pass, kernel_radius
from .images import check_images, resize_images
from .threshold_strips import suits, threshold_strips

ALPHA = 0.03
SIGMA = 2.0

WHOLE_PICTURE_TASKS = frozenset(
    {"global", "style", "color", "depth", "segmentation", "pose", "normal", "sketch"}
)
"""Tasks whose edits belong everywhere: thresholding would leave islands of the old picture, such as a sky
that keeps its colours. Sparing them is a rule of ours for commands; the paper names no exception."""


def check_threshold(alpha: float, sigma: float = SIGMA) -> None:
    """Refuse impossible settings; callers whose edits take long ask before, not after."""
    if not (isinstance(alpha, (int, float)) and alpha >= 0):  # NaN fails too
        raise EmuEditError(f"threshold: alpha must be 0 or more, got {alpha}; the paper uses 0.03.")
    if not (isinstance(sigma, (int, float)) and math.isfinite(sigma) and sigma >= 0):
        raise EmuEditError(f"threshold: sigma must be 0 or more pixels, got {sigma}; 2 is usual.")


def _plain(images: Tensor) -> bool:
    """Whether nothing but the values could be wrong with a picture."""
    known = isinstance(images, Tensor) and images.ndim == 4 and images.dtype == torch.float32
    return known and images.device.type == "cpu" and images.shape[-1] == 3 and images.numel() > 0


def difference(previous: Tensor, edited: Tensor, sigma: float = SIGMA) -> Tensor:
    """Low-passed mean absolute difference over the colours, [B,H,W] in 0..1, of two pictures [B,H,W,3]."""
    red, green, blue = (edited - previous).abs().unbind(-1)  # many times as fast as a mean over three
    return gaussian_low_pass((red + green + blue) / 3.0, sigma)


def sequential_threshold(
    previous: Tensor, edited: Tensor, alpha: float = ALPHA, sigma: float = SIGMA
) -> tuple[Tensor, Tensor]:
    """Keep of `edited` only what changed: returns (kept [B,H,W,3], change_mask [B,H,W], 1 = edited).

    previous, edited: [B,H,W,3] in 0..1; either batch may be 1 for the other's B; an edit of another size is
    resized to the previous picture's. alpha: threshold on the low-passed mean difference, 0 keeps the whole
    edit, infinity the whole previous picture. sigma: the low-pass in pixels of the previous picture.

    The decision is hard: every pixel of `kept` is one of the two inputs', bit for bit.
    """
    check_threshold(alpha, sigma)
    names = "threshold, previous picture", "threshold, edited picture"
    unread = _plain(previous) and _plain(edited) and previous.shape[1:] == edited.shape[1:]
    unread = unread and suits(previous, kernel_radius(sigma))
    if not unread:  # otherwise their values are looked at on the way
        previous, edited = (check_images(x, name) for x, name in zip((previous, edited), names, strict=True))
        edited = edited.to(previous.device)
    before, after = previous.shape[0], edited.shape[0]
    if before != after and 1 not in (before, after):
        raise EmuEditError(
            f"threshold: {before} previous pictures against {after} edited ones; give as many, or one."
        )
    edited = resize_images(edited, previous.shape[1], previous.shape[2])
    previous, edited = torch.broadcast_tensors(previous, edited)
    if suits(previous, kernel_radius(sigma)):
        kept, mask, plain = threshold_strips(previous, edited, alpha, sigma)
        if unread and not plain:  # a little below 0 is let through
            check_images(previous, names[0])
            check_images(edited, names[1])
        return kept, mask
    changed = difference(previous, edited, sigma) >= alpha
    return torch.where(changed[..., None], edited, previous), changed.to(torch.float32)
