"""Where the pixels of one picture lie in another: affine maps in half-pixel coordinates, and sampling by
them.

A map is a tensor [B,2,3] of rows (a, b, c): a point (x, y) of the previous picture lies at (ax + by + c, ...)
of the edited one. Coordinates run from 0 at a picture's left or upper edge to its width or height in pixels,
so the middle of the first pixel is 0.5 and a resize is a pure scaling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows of a picture sampled at once: bounds the memory of the sampling grid to a few MB at any size.
STRIP = 256


def similarity(
    shift_x: Tensor, shift_y: Tensor, zoom: Tensor, angle: Tensor, height: int, width: int
) -> Tensor:
    """Maps [B,2,3] that zoom (1 = none) and turn (radians) about the picture's middle, then shift
    (pixels).
    """
    a, b = zoom * torch.cos(angle), zoom * torch.sin(angle)
    x, y = width / 2, height / 2
    first = torch.stack([a, -b, x - a * x + b * y + shift_x], dim=-1)
    second = torch.stack([b, a, y - b * x - a * y + shift_y], dim=-1)
    return torch.stack([first, second], dim=-2)


def scaling(batch: int, factor_x: float, factor_y: float, device: torch.device | str = "cpu") -> Tensor:
    """Maps [B,2,3] of a plain resize about the upper left corner."""
    rows = torch.tensor([[factor_x, 0.0, 0.0], [0.0, factor_y, 0.0]], dtype=torch.float32, device=device)
    return rows.repeat(batch, 1, 1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The map that applies `inner` first, then `outer`."""
    matrix = outer[..., :2] @ inner[..., :2]
    offset = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return torch.cat([matrix, offset], dim=-1)


def inverse(map_: Tensor) -> Tensor:
    """The map back."""
    (a, b, c), (d, e, f) = map_[..., 0, :].unbind(-1), map_[..., 1, :].unbind(-1)
    det = a * e - b * d
    first = torch.stack([e, -b, b * f - e * c], dim=-1)
    second = torch.stack([-d, a, d * c - a * f], dim=-1)
    return torch.stack([first, second], dim=-2) / det[..., None, None]


def displacement(map_: Tensor, height: int, width: int) -> Tensor:
    """The longest way [B], in pixels, that a map moves a point of a height x width picture: at a corner."""
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=map_.dtype)
    corners = corners.to(map_.device)
    moved = corners @ map_[..., :2].transpose(-1, -2) + map_[..., 2][..., None, :]
    return (moved - corners).norm(dim=-1).amax(dim=-1)


def sample(images: Tensor, map_: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """Fetch [B,height,width,C] from `images` [B,h,w,C]: each pixel from where `map_` [B,2,3] sends its
    middle.

    Beyond the border the border's pixels repeat. Bicubic by default, unclamped; it does not blur before
    making smaller, so shrink first (images.resize_images).
    """
    planes = images.movedim(-1, 1)
    shape = len(map_), height, width, images.shape[-1]
    result = torch.empty(shape, dtype=images.dtype, device=images.device)
    planes = planes.expand(len(map_), -1, -1, -1)
    for top in range(0, height, STRIP):
        rows = min(STRIP, height - top)
        grid = _grid(map_, top, rows, width, images.shape[1], images.shape[2])
        if mode == "bicubic":
            grid = _straightened(grid, images.shape[1], images.shape[2])
        grid = grid.to(images.dtype)
        strip = F.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)
        result[:, top : top + rows] = strip.movedim(1, -1)
    return result


def _grid(map_: Tensor, top: int, rows: int, width: int, source_height: int, source_width: int) -> Tensor:
    """The sampling grid [B,rows,width,2] in grid_sample's -1..1 for rows top.. of the result."""
    x = torch.arange(width, device=map_.device, dtype=map_.dtype) + 0.5
    y = torch.arange(top, top + rows, device=map_.device, dtype=map_.dtype) + 0.5
    size = torch.tensor([source_width, source_height], device=map_.device, dtype=map_.dtype)
    along_x = x[None, None, :, None] * map_[:, None, None, :, 0]
    along_y = y[None, :, None, None] * map_[:, None, None, :, 1] + map_[:, None, None, :, 2]
    return (along_x + along_y) * (2 / size) - 1


def _straightened(grid: Tensor, source_height: int, source_width: int) -> Tensor:
    """A grid from which grid_sample's cubic fetches a ramp's true values.

    Its kernel (Keys 1981 with a = -0.75; only a = -0.5 reproduces ramps) shows what lies t between two pixels
    at t + t(1 - t)(1 - 2t)/2, up to 0.048 pixels aside: too much for a registration at a quarter of a
    picture's size. So it is asked for the place that it mistakes for t, found by Newton's method.
    """
    size = torch.tensor([source_width, source_height], device=grid.device, dtype=grid.dtype)
    place = (grid + 1) * (size / 2) - 0.5
    between = place - place.floor()
    asked = between.clone()
    for _ in range(3):
        slip = asked * (1 - asked) * (1 - 2 * asked) / 2
        asked -= (asked + slip - between) / (1.5 - 3 * asked * (1 - asked))
    return grid + (asked - between) * (2 / size)


def covered(
    map_: Tensor, height: int, width: int, source_height: int, source_width: int, margin: float = 0.0
) -> Tensor:
    """Which pixels [B,height,width] (bool) a map finds within a source_height x source_width picture.

    margin: pixels of the source along its border that do not count.
    """
    grid = _grid(map_, 0, height, width, source_height, source_width)
    limit = torch.tensor([1 - 2 * margin / source_width, 1 - 2 * margin / source_height], device=grid.device)
    return (grid.abs() <= limit + 1e-6).all(dim=-1)
