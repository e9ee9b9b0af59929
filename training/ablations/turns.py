"""(e) Ten edits in a row, with and without sequential edit thresholding."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ...core.edit import EditSettings, edit
from ...core.thresholding import sequential_threshold
from ..small.render import render
from ..small.scene import COLOURS, Obj, Scene, pick, random_scene
from .lab import TEST_SEED, Lab

WAYS = ("without thresholding", "with thresholding")


def measure(lab: Lab) -> dict[str, Any] | None:
    """{"untouched": {way: [turn][chain]}, "recoloured": the same}: mean absolute errors against the truth,
    where no turn of the chain changes anything, and where one of them does.
    """
    found: dict[str, Any] = {part: {way: [] for way in WAYS} for part in ("untouched", "recoloured")}
    identity = lab.identity()
    for chain in range(lab.sizes.chains):
        key = {"editor": identity, "chain": chain, "turns": lab.sizes.turns}
        rows = lab.cells.get("e-turns", key, partial(_chain, lab, chain))
        if rows is None:
            return None
        for part, ways in rows.items():
            for way, values in ways.items():
                for turn, value in enumerate(values):
                    if turn == len(found[part][way]):
                        found[part][way].append([])
                    found[part][way][turn].append(value)
    return found


def plan_chain(rng: np.random.Generator, turns: int) -> tuple[list[Scene], list[str]]:
    """Scenes before and after every turn, each recolouring one thing, and the words for each turn."""
    while True:
        scene = replace(random_scene(rng, n_objects=2, split="train"), text=None, effect="")
        first, *others = scene.objects
        plain = all(obj.texture == "plain" for obj in scene.objects)
        if plain and others and others[0].shape != first.shape:
            break
    scenes, words = [scene], []
    for turn in range(turns):
        place = turn % 2
        obj: Obj = scene.objects[place]
        colour = pick(rng, [name for name in COLOURS if name != obj.colour])
        words.append(f"make the {obj.shape} {colour}")
        changed = replace(obj, colour=colour)
        objects = scene.objects[:place] + (changed,) + scene.objects[place + 1 :]
        scene = replace(scene, objects=objects)
        scenes.append(scene)
    return scenes, words


def _chain(lab: Lab, chain: int) -> dict[str, dict[str, list[float]]]:
    editor = lab.editor()
    size = int(editor.defaults["size"])
    scenes, words = plan_chain(np.random.default_rng((TEST_SEED, chain)), lab.sizes.turns)
    truths = torch.from_numpy(np.stack([render(scene, size) for scene in scenes])).float().clamp(0, 1)
    touched = (truths - truths[:1]).abs().amax((0, 3)) > 2 / 255
    found: dict[str, dict[str, list[float]]] = {
        part: {way: [] for way in WAYS} for part in ("untouched", "recoloured")
    }
    for way in WAYS:
        picture = truths[:1].clone()
        for turn, instruction in enumerate(words):
            settings = EditSettings(seed=1000 * chain + turn)
            made = edit(editor, picture, instruction, "local", settings=settings).images
            picture = sequential_threshold(picture, made)[0] if way == WAYS[1] else made
            wrong = (picture[0] - truths[turn + 1]).abs().mean(-1)
            found["untouched"][way].append(round(float(wrong[~touched].mean()), 6))
            found["recoloured"][way].append(round(float(wrong[touched].mean()), 6))
    return found
