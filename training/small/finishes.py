"""What is done to a drawn picture: photometric changes of fixed strength, a box, bytes."""

from __future__ import annotations

import numpy as np

from .scene import CANVAS, as_float
from .styles import blur

BOX_COLOUR = (255, 0, 255)  # the rectangle that "detect" draws
MASK_COLOUR = (0, 255, 64)  # the paint that "segment" lays over an object


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """float 0..1 to uint8."""
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def adjust(picture: np.ndarray, look: str) -> np.ndarray:
    """A photometric change of fixed strength, float32 [H, W, 3] in 0..1."""
    grey = picture @ as_float((0.299, 0.587, 0.114))
    grey = grey[..., None]
    if look == "brighter":
        out = 1 - (1 - picture) ** 1.6
    elif look == "darker":
        out = picture * 0.55
    elif look == "black and white":
        out = np.repeat(grey, 3, 2)
    elif look == "colorful":
        out = grey + 1.8 * (picture - grey)
    elif look == "muted":
        out = grey + 0.4 * (picture - grey)
    elif look == "sepia":
        out = grey * as_float((1.02, 0.82, 0.58)) + as_float((0.06, 0.04, 0.02))
    elif look == "blurry":
        out = blur(picture, max(1, round(2 * picture.shape[0] / CANVAS)))
    elif look == "inverted":
        out = 1 - picture
    elif look == "warmer":
        out = picture * as_float((1.10, 0.98, 0.72)) + as_float((0.05, 0.02, 0.0))
    elif look == "colder":
        out = picture * as_float((0.74, 0.96, 1.08)) + as_float((0.0, 0.02, 0.06))
    elif look == "high contrast":
        out = 0.5 + 1.7 * (picture - 0.5)
    elif look == "low contrast":
        out = 0.55 + 0.45 * (picture - 0.5)
    else:
        raise ValueError(f"unknown look {look!r}")
    return np.clip(out, 0, 1).astype(np.float32)


def draw_box(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of the uint8 picture with a 3 px rectangle just around the mask."""
    size = picture.shape[0]
    width = max(1, round(3 * size / CANVAS))
    rows, columns = np.flatnonzero((mask > 0.5).any(1)), np.flatnonzero((mask > 0.5).any(0))
    out = picture.copy()
    y0, y1 = max(rows[0] - width - 1, 0), min(rows[-1] + width + 2, size)
    x0, x1 = max(columns[0] - width - 1, 0), min(columns[-1] + width + 2, size)
    inside = out[y0 + width : y1 - width, x0 + width : x1 - width].copy()
    out[y0:y1, x0:x1] = BOX_COLOUR
    out[y0 + width : y1 - width, x0 + width : x1 - width] = inside
    return out
