"""When an edit of the small world counts as done: one rule per task, checked against exact ground truth.

`inside` and `outside` are measured for every edit. Where the answer is unique, the pixels decide. Where it is
not (a thing may be added a little farther to the left and still be added), an edit that misses the pixels is
read by the scene parser, whose own accuracy `python -m emu_edit.training.small.parser` reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import maps
from .edits import Example
from .finishes import BOX_COLOUR, MASK_COLOUR
from .parser import NEAR, holds, offset, read_scene
from .plans import GROWTH
from .scene import Scene, as_float
from .styles import blur

INSIDE_LIMIT = 0.35
OUTSIDE_LIMIT = 0.02
UNCHANGED = 2 / 255
OVERLAP = 0.7  # of a box, a mask, drawn lines
GROWN = 1.18  # how many times too big or too small a thing may be that was to be made bigger or smaller
KEPT = 0.05  # mean absolute difference of objects in front of a new background

EXACT = f"inside <= {INSIDE_LIMIT} and outside < {OUTSIDE_LIMIT}"
WHOLE = f"inside <= {INSIDE_LIMIT}; the whole picture is meant to change"
ELSEWHERE = f"and the picture elsewhere moved by less than {OUTSIDE_LIMIT}"
BACK = (
    "back: mean absolute error <= 0.06, and <= 0.10 on the objects; or the parser reads the backdrop, the "
    "weather, and every object (shape, colour, texture) in its place"
)
RULES: dict[str, str] = {
    "local": f"{EXACT}; or the parser reads what was asked in its place, nothing else there, {ELSEWHERE}",
    "remove": EXACT,
    "add": f"{EXACT}; or the parser reads the new thing in its place, {ELSEWHERE}",
    "texture": EXACT,
    "background": f"{EXACT}; or the parser reads the new backdrop, and the objects moved by less than {KEPT}",
    "global": WHOLE,
    "style": WHOLE,
    "text": f"{EXACT}; or the parser reads the new word, its colour and place, {ELSEWHERE}",
    "detect": f"the box drawn overlaps the true one (IoU >= {OVERLAP}) and outside < {OUTSIDE_LIMIT}",
    "segment": f"the pixels marked overlap the true ones (IoU >= {OVERLAP}) and outside < {OUTSIDE_LIMIT}",
    "color": WHOLE,
    "depth": f"to the map: mean absolute error <= 0.06, and <= 0.10 on the objects; {BACK}",
    "segmentation": f"to the map: mean IoU of the classes >= {OVERLAP}; back: as for depth",
    "pose": f"to the map: F1 of the limbs >= {OVERLAP}, their colour off by <= 0.2; back: as for depth",
    "normal": "to the map: mean angle <= 15 degrees, and <= 25 on the objects; back: as for depth",
    "sketch": f"to the map: F1 of the lines >= {OVERLAP} within 1/64 of the side; back: as for depth",
}


def measure(source: np.ndarray, target: np.ndarray, edited: np.ndarray) -> dict[str, float]:
    """inside and outside of pictures [H,W,3] in 0..1.

    `inside`: mean absolute error where the true edit changes the picture, over that of the unedited picture;
    `outside`: mean absolute difference from the source elsewhere (0 where nothing lies elsewhere).
    """
    changed = np.abs(target - source).max(-1) > UNCHANGED
    before = np.abs(target - source).mean(-1)[changed]
    after = np.abs(target - edited).mean(-1)[changed]
    outside = np.abs(edited - source).mean(-1)[~changed]
    return {
        "inside": float(after.mean() / before.mean()) if changed.any() else float("nan"),
        "outside": float(outside.mean()) if outside.size else 0.0,
    }


def judge(example: Example, edited: np.ndarray) -> dict[str, Any]:
    """{"inside", "outside", "success" (1.0 or 0.0), "by"} of an edit, float [S,S,3] in 0..1.

    `by` tells what decided: "pixels", "parser", or "" for a failure.
    """
    edited = np.clip(np.asarray(edited, np.float32), 0, 1)
    source, target = (p.astype(np.float32) / 255 for p in (example.source, example.target))
    found = measure(source, target, edited)
    if example.kind == "back":
        by = "pixels" if _near(example, target, edited) else "parser" if _reads_all(example, edited) else ""
    elif example.task in _VISION:
        by = "pixels" if _VISION[example.task](example, target, edited, found) else ""
    elif found["inside"] <= INSIDE_LIMIT and (example.task in _WHOLE or found["outside"] < OUTSIDE_LIMIT):
        by = "pixels"
    elif example.task in _READ:
        by = "parser" if _READ[example.task](example, source, target, edited, found) else ""
    else:
        by = ""
    return found | {"success": float(bool(by)), "by": by}


def _objects(example: Example) -> np.ndarray:
    """Where the objects are, bool [S, S]."""
    size = example.source.shape[0]
    assert example.after is not None
    shown = maps.masks(example.after, size)
    return shown.sum(0) > 0.5 if len(shown) else np.zeros((size, size), bool)


def _near(example: Example, target: np.ndarray, edited: np.ndarray) -> bool:
    """Mean absolute error small, over the picture and over the objects alone."""
    off, there = np.abs(target - edited).mean(-1), _objects(example)
    return bool(off.mean() <= 0.06 and (not there.any() or off[there].mean() <= 0.10))


def _read(example: Example, edited: np.ndarray) -> Scene:
    assert example.after is not None
    return read_scene(edited, len(example.after.objects) + 1)


def _reads_all(example: Example, edited: np.ndarray) -> bool:
    wanted = example.after
    assert wanted is not None
    if np.abs(edited - example.source / 255).mean() < 0.05:
        return False  # still the map
    read = _read(example, edited)
    return (read.background, read.effect) == (wanted.background, wanted.effect) and all(
        holds(read, obj) for obj in wanted.objects
    )


def _read_object(example: Example, source, target, edited, found) -> bool:
    """The asked object stands in its place, and away from it nothing moved."""
    after, focus = example.after, example.focus
    assert after is not None and focus is not None
    wanted, others = after.objects[focus], after.objects[:focus] + after.objects[focus + 1 :]
    read = _read(example, edited)
    if not holds(read, wanted, size=GROWN if example.kind in GROWTH else 0.0):
        return False
    here = [obj for obj in read.objects if offset(obj, wanted) <= NEAR]
    if any(obj.shape != wanted.shape and not any(obj.shape == o.shape for o in others) for obj in here):
        return False  # something is left of what stood there
    size = source.shape[0]
    free = np.abs(target - source).max(-1) <= UNCHANGED
    for k, obj in enumerate(read.objects):
        if offset(obj, wanted) <= NEAR:
            free &= maps.footprint(read, k, size) == 0
    return bool(not free.any() or np.abs(edited - source).mean(-1)[free].mean() < OUTSIDE_LIMIT)


def _read_backdrop(example: Example, source, target, edited, found) -> bool:
    wanted, there = example.after, _objects(example)
    assert wanted is not None
    kept = not there.any() or np.abs(edited - source).mean(-1)[there].mean() < KEPT
    return bool(kept) and read_scene(edited, 0).background == wanted.background


def _read_text(example: Example, source, target, edited, found) -> bool:
    wanted = example.after
    assert wanted is not None
    if wanted.text is None or found["outside"] >= OUTSIDE_LIMIT:
        return False  # that no word is read proves nothing
    return _read(example, edited).text == wanted.text


_WHOLE = ("global", "style", "color")  # what these leave unchanged is chance: pixels that were white already
_READ: dict[str, Callable[..., bool]] = {
    "local": _read_object,
    "add": _read_object,
    "background": _read_backdrop,
    "text": _read_text,
}


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _hull(mask: np.ndarray) -> np.ndarray:
    """The box around a mask, filled; bool [S, S]."""
    out = np.zeros_like(mask)
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return out


def _painted(edited: np.ndarray, source: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels that came nearer to a paint than to what they were; bool [S, S]."""
    paint = as_float(colour) / 255
    to_paint, to_source = np.abs(edited - paint).mean(-1), np.abs(edited - source).mean(-1)
    return (to_paint < 0.25) & (to_paint < to_source)


def _detect(example: Example, target, edited, found) -> bool:
    source = example.source / 255
    drawn = _painted(edited, source, BOX_COLOUR)
    if drawn.sum() < 8:
        return False
    # single stray pixels would spoil a box: rows and columns need a few
    rows, columns = drawn.sum(1) >= 3, drawn.sum(0) >= 3
    box, truth = _hull(rows[:, None] & columns), _hull((example.target == BOX_COLOUR).all(-1))
    return _iou(box, truth) >= OVERLAP and found["outside"] < OUTSIDE_LIMIT


def _segment(example: Example, target, edited, found) -> bool:
    drawn = _painted(edited, example.source / 255, MASK_COLOUR)
    return _iou(drawn, example.mask > 0.5) >= OVERLAP and found["outside"] < OUTSIDE_LIMIT


def _depth(example: Example, target, edited, found) -> bool:
    return _near(example, target, edited)


def _segmentation(example: Example, target, edited, found) -> bool:
    flat = np.stack([as_float(rgb) for rgb in maps.CLASS_COLOURS.values()])
    truth, drawn = (
        np.abs(p[:, :, None] - flat).sum(-1).argmin(-1) for p in (target.astype(np.float32), edited)
    )
    present = [c for c in np.unique(truth) if (truth == c).mean() > 0.004]
    return float(np.mean([_iou(truth == c, drawn == c) for c in present])) >= OVERLAP


def _spread(mask: np.ndarray) -> np.ndarray:
    """The mask grown by 1/64 of the side, bool."""
    return blur(mask.astype(np.float32), max(1, round(mask.shape[0] / 64)), 1) > 1e-4


def _f1(truth: np.ndarray, drawn: np.ndarray) -> float:
    """F1 of lines that may lie a little beside."""
    if not truth.any() or not drawn.any():
        return 0.0
    precision = (drawn & _spread(truth)).sum() / drawn.sum()
    recall = (truth & _spread(drawn)).sum() / truth.sum()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def _pose(example: Example, target, edited, found) -> bool:
    truth, drawn = target.max(-1) > 0.4, edited.max(-1) > 0.4
    both = truth & drawn
    near = both.any() and np.abs(target - edited).mean(-1)[both].mean() <= 0.2
    return bool(near) and _f1(truth, drawn) >= OVERLAP


def _normal(example: Example, target, edited, found) -> bool:
    one, other = 2 * target - 1, 2 * edited - 1
    cosine = (one * other).sum(-1) / np.maximum(
        np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1), 1e-6
    )
    angle, there = np.rad2deg(np.arccos(np.clip(cosine, -1, 1))), _objects(example)
    return bool(angle.mean() <= 15 and (not there.any() or angle[there].mean() <= 25))


def _sketch(example: Example, target, edited, found) -> bool:
    return _f1(target.mean(-1) < 0.5, edited.mean(-1) < 0.5) >= OVERLAP


_VISION: dict[str, Callable[..., bool]] = {
    "detect": _detect,
    "segment": _segment,
    "depth": _depth,
    "segmentation": _segmentation,
    "pose": _pose,
    "normal": _normal,
    "sketch": _sketch,
}
