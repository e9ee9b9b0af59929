"""What is known exactly about a scene: masks, depth, normals, classes, lines."""

from __future__ import annotations

import colorsys

import numpy as np

from .backdrops import backdrop
from .figures import draw_skeleton, drawn_joints
from .render import in_order, placed, shadow
from .scene import CANVAS, FIGURES, SHAPES, Scene, as_float


def _visible(scene: Scene, size: int):
    """(index, sprite, window in the picture, window in the sprite, visible weight), nearest first."""
    free = np.ones((size, size), np.float32)
    for k in reversed(in_order(scene)):
        found = placed(scene.objects[k], size)
        if found is not None:
            sheet, _, where, window = found
            alpha = sheet.alpha[window]
            yield k, sheet, where, window, alpha * free[where]
            free[where] *= 1 - alpha


def masks(scene: Scene, size: int = CANVAS) -> np.ndarray:
    """The visible part of every object, float32 [n, size, size]; their sum is at most 1."""
    out = np.zeros((len(scene.objects), size, size), np.float32)
    for k, _, where, _, weight in _visible(scene, size):
        out[k][where] = weight
    return out


def footprint(scene: Scene, k: int, size: int = CANVAS) -> np.ndarray:
    """All pixels that object `k` changes: its visible part and its shadow, float32 [size, size]."""
    out = masks(scene, size)[k]
    cast = shadow(scene.objects[k], size)
    if cast is not None:
        out[cast[0]] = np.maximum(out[cast[0]], np.minimum(1, 2 * cast[1]))
    return out


def _over(base: np.ndarray, scene: Scene, size: int, value) -> np.ndarray:
    """Lays value(object, sprite, window) [h, w, 3] over a map wherever the objects are visible."""
    out, weights = base.copy(), masks(scene, size)
    out *= 1 - weights.sum(0)[..., None]
    for k, sheet, where, window, weight in _visible(scene, size):
        out[where] += weight[..., None] * value(scene.objects[k], sheet, window)
    return np.clip(out, 0, 1)


def _level(y: float) -> float:
    """How near the ground is at height y (0..1 of the picture): 1 is nearest."""
    return 0.15 + 0.80 * min(max((y - 0.5) / 0.5, 0.0), 1.0)


def depth(scene: Scene, size: int = CANVAS) -> np.ndarray:
    """Nearness: white is near, black far; float32 [size, size, 3]."""
    y = (np.arange(size, dtype=np.float32) + 0.5) / size
    plane = 0.15 + 0.80 * np.clip((y - 0.5) / 0.5, 0, 1)
    ground = backdrop(scene.background, "", scene.mirrored, size).ground
    base = np.repeat((ground * plane[:, None])[..., None], 3, 2)
    return _over(
        base,
        scene,
        size,
        lambda obj, sheet, window: (
            _level(obj.y / CANVAS if obj.grounded else 0.75) + 0.06 * (sheet.normal[window][..., 2:] - 0.5)
        ),
    )


def normals(scene: Scene, size: int = CANVAS) -> np.ndarray:
    """Surface directions as colours (right, up, towards the viewer) mapped to 0..1."""
    ground = backdrop(scene.background, "", scene.mirrored, size).ground[..., None]
    base = ground * as_float((0.5, 0.93, 0.75)) + (1 - ground) * as_float((0.5, 0.5, 1.0))
    return _over(
        base,
        scene,
        size,
        lambda obj, sheet, window: 0.5 + 0.5 * sheet.normal[window] * as_float((1, -1, 1)),
    )


#: The flat colour of every class in a segmentation map.
CLASS_COLOURS: dict[str, tuple[float, float, float]] = {
    "background": (0.20, 0.25, 0.40),
    "ground": (0.45, 0.45, 0.45),
    **{shape: colorsys.hsv_to_rgb(k / len(SHAPES), (1.0, 0.6)[k % 2], 1.0) for k, shape in enumerate(SHAPES)},
}


def segmentation(scene: Scene, size: int = CANVAS) -> np.ndarray:
    """A flat colour for every kind of thing, float32 [size, size, 3]."""
    ground = backdrop(scene.background, "", scene.mirrored, size).ground[..., None]
    base = ground * as_float(CLASS_COLOURS["ground"]) + (1 - ground) * as_float(CLASS_COLOURS["background"])
    return _over(base, scene, size, lambda obj, sheet, window: as_float(CLASS_COLOURS[obj.shape]))


def sketch(scene: Scene, size: int = CANVAS) -> np.ndarray:
    """Black outlines on white, float32 [size, size, 3]."""
    base = np.repeat(1 - 0.75 * backdrop(scene.background, "", scene.mirrored, size).lines[..., None], 3, 2)
    return _over(base, scene, size, lambda obj, sheet, window: 1 - 0.95 * sheet.lines[window][..., None])


def pose(scene: Scene, size: int = CANVAS) -> np.ndarray:
    """The skeletons of the figures on black, farther ones first, float32 [size, size, 3]."""
    out = np.zeros((size, size, 3), np.float32)
    for k in in_order(scene):
        obj = scene.objects[k]
        found = placed(obj, size) if obj.shape in FIGURES else None
        if found is not None:
            sheet, side, where, window = found
            corner = [where[1].start - window[1].start, where[0].start - window[0].start]
            draw_skeleton(out, drawn_joints(sheet, obj.pose) + as_float(corner), side)
    return out
