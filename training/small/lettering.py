"""Words drawn over a picture in a font of 5 x 7 dots."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .scene import CANVAS, RGB, Text, as_float, frozen

_FONT = {  # 5 x 7 dots, a hexadecimal byte a column, lowest bit on top
    "a": "7e1111117e",
    "b": "7f49494936",
    "c": "3e41414122",
    "d": "7f4141221c",
    "e": "7f49494941",
    "f": "7f09090901",
    "g": "3e4149497a",
    "h": "7f0808087f",
    "i": "00417f4100",
    "j": "2040413f01",
    "k": "7f08142241",
    "l": "7f40404040",
    "m": "7f020c027f",
    "n": "7f0408107f",
    "o": "3e4141413e",
    "p": "7f09090906",
    "q": "3e4151215e",
    "r": "7f09192946",
    "s": "4649494931",
    "t": "01017f0101",
    "u": "3f4040403f",
    "v": "1f2040201f",
    "w": "3f4038403f",
    "x": "6314081463",
    "y": "0708700807",
    "z": "6151494543",
}


@lru_cache(maxsize=128)
def _word(word: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage [h, w] of the letters and of their outline, in capitals of the built-in font."""
    dots = np.zeros((9, 6 * len(word) + 1), np.float32)
    for k, letter in enumerate(word.lower()):
        columns = bytes.fromhex(_FONT[letter])
        dots[1:8, 6 * k + 1 : 6 * k + 6] = [[column >> row & 1 for column in columns] for row in range(7)]
    dot = 3 * size / CANVAS
    h, w = round(dots.shape[0] * dot), round(dots.shape[1] * dot)
    fine = np.kron(dots, np.ones((24, 24), np.float32))
    for axis in (0, 1):  # rounds the corners of the dots
        fine = np.asarray(sum(np.roll(fine, shift, axis) for shift in range(-6, 7)) / 13)
    fine = np.clip((fine - 0.5) * 6 + 0.5, 0, 1)
    rows = np.minimum(((np.arange(4 * h) + 0.5) * fine.shape[0] / (4 * h)).astype(int), fine.shape[0] - 1)
    columns = np.minimum(((np.arange(4 * w) + 0.5) * fine.shape[1] / (4 * w)).astype(int), fine.shape[1] - 1)
    letters = fine[np.ix_(rows, columns)].reshape(h, 4, w, 4).mean((1, 3))
    rim = max(1, round(size / CANVAS * 1.2))
    outline = np.maximum.reduce(
        [np.roll(letters, (dy, dx), (0, 1)) for dy in range(-rim, rim + 1) for dx in range(-rim, rim + 1)]
    )
    return frozen(letters[..., None]), frozen(outline[..., None])


def _text_window(text: Text, h: int, w: int, size: int) -> tuple[slice, slice]:
    top = round(5 * size / CANVAS) if text.place == "top" else size - h - round(5 * size / CANVAS)
    left = (size - w) // 2
    return np.s_[top : top + h, left : left + w]


def draw_text(canvas: np.ndarray, text: Text) -> None:
    """Writes the word into the picture, in place."""
    letters, outline = _word(text.word, canvas.shape[0])
    window = _text_window(text, letters.shape[0], letters.shape[1], canvas.shape[0])
    rgb = RGB[text.colour]
    rim = as_float((0.97, 0.97, 0.95) if float(rgb.mean()) < 0.45 else (0.13, 0.13, 0.18))
    part = canvas[window]
    part += outline * (rim - part)
    part += letters * (rgb - part)


def text_mask(text: Text, size: int = CANVAS) -> np.ndarray:
    """Where the word is drawn, float32 [size, size]."""
    mask = np.zeros((size, size), np.float32)
    _, outline = _word(text.word, size)
    mask[_text_window(text, outline.shape[0], outline.shape[1], size)] = outline[..., 0]
    return mask
