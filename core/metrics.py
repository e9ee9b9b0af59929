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
from .filters import gaussian_kernel
from .images import check_images, fit_mask, resize_images

WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_TRUNCATE = 3.5  # int(3.5 * 1.5 + 0.5) = 5 taps to each side
K1, K2 = 0.01, 0.03
BORDER = WINDOW // 2
# Pixels handled at a time: small enough for a processor's cache, large enough to keep a graphics card busy.
TILE, TILE_ELSEWHERE = (64, 512), (2048, 2048)

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
    before = check_images(before, "the picture before").clamp(0.0, 1.0)
    after = check_images(after, "the picture after").to(before.device).clamp(0.0, 1.0)
    if before.shape[0] != after.shape[0] and 1 not in (before.shape[0], after.shape[0]):
        raise EmuEditError(
            f"{before.shape[0]} pictures before against {after.shape[0]} after; give as many, or one."
        )
    after = resize_images(after, before.shape[1], before.shape[2])
    batch = max(before.shape[0], after.shape[0])
    return before.expand(batch, -1, -1, -1), after.expand(batch, -1, -1, -1)


def exact_type(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def difference_maps(before: Tensor, after: Tensor) -> DifferenceMaps:
    """The three maps of two pictures [B,H,W,3] of one shape (see `pair`).

    They are made tile by tile: tiles that stay in the processor's cache are several times as fast as whole
    planes, and a 4K picture takes little memory beside its maps.
    """
    batch, height, width = before.shape[:3]
    dtype = exact_type(before.device)
    tall, wide = TILE if before.device.type == "cpu" else TILE_ELSEWHERE
    maps = [torch.empty(batch, height, width, dtype=dtype, device=before.device) for _ in range(3)]
    rows, columns = _mirrored(height, before.device), _mirrored(width, before.device)
    for index in range(batch):
        # [3,H+10,W+10]: the border is mirrored, its edge pixel repeated, as filters.gaussian_low_pass does.
        x, y = (
            picture[index].index_select(0, rows).index_select(1, columns).movedim(-1, 0)
            for picture in (before, after)
        )
        for top in range(0, height, tall):
            for left in range(0, width, wide):
                h, w = min(tall, height - top), min(wide, width - left)
                window = (slice(None), slice(top, top + h + 2 * BORDER), slice(left, left + w + 2 * BORDER))
                for plane, values in zip(maps, _tile(x[window].to(dtype), y[window].to(dtype)), strict=True):
                    plane[index, top : top + h, left : left + w] = values
    return DifferenceMaps(*maps)


def _tile(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Absolute and squared difference and Wang's index, [h,w] each, of tiles [3,h+10,w+10]."""
    inner = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    difference = y[inner] - x[inner]
    mean_x, mean_y, square, product = _smoothed(torch.stack((x, y, x * x + y * y, x * y)))
    c1, c2 = K1**2, K2**2
    means = mean_x * mean_x + mean_y * mean_y
    both = mean_x * mean_y
    # The sum of the variances and the covariance, as means of squares less squares of means.
    similarity = (2 * both + c1) * (2 * (product - both) + c2) / ((means + c1) * (square - means + c2))
    return difference.abs().mean(0), difference.square().mean(0), similarity.mean(0)


def _smoothed(planes: Tensor) -> Tensor:
    """[...,h+10,w+10] -> [...,h,w] by the Gaussian window."""
    weights = gaussian_kernel(SSIM_SIGMA, SSIM_TRUNCATE).tolist()
    for axis in (-1, -2):
        size = planes.shape[axis] - 2 * BORDER
        total = planes.narrow(axis, BORDER, size) * weights[BORDER]
        for i in range(BORDER):
            total.add_(planes.narrow(axis, i, size), alpha=weights[i])
            total.add_(planes.narrow(axis, 2 * BORDER - i, size), alpha=weights[i])
        planes = total
    return planes


def _mirrored(size: int, device: torch.device) -> Tensor:
    """Indices of an axis with BORDER more places at each end, mirrored as often as a small picture needs."""
    index = torch.arange(-BORDER, size + BORDER, device=device) % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


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
