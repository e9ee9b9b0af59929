"""Signed distance functions of plain forms, and the parts that shapes and figures are put together from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (x, y) -> signed distance, < 0 inside


def circle(cx: float, cy: float, r: float) -> Field:
    return lambda x, y: np.hypot(x - cx, y - cy) - r


def ellipse(cx: float, cy: float, a: float, b: float) -> Field:
    def field(x, y):
        u, v = (x - cx) / a, (y - cy) / b
        k = np.hypot(u, v)
        return k * (k - 1) / np.maximum(np.hypot(u / a, v / b), 1e-6)

    return field


def box(x0: float, y0: float, x1: float, y1: float, r: float = 0.03) -> Field:
    cx, cy, hw, hh = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2 - r, (y1 - y0) / 2 - r

    def field(x, y):
        u, v = np.abs(x - cx) - hw, np.abs(y - cy) - hh
        return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) - r

    return field


def stroke(ax: float, ay: float, bx: float, by: float, r: float) -> Field:
    dx, dy = bx - ax, by - ay

    def field(x, y):
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        return np.hypot(x - ax - t * dx, y - ay - t * dy) - r

    return field


def polygon(points, r: float = 0.0) -> Field:
    """Exact distance to a closed polygon, grown by `r` (which also rounds its corners)."""
    points = np.asarray(points, np.float64)

    def field(x, y):
        best = np.full(x.shape, np.inf)
        inside = np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
            dx, dy = bx - ax, by - ay
            t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
            best = np.minimum(best, (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2)
            if ay != by:
                inside ^= ((ay > y) != (by > y)) & (x < dx * (y - ay) / dy + ax)
        return np.where(inside, -1.0, 1.0) * np.sqrt(best) - r

    return field


def join(*fields: Field) -> Field:
    return lambda x, y: np.minimum.reduce([field(x, y) for field in fields])


def cut(field: Field, *holes: Field) -> Field:
    return lambda x, y: np.maximum.reduce([field(x, y), *(-hole(x, y) for hole in holes)])


def clip_to(field: Field, other: Field) -> Field:
    return lambda x, y: np.maximum(field(x, y), other(x, y))


@dataclass(frozen=True)
class Part:
    """A piece of a shape: of the object's own colour where `rgb` is None."""

    field: Field
    rgb: tuple[float, float, float] | None = None
    gain: float = 1.0
    bulge: float = 0.3  # how far from the edge the surface still curves; 0 is flat
    facing: tuple[float, float, float] = (0.0, 0.0, 1.0)  # normal of a flat part
