"""Tasks that the bundled editor is never trained on, for task inversion: four of Emu Edit's own trials.

Super-resolution (a picture of a quarter of the size, brought back to size), contour drawing, inpainting of a
marked hole, and a composition: add a thing and mark it with a box (arXiv 2311.10089, task inversion). Like
edits.make_example, `make_unseen` is a pure function of its arguments.

    python -m emu_edit.training.small.unseen contours --count 20 --out EXAMPLES_DIR

writes a folder that `emu-edit invert EXAMPLES_DIR -o TASK.safetensors` learns from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..arguments import at_least
from . import maps
from .captions import caption
from .edits import Example
from .finishes import as_bytes, draw_box
from .plans import PLANS
from .render import render
from .scene import CANVAS, Scene, as_float, pick, random_scene

HOLE_COLOUR = (0, 255, 255)  # marks what is to be filled in; no other finish paints with it

WORDINGS: dict[str, tuple[str, ...]] = {
    "super-resolution": ("make the picture sharp", "sharpen the image", "make it sharp", "add detail"),
    "contours": ("draw the contours", "find the contours", "show the contours of the picture"),
    "inpainting": ("fill the hole", "fill in the hole", "paint over the hole"),
    "add-and-detect": ("{add} and draw a box around it", "{add} and mark it with a box", "{add} in a box"),
}
UNSEEN = tuple(WORDINGS)

# An edit before its instruction: source and target uint8, mask float32 [S,S], what is added, scene after.
Made = tuple[np.ndarray, np.ndarray, np.ndarray, str, Scene]


def make_unseen(task: str, seed: int, index: int, size: int = CANVAS, *, split: str = "train") -> Example:
    """Example `index` of a stream of one of UNSEEN; `split` as in edits.make_example."""
    if task not in WORDINGS:
        raise ValueError(f"unknown unseen task {task!r}; known are {', '.join(UNSEEN)}")
    rng = np.random.default_rng((seed, index, UNSEEN.index(task)))
    source, target, mask, add, scene = _MAKERS[task](rng, size, split)
    words = pick(rng, WORDINGS[task]).format(add=add)
    after = caption(scene)
    return Example(task, words, source, target, mask, after, after, "")


def _super_resolution(rng: np.random.Generator, size: int, split: str) -> Made:
    scene = random_scene(rng, split=split)
    target = render(scene, size)
    small = target.reshape(size // 4, 4, size // 4, 4, 3).mean((1, 3))
    return as_bytes(_enlarged(small, 4)), as_bytes(target), np.ones((size, size), np.float32), "", scene


def _enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """Bilinear, with pixels' middles where they belong."""
    for axis in (0, 1):
        length = picture.shape[axis]
        place = np.clip((np.arange(length * times) + 0.5) / times - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), length - 2)
        part = as_float(place - low).reshape([-1 if a == axis else 1 for a in range(picture.ndim)])
        near, far = picture.take(low, axis), picture.take(low + 1, axis)
        picture = near * (1 - part) + far * part
    return picture


def _contours(rng: np.random.Generator, size: int, split: str) -> Made:
    scene = random_scene(rng, split=split)
    labels = np.zeros((size, size), int)
    for number, mask in enumerate(maps.masks(scene, size), 1):
        labels[mask > 0.5] = number
    edge = np.zeros((size, size), bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    wide = edge.copy()  # two pixels wide, or an 8 x 8 patch would hardly show them
    wide[:-1] |= edge[1:]
    wide[:, :-1] |= edge[:, 1:]
    target = np.repeat(np.where(wide, 255, 0).astype(np.uint8)[..., None], 3, 2)
    return as_bytes(render(scene, size)), target, np.ones((size, size), np.float32), "", scene


def _inpainting(rng: np.random.Generator, size: int, split: str) -> Made:
    scene = random_scene(rng, split=split)
    target = as_bytes(render(scene, size))
    height, width = (int(rng.integers(size // 6, size // 3 + 1)) for _ in range(2))
    top, left = int(rng.integers(0, size - height + 1)), int(rng.integers(0, size - width + 1))
    source, mask = target.copy(), np.zeros((size, size), np.float32)
    source[top : top + height, left : left + width] = HOLE_COLOUR
    mask[top : top + height, left : left + width] = 1
    return source, target, mask, "", scene


def _add_and_detect(rng: np.random.Generator, size: int, split: str) -> Made:
    while (plan := PLANS["add"](rng, split)) is None or plan.focus is None:
        pass  # what was drawn does not fit: draw again from the same stream
    covered = maps.masks(plan.target, size)[plan.focus]
    target = draw_box(as_bytes(render(plan.target, size)), covered)
    source = as_bytes(render(plan.source, size))
    mask = (np.abs(target.astype(int) - source).max(-1) > 2).astype(np.float32)
    return source, target, mask, plan.instruction.removesuffix(" please"), plan.target


_MAKERS: dict[str, Callable[[np.random.Generator, int, str], Made]] = {
    "super-resolution": _super_resolution,
    "contours": _contours,
    "inpainting": _inpainting,
    "add-and-detect": _add_and_detect,
}


def write_folder(folder: Path, task: str, count: int, seed: int = 0, size: int = CANVAS) -> None:
    """Write examples 0 to count - 1 as NAME.source.png, NAME.target.png and NAME.txt."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        made, name = make_unseen(task, seed, index, size), f"{index:03}"
        Image.fromarray(made.source).save(folder / f"{name}.source.png", optimize=True)
        Image.fromarray(made.target).save(folder / f"{name}.target.png", optimize=True)
        (folder / f"{name}.txt").write_text(made.instruction + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=UNSEEN)
    parser.add_argument("--count", type=at_least(1), default=20)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--size", type=at_least(32), default=CANVAS)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    write_folder(chosen.out, chosen.task, chosen.count, chosen.seed, chosen.size)


if __name__ == "__main__":
    main()
