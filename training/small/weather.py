"""What weather, season and hour do to a drawn picture: a tint over all of it, and what falls in front."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .backdrops import Painter
from .fields import circle, ellipse, polygon
from .scene import as_float, frozen


@lru_cache(maxsize=64)
def _flakes(effect: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What falls in front of everything: opacity [H, W, 1] and colour [H, W, 3]."""
    p = Painter(size)
    opacity = np.zeros((size, size))
    rng = np.random.default_rng(77)
    colour: tuple[float, float, float]
    for k in range({"winter": 70, "rain": 60, "autumn": 26}[effect]):
        x, y = (0.5 + 0.7549 * k) % 1, (0.5 + 0.5698 * k) % 1  # evenly spread, without rows
        if effect == "winter":
            field, colour, strong = circle(x, y, rng.uniform(0.005, 0.011)), (1, 1, 1), 0.95
        elif effect == "rain":
            field, colour, strong = (
                polygon([(x, y), (x - 0.018, y + 0.065)], 0.0028),
                (0.86, 0.92, 0.98),
                0.75,
            )
        else:
            colour = ((0.90, 0.45, 0.10), (0.80, 0.26, 0.12), (0.95, 0.70, 0.18))[k % 3]
            field, strong = ellipse(x, y, *((0.018, 0.010) if k % 2 else (0.010, 0.017))), 0.95
        cover = p.fill(field, colour, strong, line=False)
        p.rgb[cover > 0] = colour
        opacity = np.maximum(opacity, cover)
    return frozen(opacity[..., None]), frozen(p.rgb)


_TINTS = {  # a 3 x 3 colour matrix and an offset over the whole picture
    "night": (
        as_float([[0.36, 0.06, 0.04], [0.05, 0.38, 0.06], [0.08, 0.14, 0.50]]),
        as_float((0.0, 0.01, 0.06)),
    ),
    "winter": (
        as_float([[0.86, 0.03, 0.03], [0.03, 0.87, 0.03], [0.03, 0.05, 0.88]]),
        as_float((0.04, 0.06, 0.08)),
    ),
    "rain": (
        as_float([[0.58, 0.08, 0.04], [0.04, 0.62, 0.06], [0.04, 0.10, 0.64]]),
        as_float((0.02, 0.03, 0.05)),
    ),
    "fog": (
        as_float([[0.54, 0.04, 0.02], [0.02, 0.56, 0.02], [0.02, 0.04, 0.54]]),
        as_float((0.34, 0.35, 0.36)),
    ),
    "sunset": (
        as_float([[0.94, 0.10, 0.02], [0.06, 0.70, 0.02], [0.06, 0.06, 0.58]]),
        as_float((0.05, 0.0, 0.02)),
    ),
    "autumn": (
        as_float([[0.98, 0.04, 0.0], [0.04, 0.90, 0.0], [0.02, 0.04, 0.80]]),
        as_float((0.03, 0.01, 0.0)),
    ),
}


def weather(canvas: np.ndarray, effect: str) -> np.ndarray:
    matrix, offset = _TINTS[effect]
    canvas = (canvas.reshape(-1, 3) @ matrix.T + offset).reshape(canvas.shape)
    if effect in ("winter", "rain", "autumn"):
        opacity, colour = _flakes(effect, canvas.shape[0])
        canvas += opacity * (colour - canvas)
    return canvas
