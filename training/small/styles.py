"""Picture filters that stand for artistic styles: fixed, fast, and recognisable at 128 pixels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .scene import CANVAS, as_float, frozen


def blur(picture: np.ndarray, radius: int, passes: int = 2) -> np.ndarray:
    """Box blurs of (2 radius + 1) pixels, the border repeated."""
    for _ in range(passes):
        for axis in (0, 1):
            n = picture.shape[axis]
            pad = [(radius + 1, radius) if a == axis else (0, 0) for a in range(picture.ndim)]
            total = np.cumsum(np.pad(picture, pad, mode="edge"), axis=axis, dtype=np.float32)
            picture = (
                np.take(total, range(2 * radius + 1, 2 * radius + 1 + n), axis)
                - np.take(total, range(n), axis)
            ) / (2 * radius + 1)
    return picture


def _grey(picture: np.ndarray) -> np.ndarray:
    return picture @ as_float((0.299, 0.587, 0.114))


def _edges(picture: np.ndarray) -> np.ndarray:
    """How strongly the colours change, [H, W]."""
    dy = np.abs(np.diff(picture, axis=0, append=picture[-1:])).max(-1)
    dx = np.abs(np.diff(picture, axis=1, append=picture[:, -1:])).max(-1)
    return np.maximum(dy, dx)


@lru_cache(maxsize=16)
def _grain(size: int, coarse: int) -> np.ndarray:
    """Fixed smooth noise around 0, [H, W]."""
    noise = np.random.default_rng(5).standard_normal((size, size)).astype(np.float32)
    noise = blur(noise, coarse) if coarse else noise
    return frozen(noise / noise.std())


@lru_cache(maxsize=16)
def _tiles(size: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tile number of every pixel [H, W], brightness of the tile's face, and opacity of the joints."""
    scale = size / CANVAS
    y, x = np.mgrid[:size, :size].astype(np.float32) / scale
    if kind == "mosaic":
        step = 6.0
        u, v = x / step, y / step
        label = np.floor(v) * 25 + np.floor(u)
        edge = np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5))
        face = 1 + 0.10 * ((0.5 - u % 1) + (0.5 - v % 1)) + 0.05 * np.sin(label * 12.9898)
        return label.astype(int), frozen(face), frozen(np.clip((edge - 0.40) * 6, 0, 1))
    step = 7.5
    rng = np.random.default_rng(11)
    n = int(np.ceil(CANVAS / step)) + 2
    gy, gx = np.mgrid[:n, :n].astype(np.float32)
    seeds = (np.stack([gy, gx], -1).reshape(-1, 2) + rng.uniform(-0.42, 0.42, (n * n, 2)) - 0.5) * step
    distance = np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1])
    nearest = np.partition(distance, 1, -1)
    gap = nearest[..., 1] - nearest[..., 0]
    label = distance.argmin(-1)
    return label, frozen(1.05 + 0.07 * np.sin(label * 12.9898)), frozen(0.9 * np.clip(1.35 - gap, 0, 1))


def _tiled(picture: np.ndarray, kind: str) -> np.ndarray:
    label, face, joint = _tiles(picture.shape[0], kind)
    flat = label.ravel()
    count = np.maximum(np.bincount(flat), 1)
    mean = np.stack([np.bincount(flat, picture[..., c].ravel()) / count for c in range(3)], -1).astype(
        np.float32
    )
    if kind == "stained glass":
        mean = np.clip(mean + 0.45 * (mean - mean.mean(-1, keepdims=True)), 0, 1)
    colour = mean[label] * face[..., None]
    lead = as_float((0.80, 0.78, 0.74) if kind == "mosaic" else (0.07, 0.07, 0.09))
    return colour + joint[..., None] * (lead - colour)


def _pixel_art(picture: np.ndarray) -> np.ndarray:
    size = picture.shape[0]
    block = max(2, round(4 * size / CANVAS))
    n = -(-size // block)
    padded = np.pad(picture, ((0, n * block - size), (0, n * block - size), (0, 0)), mode="edge")
    small = padded.reshape(n, block, n, block, 3).mean((1, 3))
    small = np.round(small * 9) / 9
    return small.repeat(block, 0).repeat(block, 1)[:size, :size]


def _pencil(picture: np.ndarray) -> np.ndarray:
    size = picture.shape[0]
    grey = _grey(picture)
    soft = blur(grey, max(1, round(3 * size / CANVAS)))
    dodge = np.clip((grey + 0.04) / (soft + 0.04), 0, 1) ** 2.2
    y, x = np.mgrid[:size, :size] * np.float32(CANVAS / size)
    hatch = 0.5 + 0.5 * np.sin((x + y) * 1.9)
    tone = 1 - np.clip(0.62 - grey, 0, 1) * (0.35 + 0.65 * hatch)
    sheet = np.clip(dodge * tone + 0.018 * _grain(size, 0), 0, 1)
    return sheet[..., None] * as_float((0.86, 0.85, 0.83)) + as_float((0.11, 0.11, 0.11))


def _watercolor(picture: np.ndarray) -> np.ndarray:
    size = picture.shape[0]
    wash = blur(picture, max(1, round(2 * size / CANVAS)))
    rim = np.clip(4 * _edges(blur(picture, max(1, round(size / CANVAS)), 1)), 0, 1)
    pale = 1 - (1 - wash) * 0.72
    pale = pale + 0.18 * (pale - pale.mean(-1, keepdims=True))
    bloom = 1 + 0.045 * _grain(size, round(5 * size / CANVAS)) + 0.02 * _grain(size, 0)
    return pale * bloom[..., None] * (1 - 0.38 * rim)[..., None]


def _comic(picture: np.ndarray) -> np.ndarray:
    size = picture.shape[0]
    smooth = blur(picture, max(1, round(size / CANVAS)), 1)
    vivid = np.clip(
        1.45 * (smooth - smooth.mean(-1, keepdims=True))
        + 1.1 * (smooth.mean(-1, keepdims=True) - 0.5)
        + 0.54,
        0,
        1,
    )
    tone = _grey(vivid)
    flat = np.clip(vivid * (np.round(tone * 5 + 0.15) / 5 / np.maximum(tone, 0.05))[..., None], 0, 1)
    y, x = np.mgrid[:size, :size] * np.float32(CANVAS / size)
    dots = np.clip(1.5 - 2 * np.hypot((x + y) % 5 - 2.5, (x - y) % 5 - 2.5), 0, 1)
    flat = flat * (1 - 0.16 * dots * (_grey(flat) < 0.72))[..., None]
    ink = np.clip(7 * (_edges(smooth) - 0.10), 0, 1)
    return flat + ink[..., None] * (as_float((0.06, 0.06, 0.10)) - flat)


def _oil(picture: np.ndarray) -> np.ndarray:
    """Kuwahara filter: each pixel takes the calmest of the four squares that touch it."""
    size = picture.shape[0]
    r = max(1, round(2 * size / CANVAS))
    grey = _grey(picture)
    stack = np.concatenate([picture, grey[..., None], grey[..., None] ** 2], -1)
    mean = np.pad(blur(stack, r, 1), ((r, r), (r, r), (0, 0)), mode="edge")
    best = np.zeros_like(picture)
    lowest = np.full(grey.shape, np.inf, np.float32)
    for dy in (0, 2 * r):
        for dx in (0, 2 * r):
            square = mean[dy : dy + size, dx : dx + size]
            spread = square[..., 4] - square[..., 3] ** 2
            closer = spread < lowest
            best = np.where(closer[..., None], square[..., :3], best)
            lowest = np.where(closer, spread, lowest)
    y, x = np.mgrid[:size, :size] * np.float32(CANVAS / size)
    bristle = np.sin(1.7 * x + 0.9 * y + 2.2 * _grain(size, round(6 * size / CANVAS)))
    rich = best + 0.22 * (best - best.mean(-1, keepdims=True))
    return rich * (1 + 0.04 * bristle + 0.015 * _grain(size, 1))[..., None]


_STYLES = {
    "pixel art": _pixel_art,
    "pencil sketch": _pencil,
    "watercolor": _watercolor,
    "comic": _comic,
    "mosaic": lambda picture: _tiled(picture, "mosaic"),
    "oil painting": _oil,
    "stained glass": lambda picture: _tiled(picture, "stained glass"),
}


def stylise(picture: np.ndarray, style: str) -> np.ndarray:
    """The picture in another style, float32 [H, W, 3] in 0..1."""
    return np.clip(_STYLES[style](picture), 0, 1).astype(np.float32)
