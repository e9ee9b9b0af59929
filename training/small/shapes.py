"""What the things look like: signed distance functions, parts, textures, and cached sprites.

A shape is a list of parts in painter's order, in a box of x, y in [-1, 1] with y pointing down.
Sprites depend on shape and size only, so they are drawn once and coloured many times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .fields import Part, box, circle, clip_to, cut, ellipse, join, polygon, stroke
from .figures import FIGURE_PARTS
from .scene import POSES, as_float

LIGHT = np.array([-0.42, -0.58, 0.70], np.float32)  # towards the lamp: from the upper left, in front


def _star():
    angles = np.pi / 5 * np.arange(10) - np.pi / 2
    radii = np.where(np.arange(10) % 2, 0.45, 0.95)
    return [Part(polygon(np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1), 0.05), bulge=0.35)]


def _heart():
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = 16 * np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [Part(polygon(np.stack([x / 16.6, (y - 2.5) / 15.5], 1)), bulge=0.45)]


def _tree():
    tiers = [((0.0, -1.0), 0.50, -0.32), ((0.0, -0.62), 0.66, 0.12), ((0.0, -0.2), 0.80, 0.62)]
    leaves = [
        Part(polygon([top, (w, low), (-w, low)], 0.05), gain=0.86 + 0.09 * k, bulge=0.25)
        for k, (top, w, low) in enumerate(tiers)
    ]
    return [Part(box(-0.14, 0.5, 0.14, 1), (0.42, 0.27, 0.17)), *leaves[::-1]]


def _flower():
    ring = [(0.42 * np.cos(a), -0.30 + 0.42 * np.sin(a)) for a in np.pi / 3 * np.arange(6) + 0.52]
    stem = (0.22, 0.52, 0.24)
    return [
        Part(stroke(0, -0.2, 0, 1, 0.06), stem, bulge=0.06),
        Part(ellipse(0.3, 0.62, 0.3, 0.13), stem),
        Part(ellipse(-0.3, 0.74, 0.3, 0.13), stem),
        *(Part(circle(x, y, 0.26), bulge=0.25) for x, y in ring),
        Part(circle(0, -0.30, 0.25), (0.62, 0.36, 0.10), bulge=0.2),
    ]


def _house():
    glass, frame = (0.66, 0.87, 0.97), (0.98, 0.97, 0.94)
    windows = [
        part
        for cx in (-0.42, 0.42)
        for part in (
            Part(box(cx - 0.2, 0.12, cx + 0.2, 0.52), frame, bulge=0.04),
            Part(box(cx - 0.14, 0.18, cx + 0.14, 0.46), glass, bulge=0),
        )
    ]
    return [
        Part(box(0.36, -0.95, 0.58, -0.3), (0.52, 0.36, 0.32), bulge=0.06),
        Part(box(-0.76, -0.2, 0.76, 1, 0.02), bulge=0.12),
        Part(polygon([(-0.93, -0.1), (0, -0.93), (0.93, -0.1)], 0.06), (0.36, 0.40, 0.50), bulge=0.15),
        *windows,
        Part(box(-0.15, 0.5, 0.15, 1.0), (0.50, 0.31, 0.19), bulge=0.06),
        Part(circle(0.08, 0.77, 0.035), (0.95, 0.8, 0.4), bulge=0),
    ]


def _car():
    tyre, hub, glass = (0.16, 0.16, 0.19), (0.78, 0.80, 0.83), (0.70, 0.88, 0.97)
    body = join(
        box(-1, 0.02, 1, 0.66, 0.2), polygon([(-0.58, 0.1), (-0.36, -0.42), (0.3, -0.42), (0.62, 0.1)], 0.06)
    )
    wheels = [
        part
        for cx in (-0.52, 0.54)
        for part in (
            Part(circle(cx, 0.66, 0.25), tyre, bulge=0.08),
            Part(circle(cx, 0.66, 0.11), hub, bulge=0.05),
        )
    ]
    return [
        Part(body, bulge=0.22),
        Part(polygon([(-0.44, 0.0), (-0.27, -0.32), (-0.08, -0.32), (-0.08, 0.0)], 0.03), glass, bulge=0),
        Part(polygon([(0.06, 0.0), (0.06, -0.32), (0.23, -0.32), (0.45, 0.0)], 0.03), glass, bulge=0),
        Part(ellipse(0.9, 0.24, 0.08, 0.1), (1.0, 0.93, 0.6), bulge=0),
        Part(box(-1, 0.2, -0.9, 0.36), (0.9, 0.25, 0.2), bulge=0),
        *wheels,
    ]


def _fish():
    return [
        Part(polygon([(0.42, 0.0), (0.9, -0.48), (0.82, 0.0), (0.9, 0.48)], 0.07), gain=0.84, bulge=0.15),
        Part(polygon([(-0.25, -0.4), (0.12, -0.62), (0.3, -0.3)], 0.06), gain=0.84, bulge=0.12),
        Part(ellipse(-0.2, 0.0, 0.78, 0.52), bulge=0.45),
        Part(polygon([(0.0, 0.08), (0.28, 0.02), (0.24, 0.26)], 0.05), gain=0.80, bulge=0.1),
        Part(circle(-0.58, -0.12, 0.14), (1, 1, 1), bulge=0),
        Part(circle(-0.61, -0.12, 0.075), (0.08, 0.08, 0.1), bulge=0),
    ]


def _cup():
    handle = cut(circle(0.52, 0.12, 0.46), circle(0.52, 0.12, 0.27))
    body = join(
        polygon([(-0.82, -0.72), (0.5, -0.72), (0.38, 0.92), (-0.70, 0.92)], 0.08),
        ellipse(-0.16, -0.74, 0.74, 0.2),
    )
    return [
        Part(handle, gain=0.92, bulge=0.1),
        Part(body, bulge=0.4),
        Part(ellipse(-0.16, -0.74, 0.66, 0.14), gain=0.55, bulge=0),
        Part(
            clip_to(ellipse(-0.16, -0.66, 0.6, 0.12), ellipse(-0.16, -0.74, 0.66, 0.14)),
            (0.36, 0.21, 0.12),
            bulge=0,
        ),
    ]


def _hat():
    crown = join(
        polygon([(-0.52, -0.9), (0.52, -0.9), (0.44, 0.5), (-0.44, 0.5)], 0.06), ellipse(0, -0.88, 0.58, 0.14)
    )
    return [
        Part(ellipse(0, 0.56, 1.0, 0.27), gain=0.9, bulge=0.15),
        Part(crown, bulge=0.35),
        Part(clip_to(crown, box(-1, 0.12, 1, 0.4)), (0.88, 0.70, 0.26), bulge=0.2),
        Part(ellipse(0, -0.89, 0.5, 0.1), gain=1.14, bulge=0),
    ]


def _mushroom():
    cap = clip_to(ellipse(0, 0.06, 1.0, 1.04), lambda x, y: y - 0.12 - 0.1 * (1 - x * x))
    spot = (0.99, 0.96, 0.90)
    return [
        Part(
            polygon([(-0.24, 0.0), (0.24, 0.0), (0.34, 0.9), (-0.34, 0.9)], 0.1),
            (0.95, 0.89, 0.78),
            bulge=0.25,
        ),
        Part(cap, bulge=0.4),
        Part(ellipse(-0.1, -0.52, 0.22, 0.18), spot, bulge=0),
        Part(ellipse(0.5, -0.2, 0.17, 0.18), spot, bulge=0),
        Part(ellipse(-0.58, -0.08, 0.16, 0.16), spot, bulge=0),
        Part(ellipse(0.08, -0.04, 0.12, 0.1), spot, bulge=0),
    ]


def _boat():
    return [
        Part(box(-0.05, -1, 0.05, 0.5), (0.45, 0.30, 0.20), bulge=0.05),
        Part(polygon([(0.14, -0.86), (0.80, 0.26), (0.14, 0.26)], 0.04), (0.98, 0.96, 0.90), bulge=0.15),
        Part(polygon([(-0.14, -0.6), (-0.14, 0.26), (-0.62, 0.26)], 0.04), (0.90, 0.88, 0.84), bulge=0.12),
        Part(polygon([(-0.93, 0.46), (0.93, 0.46), (0.62, 0.93), (-0.62, 0.93)], 0.07), bulge=0.25),
        Part(box(-0.98, 0.4, 0.98, 0.52), gain=1.15, bulge=0.05),
    ]


def _apple():
    fruit = join(ellipse(-0.34, 0.22, 0.62, 0.76), ellipse(0.34, 0.22, 0.62, 0.76), ellipse(0, 0.3, 0.6, 0.6))
    return [
        Part(fruit, bulge=0.5),
        Part(ellipse(0, -0.44, 0.22, 0.08), gain=0.6, bulge=0),
        Part(stroke(0, -0.42, 0.1, -0.92, 0.06), (0.42, 0.27, 0.16), bulge=0.05),
        Part(clip_to(circle(0.2, -0.5, 0.42), circle(0.5, -0.98, 0.42)), (0.36, 0.70, 0.28), bulge=0.15),
    ]


def _cube():
    return [
        Part(
            polygon([(-0.86, -0.52), (0, -0.12), (0, 0.95), (-0.86, 0.52)], 0.03),
            bulge=0,
            facing=(-0.70, 0.20, 0.685),
        ),
        Part(
            polygon([(0.86, -0.52), (0, -0.12), (0, 0.95), (0.86, 0.52)], 0.03),
            bulge=0,
            facing=(0.70, 0.20, 0.685),
        ),
        Part(
            polygon([(-0.86, -0.54), (0, -0.95), (0.86, -0.54), (0, -0.13)], 0.03),
            gain=1.06,
            bulge=0,
            facing=(0.0, -0.80, 0.60),
        ),
    ]


PARTS: dict[str, Callable[[], list[Part]]] = {
    "ball": lambda: [Part(circle(0, 0, 0.98), bulge=0.98)],
    "cube": _cube,
    "star": _star,
    "heart": _heart,
    "cup": _cup,
    "tree": _tree,
    "house": _house,
    "car": _car,
    "fish": _fish,
    "flower": _flower,
    "hat": _hat,
    "mushroom": _mushroom,
    "boat": _boat,
    "apple": _apple,
}


@dataclass(frozen=True)
class Sprite:
    """A shape at a size, cropped to what is drawn. All arrays float32, colours premultiplied."""

    alpha: np.ndarray  # [h, w] coverage
    main: np.ndarray  # [h, w] weight of the object's own colour
    fixed: np.ndarray  # [h, w, 3] parts of fixed colour, and highlights
    normal: np.ndarray  # [h, w, 3] unit vectors: right, down, towards the viewer
    lines: np.ndarray  # [h, w] outlines of the parts
    x: np.ndarray  # [h, w] box coordinates, for textures
    y: np.ndarray


def _surface(distance: np.ndarray, step: float, part: Part) -> np.ndarray:
    """Normals of a flat thing whose rim of width `bulge` is rounded off, [h, w, 3]."""
    if not part.bulge:
        return np.tile(np.array(part.facing), (*distance.shape, 1))
    normal = np.zeros((*distance.shape, 3))
    gy, gx = np.gradient(distance, step)
    tilt = 0.96 * np.clip(1 + distance / part.bulge, 0, 1) / np.maximum(np.hypot(gx, gy), 1e-3)
    normal[..., 0], normal[..., 1] = gx * tilt, gy * tilt
    normal[..., 2] = np.sqrt(np.clip(1 - (normal[..., :2] ** 2).sum(-1), 0.05, 1))
    return normal


@lru_cache(maxsize=3072)
def sprite(shape: str, size: int, flip: bool = False, pose: str = POSES[0]) -> Sprite:
    """Draws a shape into a box of `size` pixels; `pose` is for FIGURES."""
    step = 2.0 / size
    axis = (np.arange(size + 4) + 0.5 - (size + 4) / 2) * step
    x, y = np.meshgrid(-axis if flip else axis, axis)
    alpha, main, lines = (np.zeros(x.shape) for _ in range(3))
    fixed, normal = np.zeros((*x.shape, 3)), np.zeros((*x.shape, 3))
    thickness = max(0.55, size / 64)
    for part in FIGURE_PARTS[shape](pose) if shape in FIGURE_PARTS else PARTS[shape]():
        distance = part.field(x, y)
        cover = np.clip(0.5 - distance / step, 0, 1)
        facing = _surface(distance, step, part)
        if flip:
            facing[..., 0] *= -1
        lambert = np.clip(facing @ LIGHT, 0, 1)
        shade = part.gain * (0.64 + 0.52 * lambert - 0.05 * y)
        shine = cover * (0.55 * lambert**14 if part.bulge > 0.2 else 0) * (0.25 if part.rgb else 0.55)
        keep = 1 - cover
        alpha, main = alpha * keep + cover, main * keep
        fixed = fixed * keep[..., None] + shine[..., None]
        if part.rgb is None:
            main = main + cover * shade
        else:
            fixed = fixed + (cover * shade)[..., None] * part.rgb
        normal = normal * keep[..., None] + facing * cover[..., None]
        lines = np.maximum(lines * keep, np.clip(thickness + 0.5 - np.abs(distance + step) / step, 0, 1))
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    arrays = [np.ascontiguousarray(a[window], np.float32) for a in (alpha, main, fixed, normal, lines, x, y)]
    for array in arrays:
        array.setflags(write=False)
    return Sprite(*arrays)


#: The second colour of a pattern: white, unless that would not show.
_DARK = np.array([0.20, 0.20, 0.38], np.float32)
_PALE = np.array([0.97, 0.96, 0.93], np.float32)


def textured(sheet: Sprite, size: int, rgb: np.ndarray, texture: str) -> np.ndarray:
    """The object's own colour at every pixel: [3] if plain, else [h, w, 3]."""
    if texture == "plain":
        return rgb
    if texture == "wooden":
        grain = np.sin(26 * sheet.y + 3 * np.sin(2.2 * sheet.x + 1.3 * sheet.y) + 2 * np.sin(9 * sheet.y))
        return _mix(as_float((0.80, 0.58, 0.35)), as_float((0.57, 0.36, 0.19)), 0.5 + 0.5 * grain)
    sharp = size / 2
    if texture == "brick":
        row = np.floor(sheet.y / 0.34)
        u, v = sheet.x / 0.62 + 0.5 * (row % 2), sheet.y / 0.34
        gap = np.minimum(
            0.31 - np.abs(u - np.floor(u) - 0.5) * 0.62, 0.17 - np.abs(v - np.floor(v) - 0.5) * 0.34
        )
        return _mix(
            as_float((0.86, 0.80, 0.74)),
            as_float((0.70, 0.29, 0.20)),
            np.clip((gap - 0.03) * sharp + 0.5, 0, 1),
        )
    if texture == "striped":
        u = (sheet.x + sheet.y) / 0.62
        field = (np.abs(u - np.floor(u) - 0.5) - 0.25) * 0.44
    elif texture == "dotted":
        row = np.floor(sheet.y / 0.4)
        u, v = sheet.x / 0.48 + 0.5 * (row % 2), sheet.y / 0.4
        field = 0.125 - np.hypot((u - np.floor(u) - 0.5) * 0.48, (v - np.floor(v) - 0.5) * 0.4)
    elif texture == "checkered":
        field = np.sin(sheet.x * np.pi / 0.34) * np.sin(sheet.y * np.pi / 0.34) * 0.1
    elif texture == "zigzag":
        u = sheet.x / 0.5
        v = (sheet.y + 0.36 * np.abs(u - np.floor(u) - 0.5)) / 0.44
        field = (np.abs(v - np.floor(v) - 0.5) - 0.27) * 0.36
    else:
        raise ValueError(f"unknown texture {texture!r}")
    other = _DARK if float(rgb @ as_float((0.3, 0.59, 0.11))) > 0.72 else _PALE
    return _mix(rgb, other, np.clip(field * sharp + 0.5, 0, 1))


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return first + weight[..., None] * (second - first)
