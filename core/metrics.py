"""How alike two pictures are, pixel by pixel: L1, PSNR and SSIM, whole or weighted by a soft mask.

L1 is the mean absolute difference in 0..1 (the range that the values of Emu Edit's table imply: arXiv
2311.10089, "L1"). SSIM is that of Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error
visibility to structural similarity", IEEE TIP 13(4), 2004: Gaussian window of 11x11 taps and sigma 1.5,
K1 = 0.01, K2 = 0.03, range 1, on each colour and averaged, over the places where the whole window lies inside
the picture.

Sums are taken in float64 (float32 on devices that have no other), so that a 4K picture loses no digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import EmuEditError
from .filters import gaussian_low_pass
from .images import check_images, fit_mask, resize_images

WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_TRUNCATE = 3.5  # int(3.5 * 1.5 + 0.5) = 5 taps to each side
K1, K2 = 0.01, 0.03
BORDER = WINDOW // 2

NAMES = ("l1", "psnr", "ssim")
REGIONS = ("whole", "inside", "outside")


@dataclass(frozen=True)
class DifferenceMaps:
    """Per pixel, [B,H,W]: mean absolute and mean squared difference over the colours, and SSIM."""

    absolute: Tensor
    squared: Tensor
    similarity: Tensor


def pair(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Both pictures checked, on one device, of one size (before's) and one batch; [B,H,W,3] float32 in 0..1.

    Either batch may be 1 for the other's B. Values that overshoot 0..1 are clamped, as saving would.
    """
    before = check_images(before, "scores, the picture before").clamp(0.0, 1.0)
    after = check_images(after, "scores, the picture after").to(before.device).clamp(0.0, 1.0)
    if before.shape[0] != after.shape[0] and 1 not in (before.shape[0], after.shape[0]):
        raise EmuEditError(
            f"scores: {before.shape[0]} pictures before against {after.shape[0]} after; give as many, or one."
        )
    after = resize_images(after, before.shape[1], before.shape[2])
    batch = max(before.shape[0], after.shape[0])
    return before.expand(batch, -1, -1, -1), after.expand(batch, -1, -1, -1)


def exact_type(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def difference_maps(before: Tensor, after: Tensor) -> DifferenceMaps:
    """The three maps of two pictures [B,H,W,3] of one shape (see `pair`)."""
    dtype = exact_type(before.device)
    absolute, squared, similarity = [], [], []
    for x, y in zip(before, after, strict=True):  # one picture at a time: a 4K batch would fill the memory
        difference = y.to(dtype) - x.to(dtype)
        absolute.append(difference.abs().mean(-1))
        squared.append(difference.square().mean(-1))
        colours = [
            ssim_map(a.to(dtype), b.to(dtype)) for a, b in zip(x.unbind(-1), y.unbind(-1), strict=True)
        ]
        similarity.append(torch.stack(colours).mean(0))
    return DifferenceMaps(torch.stack(absolute), torch.stack(squared), torch.stack(similarity))


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """Wang's index at every pixel of two planes [H,W] in 0..1; the border is mirrored."""

    def blur(plane: Tensor) -> Tensor:
        return gaussian_low_pass(plane, SSIM_SIGMA, SSIM_TRUNCATE)

    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x * mean_x
    variance_y = blur(y * y) - mean_y * mean_y
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    light = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return light * structure


def region_means(plane: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of [B,H,W] weighted by a soft mask [B,H,W] (None: all alike) -> [B]; NaN where nothing weighs."""
    if weights is None:
        return plane.flatten(1).mean(1)
    weights = weights.to(plane.dtype)
    total = weights.flatten(1).sum(1)
    return torch.where(total > 0, (plane * weights).flatten(1).sum(1) / total, float("nan"))


def _inner(plane: Tensor) -> Tensor:
    """Without the border where SSIM's window hangs over the edge; small pictures keep it."""
    if min(plane.shape[-2:]) < WINDOW:
        return plane
    return plane[..., BORDER:-BORDER, BORDER:-BORDER]


def pixel_scores(
    before: Tensor, after: Tensor, mask: Tensor | None = None
) -> tuple[list[dict[str, dict[str, float | None]]], DifferenceMaps]:
    """Scores of each picture of a batch, and the maps they were taken from.

    before, after: [B,H,W,3] as `pair` takes them. mask: [h,w] or [1|B,h,w] in 0..1, 1 = where the edit was
    meant to be; a soft mask weighs each pixel by its value inside and by one minus that outside.

    Each picture's entry is region ("whole", and with a mask "inside", "outside") -> name ("l1", "psnr" in
    decibels, "ssim") -> value; None where a region is empty. PSNR is infinity for equal pictures.
    """
    before, after = pair(before, after)
    maps = difference_maps(before, after)
    regions: dict[str, Tensor | None] = {"whole": None}
    if mask is not None:
        inside = fit_mask(mask.to(before.device), *before.shape[:3])
        regions |= {"inside": inside, "outside": 1.0 - inside}
    columns = []
    for weights in regions.values():
        columns += [
            region_means(maps.absolute, weights),
            region_means(maps.squared, weights),
            region_means(_inner(maps.similarity), None if weights is None else _inner(weights)),
        ]
    table = torch.stack(columns, 1).tolist()  # the one trip to the host
    entries: list[dict[str, dict[str, float | None]]] = []
    for row in table:
        entry: dict[str, dict[str, float | None]] = {}
        for index, region in enumerate(regions):
            l1, mse, ssim = row[3 * index : 3 * index + 3]
            entry[region] = {"l1": _known(l1), "psnr": _decibels(mse), "ssim": _known(ssim)}
        entries.append(entry)
    return entries, maps


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _decibels(mse: float) -> float | None:
    if math.isnan(mse):
        return None
    return math.inf if mse <= 0 else -10.0 * math.log10(mse)
