"""The estimator behind register.py: a first shift by phase correlation, then robust Gauss-Newton steps.

Phase correlation: Kuglin and Hines 1975. Gauss-Newton on intensities: Lucas and Kanade 1981, here with the
mean of both pictures' gradients (Benhimane and Malis 2004), which reaches further. Each step weighs every
pixel by Geman and McClure's function of its residual, so that what was edited, which matches nowhere, has no
say.

A residual is measured in pixels, that is divided by the local gradient: flat areas then neither set the scale
nor count, and one bound serves photographs and flat drawings alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import gaussian_low_pass
from .geometry import covered, displacement, sample, similarity

STEPS = 12
CONVERGED = 0.003  # pixels of the level
ZOOMS = (0.0, -0.05, 0.05, -0.1, 0.1)
# Residuals of half a grey level over a flat area are nobody's motion.
FLAT = 0.004
# Bounds on the scale of believable residuals, in pixels; the coarsest level starts further away.
SCALE_LOW, SCALE_HIGH, SCALE_FIRST = 0.15, 0.7, 1.5
MARGIN = 3.0  # pixels at the border where filters and sampling see what is not there


@dataclass(frozen=True, eq=False)
class Motion:
    """Shift as fractions of width and height, and the entries zoom * cos - 1 and zoom * sin; each [B]."""

    x: Tensor
    y: Tensor
    stretch: Tensor
    turn: Tensor

    @property
    def zoom(self) -> Tensor:
        """1 = none."""
        return torch.sqrt((1 + self.stretch) ** 2 + self.turn**2)

    @property
    def angle(self) -> Tensor:
        """Radians."""
        return torch.atan2(self.turn, 1 + self.stretch)

    def map(self, height: int, width: int) -> Tensor:
        """[B,2,3] for pictures of this size."""
        return similarity(self.x * width, self.y * height, self.zoom, self.angle, height, width)


@dataclass(frozen=True, eq=False)
class Level:
    """One size of the pyramid: both pictures as band-passed brightness, and what may be looked at;
    [B,h,w].
    """

    before: Tensor
    after: Tensor
    weight: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.before.shape[1], self.before.shape[2]


def first_guess(level: Level) -> Motion:
    """The shift that phase correlation sees, tried at a few zooms, since it knows shifts only."""
    height, width = level.size
    batch, device = len(level.before), level.before.device
    window = torch.outer(_hann(height), _hann(width)).to(device) * level.weight
    spectrum = torch.fft.rfft2(level.before * window).conj()
    far = torch.hypot(_folded(height, device)[:, None] / height, _folded(width, device)[None] / width)
    best = torch.zeros(batch, device=device)
    x, y, stretch = torch.zeros(3, batch, device=device).unbind(0)
    for zoom in ZOOMS:
        trial = Motion(*(torch.full((batch,), v, device=device) for v in (0.0, 0.0, zoom, 0.0)))
        moved = level.after
        if zoom:
            moved = sample(moved[..., None], trial.map(height, width), height, width, "bilinear")[..., 0]
        cross = torch.fft.rfft2(moved * window) * spectrum
        size = cross.abs()
        phase = cross / (size + 1e-6 * size.amax((1, 2), keepdim=True) + 1e-20)
        surface = gaussian_low_pass(torch.fft.irfft2(phase, s=(height, width)), 0.7)
        # Stripes correlate equally well anywhere along themselves: of equals the nearest is meant.
        peak, place = (surface * (1 - 0.3 * far)).flatten(1).max(dim=1)
        better = peak > best * 1.02
        best = torch.where(better, peak, best)
        down = _folded(height, device)[place // width] / height * (1 + zoom)
        right = _folded(width, device)[place % width] / width * (1 + zoom)
        x, y = torch.where(better, right, x), torch.where(better, down, y)
        stretch = torch.where(better, zoom, stretch)
    return Motion(x, y, stretch, torch.zeros_like(x))


def _hann(size: int) -> Tensor:
    return torch.hann_window(size + 2, periodic=False)[1:-1]


def _folded(size: int, device: torch.device) -> Tensor:
    """The shift that each place of a correlation means: 0, 1, ... and then the negative ones, to -1."""
    index = torch.arange(size, device=device, dtype=torch.float32)
    return torch.where(index < (size + 1) // 2, index, index - size)


def refine(level: Level, motion: Motion, first: bool, rotation: bool = True) -> Motion:
    """Gauss-Newton from `motion` until it stands still; `first` = the coarsest level, still far away."""
    height, width = level.size
    device = level.before.device
    x = torch.arange(width, device=device)[None] + 0.5 - width / 2
    y = torch.arange(height, device=device)[:, None] + 0.5 - height / 2
    radius = math.hypot(width, height) / 2  # so that all four unknowns are pixels at the corners
    widest = SCALE_FIRST if first else SCALE_HIGH
    scale = torch.full((len(level.before), 1, 1), widest, device=device)
    gain = torch.ones_like(scale)
    fixed_x, fixed_y = gradient(level.before)
    for step in range(STEPS):
        map_ = motion.map(height, width)
        moved = sample(level.after[..., None], map_, height, width)[..., 0]
        seen = level.weight * covered(map_, height, width, height, width, MARGIN)
        moved_x, moved_y = gradient(moved)
        along, down = (fixed_x + gain * moved_x) / 2, (fixed_y + gain * moved_y) / 2
        residual = level.before - gain * moved
        steep = torch.hypot(along, down)
        pixels = _blur(residual.abs()) / (_blur(steep) + FLAT)
        weight = seen / (1 + (pixels / scale) ** 2) ** 2
        columns = (along, down, (along * x + down * y) / radius, (down * x - along * y) / radius)
        move = _solve(torch.stack(columns, 1).flatten(2), weight.flatten(1), residual.flatten(1), rotation)
        motion = Motion(
            motion.x + move[0] / width,
            motion.y + move[1] / height,
            motion.stretch + move[2] / radius,
            motion.turn + move[3] / radius,
        )
        ratio = (weight * level.before * moved).sum((1, 2)) / ((weight * moved * moved).sum((1, 2)) + 1e-12)
        gain = ratio.clamp(0.5, 2.0)[:, None, None]
        typical = _weighted_median(pixels.flatten(1), (seen * steep * steep).flatten(1))
        scale = (3 * typical).clamp(SCALE_LOW, widest)[:, None, None]
        if step > 1 and float(move.abs().sum(0).max()) < CONVERGED:
            break
    return motion


def _solve(columns: Tensor, weight: Tensor, residual: Tensor, rotation: bool) -> Tensor:
    """Weighted least squares for the four unknowns: columns [B,4,N], weight and residual [B,N] -> [4,B].

    The damping stops unknowns that the picture does not show, such as the shift along stripes.
    """
    weighted = columns * weight[:, None]
    normal = weighted @ columns.transpose(1, 2)
    right = weighted @ residual[..., None]
    if not rotation:
        normal, right = normal[:, :3, :3], right[:, :3]
    trace = normal.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    unit = torch.eye(normal.shape[-1], device=normal.device)
    move = torch.linalg.solve(normal + (3e-4 * trace + 1e-9) * unit, right)[..., 0]
    return F.pad(move, (0, 4 - move.shape[-1])).transpose(0, 1)


def gradient(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of [B,h,w] along x and y, one-sided by half at the border."""
    padded = F.pad(planes[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    along = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return along, down


def _blur(planes: Tensor) -> Tensor:
    return F.avg_pool2d(planes[:, None], 7, stride=1, padding=3, count_include_pad=False)[:, 0]


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Of [B,N] values, from at most some 65,000 of them; [B]."""
    stride = max(1, values.shape[1] // 65536)
    values, weights = values[:, ::stride], weights[:, ::stride]
    values, order = values.sort(dim=1)
    below = weights.gather(1, order).cumsum(dim=1)
    index = (below < below[:, -1:] / 2).sum(dim=1, keepdim=True).clamp(max=values.shape[1] - 1)
    return values.gather(1, index)[:, 0]


def agreement(level: Level, map_: Tensor) -> tuple[Tensor, Tensor]:
    """How well the gradients agree under a map, -1..1 [B] (1 = equal), and their mean square [B]
    (texture).
    """
    height, width = level.size
    moved = sample(level.after[..., None], map_, height, width)[..., 0]
    seen = level.weight * covered(map_, height, width, height, width, MARGIN)
    fixed_x, fixed_y = gradient(level.before)
    moved_x, moved_y = gradient(moved)
    both = (seen * (fixed_x * moved_x + fixed_y * moved_y)).sum((1, 2))
    one = (seen * (fixed_x**2 + fixed_y**2)).sum((1, 2))
    other = (seen * (moved_x**2 + moved_y**2)).sum((1, 2))
    pixels = seen.sum((1, 2)) + 1e-9
    return 2 * both / (one + other + 1e-12), torch.minimum(one, other) / pixels


def moves(motion: Motion, height: int, width: int) -> Tensor:
    """The longest way [B], in pixels of that size, that a motion moves a point."""
    return displacement(motion.map(height, width), height, width)
