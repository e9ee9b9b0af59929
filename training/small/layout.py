"""What stands where in a scene, cell by cell: what the U-Net's inner features are taught to tell.

Pixels alone teach slowly that one smudge is a car and another a star, and an editor that cannot see the red
car cannot find it either. The world that drew the picture knows.
This is REPA (Yu et al. 2410.06940), which lets inner features agree with a trained encoder's, with the truth
in the encoder's place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import maps
from .backdrops import backdrop
from .lettering import text_mask
from .scene import BACKGROUNDS, COLOURS, GLOBALS, MATERIALS, PATTERNS, SHAPES, STYLES, WORDS, Scene

CELL = 8  # pixels: finer than the smallest thing
NOTHING = ""
#: What is asked of every cell, and the answers to it.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "shape": (NOTHING, *SHAPES),
    "look": (NOTHING, *COLOURS, *MATERIALS),
    "pattern": (NOTHING, "plain", *PATTERNS),
    "word": (NOTHING, *WORDS),
    "word's colour": (NOTHING, *COLOURS),
    "ground": (NOTHING, "ground"),
    "backdrop": tuple(BACKGROUNDS),
    "weather": (NOTHING, *GLOBALS),
    "style": (NOTHING, *STYLES),
}
#: Questions whose answer differs from place to place; that of the others is the whole picture's.
LOCAL = ("shape", "look", "pattern", "word", "word's colour", "ground")
#: Questions that no map of the scene answers. (A skeleton tells even less, but for its figure's pose.)
UNMAPPED = ("look", "pattern", "word", "word's colour", "weather", "style")
PARTS = [len(answers) for answers in QUESTIONS.values()]
ANSWERS = sum(PARTS)
_FIRST = dict(zip(QUESTIONS, np.cumsum([0, *PARTS[:-1]]).tolist(), strict=True))


def layout(scene: Scene, size: int, bare: bool = False) -> np.ndarray:
    """uint8 [ANSWERS, size/CELL, size/CELL]: of every question, 255 shared out by the area an answer has.

    `size`: a multiple of CELL. `bare`: of a map of the scene (depth, lines, ...), which shows no colours, no
    weather and no words: those questions are left out, all their shares 0.
    """
    out = np.zeros((ANSWERS, size // CELL, size // CELL), np.float32)
    for obj, cover in zip(scene.objects, _cells(maps.masks(scene, size)), strict=True):
        out[_at("shape", obj.shape)] += cover
        out[_at("look", obj.look)] += cover
        out[_at("pattern", obj.texture if obj.texture in PATTERNS else "plain")] += cover
    if scene.text is not None:
        cover = _cells(text_mask(scene.text, size))
        out[_at("word", scene.text.word)] = cover
        out[_at("word's colour", scene.text.colour)] = cover
    out[_at("ground", "ground")] = _ground(scene.background, scene.mirrored, size)
    out[_at("backdrop", scene.background)] = 1
    out[_at("weather", scene.effect)] = 1
    out[_at("style", scene.style)] = 1
    for question in LOCAL:
        first, count = _FIRST[question], len(QUESTIONS[question])
        out[first] = np.clip(1 - out[first + 1 : first + count].sum(0), 0, 1)
    for question in UNMAPPED if bare else ():
        out[_FIRST[question] : _FIRST[question] + len(QUESTIONS[question])] = 0
    return np.round(out * 255).astype(np.uint8)


def _at(question: str, answer: str) -> int:
    return _FIRST[question] + QUESTIONS[question].index(answer)


def _cells(plane: np.ndarray) -> np.ndarray:
    """Means over cells: [.., S, S] -> [.., S/CELL, S/CELL]."""
    *rest, size, _ = plane.shape
    return plane.reshape(*rest, size // CELL, CELL, size // CELL, CELL).mean((-3, -1))


@lru_cache(maxsize=64)
def _ground(name: str, mirrored: bool, size: int) -> np.ndarray:
    return _cells(backdrop(name, "", mirrored, size).ground)


def layout_output(width: int, groups: int, hidden: int = 128) -> nn.Sequential:
    """Features [B,width,h,w] -> logits [B,ANSWERS,h,w]; for training alone, no part of the editor."""
    return nn.Sequential(
        nn.GroupNorm(groups, width), nn.Conv2d(width, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, ANSWERS, 1)
    )


def surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """[B]: the mean over the questions of the cross-entropy in nats between logits [B,ANSWERS,h,w] and
    labels uint8 [B,ANSWERS,H,W], H and W multiples of h and w or the other way round. A question that was
    left out costs nothing.

    Where there may be nothing, all that is nothing counts as much as all that is something: averaged over
    the cells, a thing would be too small to be worth telling from another.
    """
    shares = F.adaptive_avg_pool2d(labels.float() / 255, (logits.shape[2], logits.shape[3]))
    total = torch.zeros((), device=logits.device)
    for name, said, true in zip(QUESTIONS, logits.split(PARTS, 1), shares.split(PARTS, 1), strict=True):
        lost = -said.log_softmax(1) * true
        if name in LOCAL:
            area = true.sum((2, 3))
            nothing = lost[:, 0].sum((1, 2)) / area[:, 0].clamp_min(1e-3)
            something = lost[:, 1:].sum((1, 2, 3)) / area[:, 1:].sum(1).clamp_min(1e-3)
            total = total + nothing + something
        else:
            total = total + lost.sum(1).mean((1, 2))
    return total / len(QUESTIONS)
