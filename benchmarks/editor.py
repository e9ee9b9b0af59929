"""A simulated imperfect editor, and small true edits of drawn scenes to put through it.

What it does to a whole picture, as users report of latent editors (and by how much, see `Slips`): a round
trip through an autoencoder loses fine detail, the picture shifts and zooms a little, colours drift, and the
file is a JPEG. The edit itself is exact: it comes from the scene graph, so every changed pixel is known.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..core.sequential.geometry import sample, similarity
from ..training.small.render import render
from ..training.small.scene import (
    ADDED_SIZE,
    ANCHORS,
    COLOURS,
    SHAPES,
    Obj,
    Scene,
    Text,
    crowded,
    pick,
    random_scene,
    same_name,
)


@dataclass(frozen=True)
class Slips:
    """shift: px, in a random direction. zoom: either way. colour: largest gain error of a channel. detail:
    the round trip goes through a picture of this fraction of the side. jpeg: quality of the file."""

    shift: float = 0.7
    zoom: float = 0.01
    colour: float = 0.02
    detail: float = 0.6
    jpeg: int = 90


def degrade(picture: Tensor, rng: np.random.Generator, slips: Slips | None = None) -> tuple[Tensor, Tensor]:
    """[1,H,W,3] -> (the editor's copy of it, the map [1,2,3] from a point of the copy to the same of the
    input).
    """
    slips = slips or Slips()
    height, width = picture.shape[1:3]
    small = max(1, round(height * slips.detail)), max(1, round(width * slips.detail))
    planes = F.interpolate(picture.movedim(-1, 1), small, mode="bicubic", antialias=True)
    planes = F.interpolate(planes, (height, width), mode="bicubic")
    turn = rng.uniform(0, 2 * math.pi)
    values = (
        slips.shift * math.cos(turn),
        slips.shift * math.sin(turn),
        1 + slips.zoom * (1 if rng.random() < 0.5 else -1),
        0.0,
    )
    x, y, zoom, angle = (torch.tensor([v], dtype=torch.float32) for v in values)
    map_ = similarity(x, y, zoom, angle, height, width)
    moved = sample(planes.movedim(1, -1), map_, height, width)
    gains = torch.tensor(1 + slips.colour * rng.uniform(-1, 1, 3), dtype=torch.float32)
    return jpeg(moved * gains, slips.jpeg), map_


def jpeg(picture: Tensor, quality: int) -> Tensor:
    """[1,H,W,3] through a JPEG file."""
    levels = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    array = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(np.ascontiguousarray(array))[None]


def draw(scene: Scene, size: int) -> Tensor:
    """[1,size,size,3] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(render(scene, size), dtype=np.float32))[None]


def first_scene(rng: np.random.Generator) -> Scene:
    """A scene of two things, without a word on it."""
    return replace(random_scene(rng, n_objects=2), text=None)


def next_scene(scene: Scene, rng: np.random.Generator) -> tuple[Scene, str]:
    """A small edit, and what it is called."""
    while True:
        kind = pick(rng, ("recolour", "swap", "add", "remove", "text"))
        made = _EDITS[kind](scene, rng)
        if made is not None:
            return made, kind


def _recolour(scene: Scene, rng: np.random.Generator) -> Scene | None:
    k = int(rng.integers(len(scene.objects)))
    old = scene.objects[k]
    new = replace(old, colour=pick(rng, tuple(COLOURS)), texture="plain")
    return None if new.colour == old.colour else _with(scene, k, new)


def _swap(scene: Scene, rng: np.random.Generator) -> Scene | None:
    k = int(rng.integers(len(scene.objects)))
    new = replace(scene.objects[k], shape=pick(rng, SHAPES), colour=pick(rng, tuple(COLOURS)))
    return None if new.shape == scene.objects[k].shape else _with(scene, k, new)


def _add(scene: Scene, rng: np.random.Generator) -> Scene | None:
    name = pick(rng, tuple(ANCHORS))
    x, y = ANCHORS[name]
    grounded = not name.startswith("top")
    new = Obj(pick(rng, SHAPES), pick(rng, tuple(COLOURS)), "plain", x, y, ADDED_SIZE, grounded=grounded)
    full = len(scene.objects) > 3 or crowded(new, scene.objects, room=0.42)
    if full or (scene.text and not grounded) or any(same_name(new, other) for other in scene.objects):
        return None
    return replace(scene, objects=(*scene.objects, new))


def _remove(scene: Scene, rng: np.random.Generator) -> Scene | None:
    if len(scene.objects) < 2:
        return None
    k = int(rng.integers(len(scene.objects)))
    return replace(scene, objects=scene.objects[:k] + scene.objects[k + 1 :])


def _text(scene: Scene, rng: np.random.Generator) -> Scene | None:
    if scene.text is not None:
        return replace(scene, text=None)
    if not all(obj.grounded for obj in scene.objects):
        return None
    return replace(scene, text=Text(pick(rng, ("sale", "hello", "fun")), pick(rng, tuple(COLOURS))))


def _with(scene: Scene, k: int, new: Obj) -> Scene | None:
    others = scene.objects[:k] + scene.objects[k + 1 :]
    if any(same_name(new, other) for other in others):
        return None
    return replace(scene, objects=scene.objects[:k] + (new,) + scene.objects[k + 1 :])


_EDITS = {"recolour": _recolour, "swap": _swap, "add": _add, "remove": _remove, "text": _text}
