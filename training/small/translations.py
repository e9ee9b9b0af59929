"""Plans whose answer is a fact about the scene: a box, a mask, a map; and pictures made back from a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .captions import caption
from .scene import (
    CANVAS,
    FIGURES,
    POSES,
    Obj,
    Scene,
    article,
    crowded,
    describe,
    phrase,
    pick,
    random_scene,
    shape_is_unique,
    some_colour,
)
from .wording import fill, spoken

#: Tasks of image translation, and what their map is called.
MAPS = {
    "depth": "a depth map",
    "segmentation": "a segmentation map",
    "pose": "a pose map",
    "normal": "a normal map",
    "sketch": "a line drawing",
}
BACK_SHARE = 0.5  # of the translations, how many go from the map to the picture


@dataclass(frozen=True)
class Plan:
    """An edit before it is drawn. `focus` is the object the mask is about, None for everywhere."""

    instruction: str
    source: Scene
    target: Scene
    phrase: str = ""
    focus: int | None = None
    finish: str = ""  # a change of the drawn target: a key of LOOKS, or the task itself
    target_caption: str = ""
    start: str = ""  # the map that the source is drawn as: one of MAPS, or none
    kind: str = ""  # which list of templates it comes from


def called(rng, scene: Scene, k: int) -> str:
    """Words for object k that fit no other; often with more adjectives than it takes."""
    obj = scene.objects[k]
    chance = rng.random()
    if chance < 0.4 and shape_is_unique(obj, scene):
        return spoken(rng, phrase(obj, scene, short=True))
    return spoken(rng, describe(obj) if chance > 0.85 else phrase(obj, scene))


def index(rng, scene: Scene) -> int:
    return pick(rng, range(len(scene.objects)))


def pointing(task: str) -> Callable:
    """The plan of "detect" or "segment"."""

    def plan(rng, split) -> Plan | None:
        scene = random_scene(rng, split=split)
        k = index(rng, scene)
        named = phrase(scene.objects[k], scene)
        after = (
            f"{caption(scene)} with a box around the {named}"
            if task == "detect"
            else f"{caption(scene)} with the {named} highlighted"
        )
        instruction = fill(rng, task, task, split, obj=called(rng, scene, k))
        return Plan(instruction, scene, scene, named, k, task, after, kind=task)

    return plan


def _figures(rng, split: str, alone: bool) -> Scene | None:
    """A scene of one or two figures; unless `alone`, now and then with a thing beside them."""
    scene = random_scene(rng, 1, split)
    objects: list[Obj] = []
    shapes = rng.permutation(FIGURES)[: 1 + int(rng.random() < 0.35)]
    for shape in shapes:
        size = 4 * int(rng.integers(11, 21 if len(shapes) == 1 else 16))
        x = int(rng.integers(size // 2, CANVAS - size // 2 + 1))
        colour = some_colour(rng, str(shape), split)
        figure = Obj(
            str(shape), colour, "plain", x, int(rng.integers(96, 123)), size, bool(rng.random() < 0.5)
        )
        objects.append(replace(figure, pose=pick(rng, POSES)))
    if len(objects) == 2 and abs(objects[0].x - objects[1].x) < 0.5 * (objects[0].size + objects[1].size):
        return None
    other = scene.objects[0]
    if not alone and other.shape not in FIGURES and other.grounded and not crowded(other, objects):
        objects.append(other)
    return replace(scene, objects=tuple(objects))


def mapping(task: str) -> Callable:
    """The plan of a translation: from a picture to its map, or back with the help of a caption."""

    def plan(rng, split) -> Plan | None:
        back = rng.random() < BACK_SHARE
        scene = _figures(rng, split, alone=back) if task == "pose" else random_scene(rng, split=split)
        if scene is None:
            return None
        title = f"{MAPS[task]} of {caption(scene)}"
        if not back:
            instruction = fill(rng, task, "map", split)
            return Plan(instruction, scene, scene, finish=task, target_caption=title, kind="map")
        # What neither the map nor the words could tell is left at its usual value.
        scene = replace(scene, light=1.0, text=None, mirrored=False)
        if len({obj.shape for obj in scene.objects}) < len(scene.objects):
            return None  # which of two balls is the red one?
        if task == "pose":
            scene = replace(scene, objects=tuple(sorted(scene.objects, key=lambda obj: obj.x)))
        said = _sides(rng, scene) if task == "pose" and len(scene.objects) > 1 else caption(scene, rng)
        instruction = fill(rng, task, "back", split, caption=said)
        return Plan(instruction, scene, scene, target_caption=caption(scene), start=task, kind="back")

    return plan


def _sides(rng, scene: Scene) -> str:
    """The caption of two figures that look alike in the map: says which stands where."""
    left, right = (article(spoken(rng, describe(obj))) for obj in scene.objects)
    frame = caption(replace(scene, objects=()), rng).removeprefix("nothing")
    return f"{left} on the left and {right} on the right{frame}"
