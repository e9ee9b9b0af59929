"""Before and after: one task and one instruction on one random scene, and the scene redrawn.

`make_example` is a pure function of its arguments: the same index is the same example anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.tasks import TASK_IDS
from . import maps
from .finishes import BOX_COLOUR, MASK_COLOUR, adjust, as_bytes, draw_box
from .lettering import text_mask
from .plans import PLANS, Plan
from .render import render
from .scene import CANVAS, HELD_OUT_PAIRS, as_float, caption, pick
from .wording import LOOKS

__all__ = ["ALL_TASKS", "BOX_COLOUR", "HELD_OUT_PAIRS", "TASKS", "TASKS_V1", "Example", "make_example"]

ALL_TASKS = TASK_IDS
TASKS = tuple(task for task in ALL_TASKS if task != "pose")
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


_MAPS = {
    "depth": maps.depth,
    "segmentation": maps.segmentation,
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


def make_example(
    seed: int, index: int, tasks: tuple[str, ...] = TASKS_V1, size: int = CANVAS, *, split: str = "train"
) -> Example:
    """Example `index` of a stream: a task of `tasks` drawn evenly, a scene, and the edit done to it.

    split="train" leaves out HELD_OUT_PAIRS and the held-out templates; "test" draws from everything.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is train or test, not {split!r}")
    for task in tasks:
        if task == "pose":
            raise ValueError("the task 'pose' has no people to draw in this world yet")
        if task not in PLANS:
            raise ValueError(f"unknown task {task!r}; known are {', '.join(TASKS)}")
    rng = np.random.default_rng((seed, index))
    task = pick(rng, tasks)
    while (plan := PLANS[task](rng, split)) is None:
        pass  # what was drawn is ambiguous or does not fit: draw again from the same stream
    source = render(plan.source, size)
    target = _finished(plan, source, size)
    after = plan.target_caption or caption(plan.target)
    return Example(
        task,
        plan.instruction,
        as_bytes(source),
        target,
        _mask(task, plan, size),
        caption(plan.source),
        after,
        plan.phrase,
    )
