"""Draws a scene: backdrop, contact shadows, objects, weather, words, style.

Everything comes from the scene graph, so an unedited pixel is bit-for-bit equal in two renders. Backdrops,
weather and shadows are cached; only sprites are composed per call.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .backdrops import backdrop
from .lettering import draw_text
from .scene import CANVAS, RGB, Obj, Scene, frozen
from .shapes import sprite, textured
from .styles import stylise
from .weather import weather

#: Things stand on a lattice of this many design pixels, and their sizes are multiples of it. It is the patch
#: of the bundled editor's autoencoder: a shape then falls into patches in one way instead of 64, so
#: that fewer pictures should teach it to draw. At most 4 pixels are moved, which nobody sees.
LATTICE = 8


def _corner(obj: Obj, scale: float, height: int, width: int) -> tuple[int, int]:
    step = LATTICE * scale
    left, top = obj.x * scale - width / 2, obj.y * scale - height
    return round(step * round(top / step)), round(step * round(left / step))


def placed(obj: Obj, size: int):
    """The sprite, where it lies in the picture, and the same window within the sprite (or None)."""
    scale = size / CANVAS
    side = max(6, round(LATTICE * round(obj.size / LATTICE) * scale))
    sheet = sprite(obj.shape, side, obj.flip, obj.pose)
    h, w = sheet.alpha.shape
    top, left = _corner(obj, scale, h, w)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, size), min(top + h, size)
    if x0 >= x1 or y0 >= y1:
        return None
    return sheet, side, np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]


def in_order(scene: Scene) -> list[int]:
    """Farther things first."""
    return sorted(range(len(scene.objects)), key=lambda k: scene.objects[k].y)


@lru_cache(maxsize=512)
def _shadow_blob(width: int, side: int) -> np.ndarray:
    h, w = max(5, round(side * 0.26)) | 1, round(width * 1.24) | 1
    v, u = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    return frozen(np.clip(1.05 * (1 - (u * u + v * v)), 0, 1) ** 1.3)


def shadow(obj: Obj, size: int) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """The soft contact shadow 0..1 on the ground, and its window in the picture."""
    found = placed(obj, size) if obj.grounded else None
    if found is None:
        return None
    sheet, side, _, _ = found
    height, width = sheet.alpha.shape
    blob = _shadow_blob(width, side)
    h, w = blob.shape
    top, left = _corner(obj, size / CANVAS, height, width)
    left, top = round(left + (width - w) / 2 + 0.05 * side), round(top + height - 0.03 * side - h / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, size), min(top + h, size)
    if x0 >= x1 or y0 >= y1:
        return None
    return np.s_[y0:y1, x0:x1], blob[y0 - top : y1 - top, x0 - left : x1 - left]


def render(scene: Scene, size: int = CANVAS) -> np.ndarray:
    """The picture, float32 [size, size, 3] in 0..1."""
    canvas = backdrop(scene.background, scene.effect, scene.mirrored, size).rgb.copy()
    for obj in scene.objects:
        cast = shadow(obj, size)
        if cast is not None:
            canvas[cast[0]] *= 1 - 0.42 * cast[1][..., None]
    for k in in_order(scene):
        obj = scene.objects[k]
        found = placed(obj, size)
        if found is None:
            continue
        sheet, side, where, window = found
        colour = textured(sheet, side, RGB[obj.colour], obj.texture)
        paint = sheet.main[..., None] * colour + sheet.fixed
        canvas[where] = canvas[where] * (1 - sheet.alpha[window][..., None]) + paint[window]
    canvas *= np.float32(scene.light)
    if scene.effect:
        canvas = weather(canvas, scene.effect)
    if scene.text:
        draw_text(canvas, scene.text)
    np.clip(canvas, 0, 1, out=canvas)
    if scene.style:
        canvas = stylise(canvas, scene.style)
    return canvas
