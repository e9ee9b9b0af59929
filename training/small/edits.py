"""Before and after: one task and one instruction on one random scene, and the scene redrawn.

`make_example` is a pure function of its arguments: the same index is the same example anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...core.tasks import TASK_IDS
from . import maps
from .captions import LEVELS, caption
from .finishes import BOX_COLOUR, MASK_COLOUR, adjust, as_bytes, draw_box
from .lettering import text_mask
from .plans import PLANS
from .render import render
from .scene import (
    CANVAS,
    GLOBALS,
    HELD_OUT_PAIRS,
    OUTDOORS,
    SPLITS,
    STYLES,
    Scene,
    as_float,
    pick,
    random_scene,
)
from .translations import MAPS, Plan
from .wording import LOOKS, words_of

__all__ = [
    "ALL_TASKS",
    "BOX_COLOUR",
    "HELD_OUT_PAIRS",
    "MAX_WORDS",
    "TASKS",
    "TASKS_V1",
    "TASK_WEIGHTS",
    "Example",
    "make_example",
    "make_picture",
]

ALL_TASKS = TASKS = TASK_IDS

#: How often a trainer should draw each task: more for what is harder to learn.
TASK_WEIGHTS: dict[str, float] = {
    "local": 1.8,
    "remove": 0.8,
    "add": 1.6,
    "texture": 1.6,
    "background": 0.8,
    "global": 0.7,
    "style": 1.6,
    "text": 1.8,
    "detect": 1.0,
    "segment": 0.6,
    "color": 0.7,
    "depth": 1.1,
    "segmentation": 1.0,
    "pose": 0.8,
    "normal": 1.0,
    "sketch": 1.6,
}
assert tuple(TASK_WEIGHTS) == TASKS
MAX_WORDS = 30  # of an instruction: 32 tokens with its start and end
TASKS_V1 = (
    "local",
    "remove",
    "add",
    "texture",
    "background",
    "global",
    "style",
    "color",
    "detect",
    "segment",
)


@dataclass(frozen=True)
class Example:
    task: str
    instruction: str
    source: np.ndarray  # uint8 [S, S, 3]
    target: np.ndarray  # uint8 [S, S, 3]
    mask: np.ndarray  # float32 [S, S] in 0..1: where the edit happens; detect, segment: the object
    source_caption: str
    target_caption: str
    phrase: str  # the thing named ("red ball"), or ""
    kind: str = ""  # which list of templates the wording comes from: "recolour"; "map" or "back" of a map
    before: Scene | None = None  # the scene of the source and of the target
    after: Scene | None = None
    focus: int | None = None  # the object that the edit is about: its number in `before`; `add`: in `after`


_MAPS = {
    "depth": maps.depth,
    "segmentation": maps.segmentation,
    "pose": maps.pose,
    "normal": maps.normals,
    "sketch": maps.sketch,
}


def _finished(plan: Plan, source: np.ndarray, size: int) -> np.ndarray:
    """The target, uint8, given the source as drawn in float."""
    if plan.finish in _MAPS:
        return as_bytes(_MAPS[plan.finish](plan.target, size))
    if plan.finish in LOOKS:
        return as_bytes(adjust(source, plan.finish))
    if plan.finish in ("detect", "segment"):
        mask = maps.masks(plan.source, size)[plan.focus]
        if plan.finish == "detect":
            return draw_box(as_bytes(source), mask)
        return as_bytes(source + mask[..., None] * (as_float(MASK_COLOUR) / 255 - source))
    return as_bytes(render(plan.target, size))


def _mask(task: str, plan: Plan, size: int) -> np.ndarray:
    if task in ("detect", "segment"):
        return maps.masks(plan.source, size)[plan.focus]
    if task == "background":
        return np.clip(1 - maps.masks(plan.source, size).sum(0), 0, 1)
    if task == "text":
        shown = [text_mask(scene.text, size) for scene in (plan.source, plan.target) if scene.text]
        return np.maximum.reduce(shown)
    if plan.focus is None:
        return np.ones((size, size), np.float32)
    scenes = [scene for scene in (plan.source, plan.target) if plan.focus < len(scene.objects)]
    if task == "remove":
        scenes = [plan.source]
    elif task == "add":
        scenes = [plan.target]
    return np.maximum.reduce([maps.footprint(scene, plan.focus, size) for scene in scenes])


def _holds_rare(plan: Plan) -> bool:
    """Whether what the edit is about is a pair of colour and shape that training never shows."""
    seen = []
    for scene in (plan.source, plan.target):
        focused = scene.objects[plan.focus : plan.focus + 1] if plan.focus is not None else scene.objects
        seen += [(obj.colour, obj.shape) for obj in focused]
    return not HELD_OUT_PAIRS.isdisjoint(seen)


def usable(plan: Plan | None, split: str) -> bool:
    return (
        plan is not None
        and 0 < len(words_of(plan.instruction)) <= MAX_WORDS
        and (split != "pairs" or _holds_rare(plan))
    )


def make_example(
    seed: int,
    index: int,
    tasks: tuple[str, ...] = TASKS,
    size: int = CANVAS,
    *,
    split: str = "train",
    weights: Mapping[str, float] | None = None,
) -> Example:
    """Example `index` of a stream: a task of `tasks`, a scene, and the edit done to it.

    Tasks are drawn evenly, or by `weights` (TASK_WEIGHTS). split: see scene.SPLITS; "train" leaves out
    HELD_OUT_PAIRS and the held-out templates. Raises ValueError for an unknown task or split.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, not {split!r}")
    for task in tasks:
        if task not in PLANS:
            raise ValueError(f"unknown task {task!r}; known are {', '.join(TASKS)}")
    rng = np.random.default_rng((seed, index))
    if weights is None:
        task = pick(rng, tasks)
    else:
        shares = np.array([weights[task] for task in tasks], np.float64)
        task = tasks[int(np.searchsorted(np.cumsum(shares / shares.sum()), rng.random(), side="right"))]
    while not usable(plan := PLANS[task](rng, split), split):
        pass  # what was drawn is ambiguous or does not fit: draw again from the same stream
    source = _MAPS[plan.start](plan.source, size) if plan.start else render(plan.source, size)
    before = caption(plan.source)
    return Example(
        task,
        plan.instruction,
        as_bytes(source),
        _finished(plan, source, size),
        _mask(task, plan, size),
        f"{MAPS[plan.start]} of {before}" if plan.start else before,
        plan.target_caption or caption(plan.target),
        plan.phrase,
        plan.kind,
        plan.source,
        plan.target,
        plan.focus,
    )


def make_picture(
    seed: int, index: int, size: int = CANVAS, split: str = "train"
) -> tuple[np.ndarray, str, Scene]:
    """Picture `index` of a stream for text-to-image: (uint8 [size, size, 3], its caption, its scene).

    One in four outdoor scenes has a weather or an hour, one in eight pictures a style; the caption is of a
    random level of `captions.LEVELS`, with synonyms.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, not {split!r}")
    rng = np.random.default_rng((seed, index, 2))
    scene = random_scene(rng, split=split)
    if not scene.effect and scene.background in OUTDOORS and rng.random() < 0.17:
        scene = replace(scene, effect=pick(rng, tuple(GLOBALS)))
    if rng.random() < 0.125:
        scene = replace(scene, style=pick(rng, STYLES))
    said = caption(scene, rng, LEVELS[int(np.searchsorted((0.2, 0.6), rng.random(), side="right"))])
    return as_bytes(render(scene, size)), said, scene
