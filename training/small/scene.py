"""A small scene graph: named things at named places that can be edited and redrawn.

Lengths are in design pixels of a 128 x 128 picture; `render` scales them to any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CANVAS = 128


def as_float(values: object) -> np.ndarray:
    """Numbers as a float32 array."""
    return np.asarray(values, np.float32)


def frozen(array: np.ndarray) -> np.ndarray:
    """A float32 copy that nobody can write to: what caches hand out."""
    array = np.ascontiguousarray(array, np.float32)
    array.setflags(write=False)
    return array


COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.16, 0.17),
    "orange": (0.96, 0.52, 0.11),
    "yellow": (0.98, 0.83, 0.18),
    "green": (0.20, 0.66, 0.30),
    "blue": (0.16, 0.40, 0.86),
    "purple": (0.53, 0.25, 0.74),
    "pink": (0.97, 0.53, 0.72),
    "brown": (0.47, 0.29, 0.17),
    "white": (0.95, 0.95, 0.94),
    "black": (0.14, 0.14, 0.17),
}
RGB = {name: as_float(rgb) for name, rgb in COLOURS.items()}

SHAPES = (
    "ball",
    "cube",
    "star",
    "heart",
    "cup",
    "tree",
    "house",
    "car",
    "fish",
    "flower",
    "hat",
    "mushroom",
    "boat",
    "apple",
    "robot",
    "doll",
)

#: The shapes that have arms and legs, and what they can do with them; the first is the usual one.
FIGURES = ("robot", "doll")
POSES = ("standing", "waving", "cheering", "stretching", "walking", "jumping", "pointing")

#: What a shape looks like when nobody says a colour ("add a tree").
USUAL_COLOUR = {
    "ball": "red",
    "cube": "blue",
    "star": "yellow",
    "heart": "red",
    "cup": "white",
    "tree": "green",
    "house": "white",
    "car": "red",
    "fish": "blue",
    "flower": "pink",
    "hat": "black",
    "mushroom": "red",
    "boat": "blue",
    "apple": "red",
    "robot": "blue",
    "doll": "pink",
}

#: Patterns keep the colour of the object; materials take its place.
PATTERNS = ("striped", "dotted", "checkered", "zigzag")
MATERIALS = ("wooden", "brick")
TEXTURES = ("plain", *PATTERNS, *MATERIALS)

#: Name -> how a caption says where the objects are.
BACKGROUNDS: dict[str, str] = {
    "meadow": "in a meadow",
    "desert": "in a desert",
    "beach": "on a beach",
    "mountains": "in the mountains",
    "forest": "in a forest",
    "city": "in a city",
    "room": "in a room",
    "moon": "on the moon",
}
OUTDOORS = ("meadow", "desert", "beach", "mountains", "forest", "city")

#: Whole-picture changes of weather, season and hour -> how a caption says them.
GLOBALS: dict[str, str] = {
    "night": "at night",
    "winter": "in winter",
    "rain": "in the rain",
    "fog": "in the fog",
    "sunset": "at sunset",
    "autumn": "in autumn",
}

STYLES = (
    "pixel art",
    "pencil sketch",
    "watercolor",
    "comic",
    "mosaic",
    "oil painting",
    "stained glass",
)

WORDS = (
    "hello",
    "love",
    "sale",
    "open",
    "wow",
    "yes",
    "no",
    "fun",
    "hi",
    "joy",
    "zoo",
    "party",
    "summer",
    "cool",
    "home",
    "music",
)

#: Pairs of (colour, shape) that training scenes never contain: they measure composition.
HELD_OUT_PAIRS = frozenset(
    {
        ("purple", "car"),
        ("green", "heart"),
        ("orange", "fish"),
        ("blue", "mushroom"),
        ("pink", "house"),
        ("black", "star"),
        ("yellow", "cup"),
        ("brown", "boat"),
        ("white", "hat"),
        ("red", "tree"),
        ("purple", "robot"),
        ("orange", "doll"),
    }
)

#: Default place and size of things that an instruction adds: (x, y of the foot).
ADDED_SIZE = 38
ANCHORS: dict[str, tuple[int, int]] = {
    "left": (24, 116),
    "middle": (64, 116),
    "right": (104, 116),
    "top left": (24, 46),
    "top": (64, 46),
    "top right": (104, 46),
}


@dataclass(frozen=True)
class Obj:
    """A thing: `x` is its middle, `y` its foot, `size` the side of its box (design pixels)."""

    shape: str
    colour: str
    texture: str
    x: int
    y: int
    size: int
    flip: bool = False
    grounded: bool = True  # stands on the ground and throws a shadow
    pose: str = POSES[0]  # of FIGURES; the others have none

    @property
    def look(self) -> str:
        """The word that tells it from others of its shape: its material, else its colour."""
        return self.texture if self.texture in MATERIALS else self.colour


@dataclass(frozen=True)
class Text:
    """A word drawn over the picture; `place` is "top" or "bottom"."""

    word: str
    colour: str = "white"
    place: str = "top"


@dataclass(frozen=True)
class Scene:
    background: str
    objects: tuple[Obj, ...]
    text: Text | None = None
    effect: str = ""  # one of GLOBALS, or none
    style: str = ""  # one of STYLES, or none
    light: float = 1.0  # exposure
    mirrored: bool = False  # the background, left to right


def article(words: str) -> str:
    """ "an orange apple", "a red ball"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def describe(obj: Obj) -> str:
    """All that can be seen of an object: "striped red ball", "wooden cup"."""
    pattern = f"{obj.texture} " if obj.texture in PATTERNS else ""
    return f"{pattern}{obj.look} {obj.shape}"


def shape_is_unique(obj: Obj, scene: Scene) -> bool:
    return sum(other.shape == obj.shape for other in scene.objects) == 1


def phrase(obj: Obj, scene: Scene, short: bool = False) -> str:
    """Words that single the object out: "red ball", or "ball" if `short` and that is enough."""
    return obj.shape if short and shape_is_unique(obj, scene) else f"{obj.look} {obj.shape}"


#: train: what a network may learn from. test: everything. pairs: trained wordings about pairs of colour and
#: shape that training never shows. wordings: trained pairs, asked for in wordings that training never uses.
SPLITS = ("train", "test", "pairs", "wordings")


def allowed(colour: str, shape: str, split: str) -> bool:
    """Whether scenes of this split may contain such an object."""
    return split in ("test", "pairs") or (colour, shape) not in HELD_OUT_PAIRS


def some_colour(rng: np.random.Generator, shape: str, split: str) -> str:
    """A colour that a shape may have in this split; in "pairs" often one that training never shows."""
    options = [colour for colour in COLOURS if allowed(colour, shape, split)]
    rare = [colour for colour in COLOURS if (colour, shape) in HELD_OUT_PAIRS]
    return pick(rng, rare if split == "pairs" and rare and rng.random() < 0.6 else options)


def pick(rng: np.random.Generator, options):
    """One of a sequence, evenly."""
    return options[int(rng.integers(len(options)))]


def same_name(first: Obj, second: Obj) -> bool:
    return (first.look, first.shape) == (second.look, second.shape)


def crowded(obj: Obj, others, room: float = 0.40) -> bool:
    """Whether the object would overlap another one by more than a little."""
    for other in others:
        beside = abs(obj.x - other.x) >= room * (obj.size + other.size)
        above = obj.y - obj.size >= other.y - 6 or other.y - other.size >= obj.y - 6
        if not beside and not above:
            return True
    return False


def _random_object(rng: np.random.Generator, n: int, shape: str, split: str) -> Obj:
    colour = some_colour(rng, shape, split)
    draw = rng.random()
    texture = "plain" if draw < 0.74 else pick(rng, PATTERNS) if draw < 0.93 else pick(rng, MATERIALS)
    flip = bool(rng.random() < 0.5)
    pose = pick(rng, POSES) if shape in FIGURES else POSES[0]
    if rng.random() < 0.08:
        x, y = ANCHORS[pick(rng, ("top left", "top", "top right"))]
        return Obj(shape, colour, texture, x, y, ADDED_SIZE, flip, False, pose)
    size = int(rng.integers(15, 29 if n < 3 else 22)) * 2
    if shape in FIGURES:
        size = 4 * round(size * 0.3)  # thin limbs want room
    margin = size // 2 + 2
    x = int(rng.integers(margin, CANVAS - margin + 1))
    return Obj(shape, colour, texture, x, int(rng.integers(88, 123)), size, flip, True, pose)


def random_scene(rng: np.random.Generator, n_objects: int | None = None, split: str = "train") -> Scene:
    """A scene of 1-3 objects, each with a name of its own; one in four repeats a shape."""
    n = n_objects or 1 + int(np.searchsorted((0.4, 0.8), rng.random(), side="right"))
    objects: list[Obj] = []
    shape = pick(rng, SHAPES)
    for _ in range(200):
        if len(objects) == n:
            break
        obj = _random_object(rng, n, shape, split)
        if crowded(obj, objects) or any(same_name(obj, other) for other in objects):
            continue
        objects.append(obj)
        shape = objects[0].shape if rng.random() < 0.2 else pick(rng, SHAPES)
    text = None
    if rng.random() < 0.06 and all(obj.grounded for obj in objects):  # no word over a thing in the air
        text = Text(pick(rng, WORDS), pick(rng, tuple(COLOURS)))
    background = pick(rng, tuple(BACKGROUNDS))
    effect = pick(rng, tuple(GLOBALS)) if background in OUTDOORS and rng.random() < 0.1 else ""
    light = round(float(rng.uniform(0.9, 1.06)), 3)
    return Scene(background, tuple(objects), text, effect, "", light, bool(rng.random() < 0.5))
