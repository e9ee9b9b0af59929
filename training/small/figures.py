"""Figures with joints: a robot and a doll in several poses, and the drawing of their skeleton.

A figure lives in the box of `shapes`: x to the right, y down, both in -1..1. Its limbs are coloured as
OpenPose draws them (Cao et al. 1812.08008, figure 1), with the figure's right limb on the viewer's left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .fields import Field, Part, box, circle, ellipse, join, polygon, stroke
from .scene import as_float, frozen

NECK, HEAD, HIP = (0.0, -0.40), (0.0, -0.70), (0.0, 0.22)
_ARM, _LEG = (0.34, 0.32), (0.37, 0.36)

#: pose -> degrees outward from straight down: (upper, lower) of right arm, left arm, right leg, left leg.
_ANGLES: dict[str, tuple[tuple[float, float], ...]] = {
    "standing": ((22, 12), (22, 12), (6, 3), (6, 3)),
    "waving": ((115, 165), (22, 12), (8, 4), (8, 4)),
    "cheering": ((135, 158), (135, 158), (14, 8), (14, 8)),
    "stretching": ((88, 88), (88, 88), (28, 22), (28, 22)),
    "walking": ((40, 72), (38, 4), (32, 14), (20, 48)),
    "jumping": ((72, 118), (72, 118), (58, -22), (58, -22)),
    "pointing": ((90, 90), (42, -62), (8, 4), (16, 8)),
}

#: Joints: 0 neck, then shoulder, elbow, hand and hip, knee, foot of each side, then the head.
LIMBS: tuple[tuple[int, int, tuple[int, int, int]], ...] = (
    (0, 1, (255, 0, 0)),
    (0, 4, (255, 85, 0)),
    (1, 2, (255, 170, 0)),
    (2, 3, (255, 255, 0)),
    (4, 5, (170, 255, 0)),
    (5, 6, (85, 255, 0)),
    (0, 7, (0, 255, 0)),
    (7, 8, (0, 255, 85)),
    (8, 9, (0, 255, 170)),
    (0, 10, (0, 255, 255)),
    (10, 11, (0, 170, 255)),
    (11, 12, (0, 85, 255)),
    (0, 13, (0, 0, 255)),
)


@lru_cache(maxsize=16)
def joints(pose: str) -> np.ndarray:
    """Where the joints are in the box, float32 [14, 2] of (x, y), unflipped."""
    points = [NECK]
    for chain, (lengths, (x, y)) in enumerate(
        ((_ARM, (-0.25, -0.34)), (_ARM, (0.25, -0.34)), (_LEG, (-0.16, 0.26)), (_LEG, (0.16, 0.26)))
    ):
        side = -1 if chain % 2 == 0 else 1
        points.append((x, y))
        for length, degrees in zip(lengths, _ANGLES[pose][chain], strict=True):
            x += side * length * np.sin(np.deg2rad(degrees))
            y += length * np.cos(np.deg2rad(degrees))
            points.append((x, y))
    return frozen(np.array([*points, HEAD]))


def _limb(at: np.ndarray, a: int, b: int, radius: float) -> Field:
    return stroke(at[a, 0], at[a, 1], at[b, 0], at[b, 1], radius)


def _limbs(pose: str, radius: float, rgb, gain: float = 1.0) -> list[Part]:
    """Arms and legs of a figure, each of two strokes."""
    at = joints(pose)
    chains = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))
    return [
        Part(join(_limb(at, a, b, radius), _limb(at, b, c, radius)), rgb, gain, bulge=radius)
        for a, b, c in chains
    ]


def _robot(pose: str) -> list[Part]:
    metal, dark, lit = (0.62, 0.66, 0.72), (0.15, 0.17, 0.22), (0.55, 0.95, 0.98)
    at = joints(pose)
    return [
        *_limbs(pose, 0.085, metal),
        *(Part(circle(at[k, 0], at[k, 1], 0.125), gain=0.9, bulge=0.1) for k in (3, 6, 9, 12)),
        Part(stroke(0, -0.85, 0, -0.98, 0.03), metal, bulge=0),
        Part(circle(0, -0.97, 0.06), bulge=0.05),
        Part(box(-0.31, -0.42, 0.31, 0.34, 0.06), bulge=0.16),
        Part(box(-0.27, -0.88, 0.27, -0.45, 0.06), bulge=0.12),
        Part(box(-0.21, -0.78, 0.21, -0.57, 0.04), dark, bulge=0),
        Part(circle(-0.09, -0.675, 0.05), lit, bulge=0),
        Part(circle(0.09, -0.675, 0.05), lit, bulge=0),
    ]


def _doll(pose: str) -> list[Part]:
    skin, hair, dark = (0.97, 0.80, 0.66), (0.42, 0.25, 0.13), (0.2, 0.13, 0.1)
    return [
        *_limbs(pose, 0.085, skin),
        Part(circle(0, -0.72, 0.30), hair, bulge=0.2),
        Part(polygon([(-0.22, -0.36), (0.22, -0.36), (0.46, 0.42), (-0.46, 0.42)], 0.05), bulge=0.25),
        Part(ellipse(0, -0.66, 0.235, 0.24), skin, bulge=0.15),
        Part(circle(-0.09, -0.66, 0.035), dark, bulge=0),
        Part(circle(0.09, -0.66, 0.035), dark, bulge=0),
        Part(stroke(-0.06, -0.53, 0.06, -0.53, 0.02), (0.82, 0.25, 0.25), bulge=0),
    ]


FIGURE_PARTS: dict[str, Callable[[str], list[Part]]] = {"robot": _robot, "doll": _doll}


def drawn_joints(sheet, pose: str) -> np.ndarray:
    """The joints in pixels of a sprite (`shapes.Sprite`), float32 [14, 2] of (column, row).

    Right and left change places in a mirrored sprite: a figure seen from the front is mirrored, not turned.
    """
    points = joints(pose)
    step = float(sheet.x[0, 1] - sheet.x[0, 0])
    out = np.stack(
        [(points[:, 0] - sheet.x[0, 0]) / step, (points[:, 1] - sheet.y[0, 0]) / abs(step)], axis=1
    )
    return out[[0, 4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9, 13]] if step < 0 else out


def draw_skeleton(canvas: np.ndarray, points: np.ndarray, side: int) -> None:
    """Draws the limbs between `points` [14, 2] into a float picture [H, W, 3], in place.

    `side` is the figure's box in pixels: the drawing scales with it.
    """
    size = canvas.shape[0]
    radius = max(1.0, 0.045 * side)
    for first, second, rgb in LIMBS:
        (ax, ay), (bx, by) = points[first], points[second]
        x0, x1 = (int(np.clip(v, 0, size)) for v in (min(ax, bx) - radius - 1, max(ax, bx) + radius + 2))
        y0, y1 = (int(np.clip(v, 0, size)) for v in (min(ay, by) - radius - 1, max(ay, by) + radius + 2))
        if x0 >= x1 or y0 >= y1:
            continue
        y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / max(float(dx * dx + dy * dy), 1e-6), 0, 1)
        cover = np.clip(radius + 0.5 - np.hypot(x - ax - t * dx, y - ay - t * dy), 0, 1)[..., None]
        window = canvas[y0:y1, x0:x1]
        window += cover * (as_float(rgb) / 255 - window)
    ax, ay = points[-1]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    dot = np.clip(1.9 * radius + 0.5 - np.hypot(x - ax, y - ay), 0, 1)[..., None]
    canvas += dot * (as_float((1, 1, 1)) - canvas)
