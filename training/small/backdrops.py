"""The scenery behind the objects: eight named places, each under any weather, drawn once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .fields import Field, box, circle, ellipse, polygon
from .scene import CANVAS, frozen


class Painter:
    """Paints a backdrop in coordinates 0..1; keeps its outlines and where the ground is."""

    def __init__(self, size: int):
        self.size = size
        axis = (np.arange(size) + 0.5) / size
        self.x, self.y = np.meshgrid(axis, axis)
        self.rgb = np.zeros((size, size, 3))
        self.lines = np.zeros((size, size))
        self.ground = np.zeros((size, size))
        self.sun: Field = circle(0.86, 0.12, 0.065)  # where the moon goes if no sun was painted

    def gradient(self, top, bottom, y0: float, y1: float) -> np.ndarray:
        t = np.clip((self.y - y0) / (y1 - y0), 0, 1)[..., None]
        return np.asarray(top) + t * (np.asarray(bottom) - top)

    def fill(
        self, field: Field, colour, opacity: float = 1.0, line: bool = True, soft: float = 1.0
    ) -> np.ndarray:
        """Paints where the field is negative; returns the coverage."""
        distance = field(self.x, self.y) * self.size
        cover = opacity * np.clip(0.5 - distance / (soft * self.size / CANVAS), 0, 1)
        self.rgb += cover[..., None] * (np.asarray(colour) - self.rgb)
        if line:
            stroke = np.clip(0.5 + 0.5 * self.size / CANVAS - np.abs(distance), 0, 1)
            self.lines = np.maximum(self.lines * (1 - np.clip(0.5 - distance, 0, 1)), stroke)
        return cover

    def sky(self, top, bottom, horizon: float) -> None:
        self.rgb[:] = self.gradient(top, bottom, 0, horizon)

    def land(self, edge, top, bottom, y0: float, floor: bool = False) -> None:
        """Everything below the curve y = edge(x); `floor` marks it as what things stand on."""
        cover = self.fill(lambda x, y: edge(x) - y, self.gradient(top, bottom, y0, 1))
        if floor:
            self.ground = np.maximum(self.ground, cover)

    def sunny(self, cx: float, cy: float, r: float, colour) -> None:
        self.sun = circle(cx, cy, r)
        self.fill(self.sun, colour)

    def cloud(self, cx: float, cy: float, s: float, opacity: float = 0.9) -> None:
        puffs = [
            ellipse(cx + dx * s, cy + dy * s, a * s, b * s)
            for dx, dy, a, b in ((-0.55, 0.1, 0.5, 0.28), (0, -0.1, 0.5, 0.42), (0.55, 0.1, 0.55, 0.28))
        ]
        self.fill(lambda x, y: np.minimum.reduce([p(x, y) for p in puffs]), (1, 1, 1), opacity)

    def pine(self, cx: float, foot: float, height: float, colour) -> None:
        for k in range(3):
            top, low, w = (
                foot - height * (1 - 0.24 * k),
                foot - height * (0.52 - 0.22 * k),
                height * (0.16 + 0.05 * k),
            )
            self.fill(polygon([(cx, top), (cx + w, low), (cx - w, low)]), colour, line=k == 2)

    def specks(self, count: int, seed: int, area, radius: float, colours, squash: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        for k in range(count):
            x, y = rng.uniform(area[0], area[2]), rng.uniform(area[1], area[3])
            r = radius * rng.uniform(0.6, 1.3)
            self.fill(ellipse(x, y, r, r * squash), colours[k % len(colours)], line=False)


def _meadow(p: Painter) -> None:
    p.sky((0.47, 0.74, 0.95), (0.88, 0.96, 0.99), 0.55)
    p.sunny(0.82, 0.16, 0.075, (1.0, 0.93, 0.62))
    p.cloud(0.24, 0.17, 0.13)
    p.cloud(0.60, 0.27, 0.08, 0.75)
    p.land(lambda x: 0.50 - 0.06 * np.sin(5 * x + 0.6), (0.62, 0.80, 0.56), (0.56, 0.76, 0.50), 0.4)
    p.land(
        lambda x: 0.54 + 0.04 * np.sin(4 * x + 2.6), (0.53, 0.78, 0.42), (0.36, 0.63, 0.30), 0.5, floor=True
    )
    p.specks(26, 1, (0, 0.63, 1, 0.99), 0.008, ((1, 1, 1), (1, 0.9, 0.5), (0.98, 0.75, 0.82)), 0.8)
    p.specks(24, 2, (0, 0.6, 1, 1), 0.016, ((0.30, 0.56, 0.26),), 0.35)


def _desert(p: Painter) -> None:
    p.sky((0.45, 0.73, 0.84), (0.99, 0.91, 0.74), 0.55)
    p.sunny(0.24, 0.17, 0.08, (1.0, 0.97, 0.85))
    p.fill(polygon([(0.60, 0.55), (0.76, 0.32), (0.92, 0.55)]), (0.84, 0.63, 0.40))
    p.fill(polygon([(0.76, 0.32), (0.92, 0.55), (0.80, 0.55)]), (0.70, 0.50, 0.31))
    p.land(
        lambda x: 0.53 - 0.05 * np.sin(4.4 * x + 0.2),
        (0.94, 0.76, 0.48),
        (0.90, 0.66, 0.38),
        0.45,
        floor=True,
    )
    p.land(
        lambda x: 0.64 + 0.06 * np.sin(3.6 * x + 2.2),
        (0.96, 0.80, 0.52),
        (0.87, 0.62, 0.35),
        0.58,
        floor=True,
    )
    for y in (0.76, 0.86, 0.95):
        p.fill(
            _ripple(y),
            (0.80, 0.56, 0.32),
            0.5,
            line=False,
        )
    green = (0.36, 0.55, 0.33)
    for x0, y0, x1, y1 in (
        (0.10, 0.40, 0.14, 0.62),
        (0.05, 0.46, 0.075, 0.53),
        (0.165, 0.44, 0.19, 0.51),
        (0.05, 0.51, 0.12, 0.535),
        (0.12, 0.49, 0.19, 0.515),
    ):
        p.fill(box(x0, y0, x1, y1, 0.012), green)


def _beach(p: Painter) -> None:
    p.sky((0.40, 0.72, 0.95), (0.87, 0.96, 0.98), 0.45)
    p.sunny(0.20, 0.15, 0.07, (1.0, 0.95, 0.66))
    p.cloud(0.70, 0.18, 0.12)
    p.land(lambda x: 0.44 + 0 * x, (0.14, 0.52, 0.74), (0.36, 0.80, 0.82), 0.44)
    for y, x0, x1 in ((0.48, 0.1, 0.4), (0.50, 0.6, 0.85), (0.54, 0.3, 0.62)):
        p.fill(box(x0, y, x1, y + 0.007, 0.003), (0.75, 0.93, 0.95), 0.8, line=False)
    p.land(lambda x: 0.595 + 0.018 * np.sin(8 * x + 1), (0.97, 0.99, 0.98), (0.97, 0.99, 0.98), 0.5)
    p.land(
        lambda x: 0.620 + 0.018 * np.sin(8 * x + 1), (0.97, 0.88, 0.68), (0.91, 0.77, 0.53), 0.6, floor=True
    )
    p.specks(30, 3, (0, 0.68, 1, 1), 0.007, ((0.82, 0.67, 0.45), (1, 0.95, 0.85)), 0.7)


def _mountains(p: Painter) -> None:
    p.sky((0.50, 0.70, 0.92), (0.90, 0.95, 0.99), 0.6)
    for cx, top, w in ((0.18, 0.20, 0.34), (0.80, 0.14, 0.38), (0.50, 0.28, 0.34)):
        p.fill(polygon([(cx, top), (cx + w, 0.62), (cx - w, 0.62)]), (0.50, 0.58, 0.70))
        p.fill(polygon([(cx, top), (cx + w, 0.62), (cx + 0.06, 0.62)]), (0.42, 0.49, 0.62), line=False)
        h = 0.36 * (0.62 - top)
        s = w * 0.36
        p.fill(
            polygon(
                [
                    (cx, top),
                    (cx + s, top + h),
                    (cx + 0.4 * s, top + 0.75 * h),
                    (cx, top + h),
                    (cx - 0.5 * s, top + 0.78 * h),
                    (cx - s, top + h),
                ]
            ),
            (0.98, 0.99, 1.0),
        )
    p.land(lambda x: 0.58 + 0.02 * np.sin(6 * x), (0.94, 0.97, 1.0), (0.80, 0.87, 0.95), 0.56, floor=True)
    p.specks(14, 4, (0, 0.66, 1, 0.98), 0.05, ((0.88, 0.93, 0.98),), 0.14)


def _forest(p: Painter) -> None:
    p.sky((0.66, 0.83, 0.78), (0.90, 0.95, 0.84), 0.5)
    for k in range(9):
        p.pine(0.02 + k * 0.12, 0.55, 0.34 + 0.06 * (k % 3), (0.52, 0.70, 0.60))
    for k in range(7):
        p.pine(-0.02 + k * 0.17, 0.60, 0.44 + 0.08 * ((k * 2) % 3), (0.24, 0.46, 0.36))
    p.land(
        lambda x: 0.575 + 0.015 * np.sin(7 * x + 1), (0.47, 0.60, 0.34), (0.36, 0.47, 0.26), 0.56, floor=True
    )
    p.fill(polygon([(0.47, 0.585), (0.53, 0.585), (0.74, 1.02), (0.30, 1.02)]), (0.70, 0.58, 0.40))
    p.specks(24, 5, (0, 0.64, 1, 1), 0.014, ((0.30, 0.42, 0.22), (0.55, 0.66, 0.38)), 0.4)


def _city(p: Painter) -> None:
    p.sky((0.60, 0.74, 0.92), (0.97, 0.93, 0.90), 0.6)
    for k, (w, top) in enumerate(
        ((0.14, 0.34), (0.16, 0.24), (0.12, 0.40), (0.17, 0.30), (0.13, 0.20), (0.15, 0.36), (0.2, 0.28))
    ):
        x0 = (0, 0.13, 0.28, 0.40, 0.56, 0.68, 0.82)[k]
        colour = ((0.56, 0.60, 0.72), (0.66, 0.68, 0.78), (0.50, 0.55, 0.68))[k % 3]
        p.fill(box(x0, top, x0 + w, 0.7, 0.004), colour)
        for row in np.arange(top + 0.04, 0.58, 0.06):
            for column in np.arange(x0 + 0.025, x0 + w - 0.03, 0.04):
                lit = (0.99, 0.90, 0.62) if int(97 * row + 31 * column + k) % 3 else (0.78, 0.86, 0.94)
                p.fill(box(column, row, column + 0.02, row + 0.03, 0.002), lit, line=False)
    p.land(lambda x: 0.60 + 0 * x, (0.80, 0.79, 0.77), (0.74, 0.73, 0.72), 0.6, floor=True)
    p.land(lambda x: 0.66 + 0 * x, (0.50, 0.51, 0.55), (0.42, 0.43, 0.48), 0.66, floor=True)
    for x in (0.02, 0.28, 0.54, 0.80):
        p.fill(
            polygon([(x, 0.81), (x + 0.14, 0.81), (x + 0.135, 0.83), (x - 0.005, 0.83)]), (0.93, 0.91, 0.84)
        )


def _room(p: Painter) -> None:
    p.rgb[:] = p.gradient((0.93, 0.84, 0.74), (0.89, 0.78, 0.67), 0, 0.6)
    for x in np.arange(0.03, 1, 0.12):
        p.fill(box(x, -0.1, x + 0.05, 0.7, 0), (0.95, 0.88, 0.79), 0.7, line=False)
    p.fill(box(0.10, 0.10, 0.40, 0.42, 0.01), (0.98, 0.97, 0.94))
    p.fill(
        box(0.125, 0.125, 0.375, 0.395, 0.004), p.gradient((0.55, 0.79, 0.95), (0.86, 0.95, 0.98), 0.1, 0.4)
    )
    p.fill(box(0.243, 0.12, 0.257, 0.40, 0), (0.98, 0.97, 0.94))
    p.fill(box(0.12, 0.253, 0.38, 0.267, 0), (0.98, 0.97, 0.94))
    p.fill(box(0.66, 0.14, 0.88, 0.34, 0.006), (0.50, 0.34, 0.24))
    p.fill(box(0.685, 0.165, 0.855, 0.315, 0.002), (0.62, 0.74, 0.70))
    p.fill(circle(0.77, 0.25, 0.045), (0.95, 0.80, 0.52))
    p.land(lambda x: 0.57 + 0 * x, (0.97, 0.95, 0.91), (0.97, 0.95, 0.91), 0.5)
    p.land(lambda x: 0.60 + 0 * x, (0.71, 0.50, 0.34), (0.79, 0.57, 0.39), 0.6, floor=True)
    for y in (0.66, 0.74, 0.84, 0.95):
        p.fill(box(-0.1, y, 1.1, y + 0.006, 0), (0.58, 0.39, 0.26), 0.7)


def _moon(p: Painter) -> None:
    p.sky((0.05, 0.06, 0.14), (0.14, 0.13, 0.28), 0.6)
    p.specks(60, 6, (0, 0, 1, 0.56), 0.005, ((1, 1, 1), (0.8, 0.86, 1), (1, 0.93, 0.8)))
    p.fill(circle(0.76, 0.20, 0.11), (0.25, 0.52, 0.86))
    globe = circle(0.76, 0.20, 0.105)
    for cx, cy, a, b in ((0.72, 0.16, 0.05, 0.035), (0.80, 0.23, 0.04, 0.05), (0.71, 0.26, 0.03, 0.02)):
        p.fill(_within(globe, ellipse(cx, cy, a, b)), (0.42, 0.72, 0.46), line=False)
    p.land(
        lambda x: 0.57 + 0.025 * np.sin(6 * x + 1.2), (0.68, 0.68, 0.72), (0.48, 0.48, 0.54), 0.56, floor=True
    )
    for cx, cy, a in (
        (0.18, 0.67, 0.09),
        (0.62, 0.66, 0.06),
        (0.86, 0.76, 0.10),
        (0.36, 0.84, 0.13),
        (0.74, 0.94, 0.10),
    ):
        p.fill(ellipse(cx, cy, a, a * 0.34), (0.42, 0.42, 0.48))
        p.fill(ellipse(cx + 0.006, cy + 0.012, a * 0.9, a * 0.26), (0.58, 0.58, 0.63), line=False)


def _ripple(level: float) -> Field:
    return lambda x, y: np.abs(y - level - 0.012 * np.sin(9 * x + 40 * level)) - 0.003


def _within(whole: Field, part: Field) -> Field:
    return lambda x, y: np.maximum(part(x, y), whole(x, y))


_PAINTERS = {
    "meadow": _meadow,
    "desert": _desert,
    "beach": _beach,
    "mountains": _mountains,
    "forest": _forest,
    "city": _city,
    "room": _room,
    "moon": _moon,
}


@dataclass(frozen=True)
class Backdrop:
    rgb: np.ndarray  # [H, W, 3]
    lines: np.ndarray  # [H, W]
    ground: np.ndarray  # [H, W] what things stand on


@lru_cache(maxsize=256)
def backdrop(name: str, effect: str, mirrored: bool, size: int) -> Backdrop:
    """The scenery alone, with what the weather or season does to it."""
    if mirrored:
        plain = backdrop(name, effect, False, size)
        return Backdrop(*(frozen(a[:, ::-1]) for a in (plain.rgb, plain.lines, plain.ground)))
    p = Painter(size)
    _PAINTERS[name](p)
    p.rgb = np.clip(p.rgb, 0, 1)
    ground, sky = p.ground[..., None], 1 - p.ground[..., None]
    grey = p.rgb.mean(-1, keepdims=True)
    top = 1.0
    if effect == "night":
        top = 2.6  # lamps: what shines stays bright under the dark tint
        p.rgb *= 1 - 0.45 * sky * np.clip(1.4 - 2 * p.y, 0, 1)[..., None]
        for k in range(26):
            p.fill(
                circle((0.5 + 0.7549 * k) % 1, 0.30 * ((0.5 + 0.5698 * k) % 1), 0.004 + 0.003 * (k % 3 == 0)),
                (2.3, 2.3, 1.8),
                line=False,
            )
        p.fill(p.sun, (2.6, 2.5, 1.7), line=False)
    elif effect == "winter":
        p.rgb = ground * (
            0.80 + 0.20 * p.gradient((0.93, 0.96, 1.0), (0.86, 0.91, 0.98), 0.5, 1) * (0.7 + 0.4 * grey)
        ) + sky * (0.45 * p.rgb + 0.40 * grey + np.array((0.13, 0.15, 0.18)))
    elif effect == "autumn":
        green = np.clip(3.5 * (p.rgb[..., 1:2] - np.maximum(p.rgb[..., :1], p.rgb[..., 2:])), 0, 1)
        p.rgb = p.rgb + green * (grey * np.array((1.55, 0.92, 0.34)) - p.rgb)
        p.rgb = p.rgb * (1 - 0.35 * ground * (1 - green)) + 0.35 * ground * (1 - green) * grey * np.array(
            (1.3, 0.86, 0.48)
        )
    elif effect == "sunset":
        glow = p.gradient((0.42, 0.26, 0.52), (1.0, 0.62, 0.30), 0, 0.55)
        p.rgb = p.rgb + 0.78 * sky * (glow * (0.45 + 0.65 * grey) - p.rgb)
        p.fill(p.sun, (1.0, 0.93, 0.62), line=False)
    elif effect == "rain":
        p.rgb = p.rgb + sky * 0.7 * (grey * np.array((0.62, 0.68, 0.76)) - p.rgb)
    elif effect == "fog":
        haze = np.clip(1.25 - 1.1 * np.abs(p.y - 0.5) / 0.5, 0, 0.85)[..., None]
        p.rgb = p.rgb + haze * (np.array((0.87, 0.89, 0.91)) - p.rgb)
    return Backdrop(frozen(np.clip(p.rgb, 0, top)), frozen(p.lines), frozen(p.ground))
