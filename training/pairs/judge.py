"""Whether a pair shows the edit that was asked for, as the world's scene parser reads the two pictures.

A text-to-image model puts things where it likes, so nothing is compared with the pictures that the world
would have drawn: the pair's own two pictures are read, and what differs between the readings is the edit.

- local, texture: the thing as it was is gone, and the thing as it should be stands in its place;
  bigger, smaller: the same thing, at least 1.18 times so (rules.GROWN);
- remove: the thing is gone, also from elsewhere; add: it has come, and has not just moved there;
- background, global: the backdrop or the weather asked for is there now, and was not before.

The rest is the same where every other thing (shape, colour, pattern, within parser.NEAR of its place), the
word, the backdrop and the weather are read the same in both. The parser errs too: `exact` rows of
benchmarks.pair_control say how often it calls the world's own pairs right.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..small import maps
from ..small.edits import Example
from ..small.finishes import as_bytes
from ..small.parser import NEAR, offset, read_scene
from ..small.plans import GROWTH
from ..small.rules import GROWN
from ..small.scene import ANCHORS, Obj, Scene

TASKS = ("local", "texture", "add", "remove", "background", "global")
"""The tasks that are judged so: those whose pictures are both generated."""
PLACE = 0.2  # of the side: how far from the anchor that an instruction names an added thing may stand
KEPT = 256  # readings remembered

Look = tuple[str, str, str]


@dataclass(frozen=True)
class Judged:
    """What was read of a pair.

    before, after: the source, the target shows what its caption says: those things and no others, the
    backdrop, the weather, the word. done: the edit. rest: all else is the same. placed: an added thing stands
    where the instruction says; None where it names no such place. moved: mean absolute change (0..1) outside
    what the edited thing covers in either picture, its shadow too; None where that is nothing or unknown.
    """

    before: bool
    after: bool
    done: bool
    rest: bool
    placed: bool | None = None
    moved: float | None = None

    @property
    def right(self) -> bool:
        """Done, and nothing else."""
        return self.done and self.rest


class Reader:
    """Reads pictures [S,S,3] in 0..1 with the scene parser, the same picture once."""

    def __init__(self) -> None:
        self._read: OrderedDict[bytes, Scene] = OrderedDict()

    def __call__(self, picture: Tensor) -> Scene:
        levels = as_bytes(picture.detach().cpu().numpy())
        key = hashlib.blake2b(levels.tobytes(), digest_size=16).digest()
        if key not in self._read:
            self._read[key] = read_scene(levels)
            if len(self._read) > KEPT:
                self._read.popitem(last=False)
        return self._read[key]


def judge_pair(asked: Example, source: Tensor, target: Tensor, read: Reader) -> Judged:
    """Judge a pair of pictures [S,S,3] in 0..1 by the edit `asked`, of one of TASKS (its scenes count, its
    pictures do not). Raises ValueError for another task."""
    if asked.task not in TASKS:
        raise ValueError(f"pairs of the task {asked.task} are not judged by their scenes")
    assert asked.before is not None and asked.after is not None
    one, other = read(source), read(target)
    lost, new = differences(one, other)
    done, old_place, new_place = _done(asked, one, other, lost, new)
    others_kept = not [k for k in lost if k != old_place] and not [k for k in new if k != new_place]
    rest = others_kept and one.text == other.text
    rest = rest and (asked.task == "background" or one.background == other.background)
    rest = rest and (asked.task == "global" or one.effect == other.effect)
    placed = None
    if asked.task == "add" and new_place is not None and asked.focus is not None:
        spot = asked.after.objects[asked.focus]
        if asked.kind == "placed" and (spot.x, spot.y) in ANCHORS.values():
            placed = offset(other.objects[new_place], spot) <= PLACE
    return Judged(
        shows(one, asked.before),
        shows(other, asked.after),
        done,
        rest,
        placed,
        moved_outside(source, target, _covered(asked.task, one, other, old_place, new_place, len(source))),
    )


def look(obj: Obj) -> Look:
    """What a caption tells of a thing."""
    return obj.shape, obj.look, obj.texture


def shows(read: Scene, said: Scene) -> bool:
    """Whether a picture as read shows what the caption of a scene says, wherever its things stand."""
    things = sorted(look(obj) for obj in read.objects) == sorted(look(obj) for obj in said.objects)
    words = [text.word if text else "" for text in (read.text, said.text)]
    return (
        things and words[0] == words[1] and (read.background, read.effect) == (said.background, said.effect)
    )


def differences(one: Scene, other: Scene) -> tuple[list[int], list[int]]:
    """The numbers of the things in `one` that are not in `other` as they were, and the other way round."""
    pairs = sorted(
        (offset(a, b), i, j)
        for i, a in enumerate(one.objects)
        for j, b in enumerate(other.objects)
        if look(a) == look(b) and offset(a, b) <= NEAR
    )
    lost, new = set(range(len(one.objects))), set(range(len(other.objects)))
    for _, i, j in pairs:
        if i in lost and j in new:
            lost.remove(i)
            new.remove(j)
    return sorted(lost), sorted(new)


def _done(
    asked: Example, one: Scene, other: Scene, lost: list[int], new: list[int]
) -> tuple[bool, int | None, int | None]:
    """Whether the edit is done, and the number of the edited thing before and after, where it was found."""
    before, after, focus = asked.before, asked.after, asked.focus
    assert before is not None and after is not None
    if asked.task == "background":
        return other.background == after.background != one.background, None, None
    if asked.task == "global":
        return other.effect == after.effect != one.effect, None, None
    assert focus is not None
    gone = _first(one, lost, before.objects[focus]) if asked.task != "add" else None
    come = _first(other, new, after.objects[focus]) if asked.task != "remove" else None
    if asked.task == "remove":
        return gone is not None and _first(other, new, before.objects[focus]) is None, gone, None
    if asked.task == "add":
        return come is not None and _first(one, lost, after.objects[focus]) is None, None, come
    if asked.kind in GROWTH:
        return _grown(one, other, before.objects[focus], GROWTH[asked.kind] > 1)
    if gone is None or come is None:
        return False, gone, come
    return offset(one.objects[gone], other.objects[come]) <= NEAR, gone, come


def _first(scene: Scene, numbers: list[int], wanted: Obj) -> int | None:
    """The first of these things that looks as wanted."""
    return next((k for k in numbers if look(scene.objects[k]) == look(wanted)), None)


def _grown(one: Scene, other: Scene, thing: Obj, bigger: bool) -> tuple[bool, int | None, int | None]:
    gone, come = (_first(scene, list(range(len(scene.objects))), thing) for scene in (one, other))
    if gone is None or come is None:
        return False, gone, come
    ratio = other.objects[come].size / one.objects[gone].size
    near = offset(one.objects[gone], other.objects[come]) <= NEAR
    return near and (ratio if bigger else 1 / ratio) >= GROWN, gone, come


def _covered(
    task: str, one: Scene, other: Scene, gone: int | None, come: int | None, size: int
) -> Tensor | None:
    """Where the edit belongs, bool [S,S]; None where that is everywhere or unknown."""
    if task == "global":
        return None
    if task == "background":
        things = maps.masks(one, size).sum(0) if one.objects else np.zeros((size, size))
        return torch.from_numpy(things < 0.999)  # the edges of things are mixed with it
    shown = [(scene, k) for scene, k in ((one, gone), (other, come)) if k is not None]
    if not shown:
        return None
    return torch.from_numpy(np.maximum.reduce([maps.footprint(scene, k, size) for scene, k in shown]) > 0)


def moved_outside(source: Tensor, target: Tensor, mask: Tensor | None) -> float | None:
    """Mean absolute difference of two pictures [H,W,3] where a mask [H,W] is 0; None where it nowhere is."""
    if mask is None or bool((outside := mask == 0).sum() == 0):
        return None
    return float((target - source).abs().mean(dim=-1)[outside].double().mean())
