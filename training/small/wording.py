"""How people ask: instruction templates, synonyms, and the closed vocabulary they make up.

A template is plain lower-case words with {slots}. The last seventh of every list is held out of
training (see `templates`), so that tests can ask in ways the network has never read. The kind "back" of a
task turns a map into a picture; it says with `captions.caption` what the map leaves open.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import string
from pathlib import Path

import numpy as np

from .scene import (
    BACKGROUNDS,
    COLOURS,
    GLOBALS,
    HELD_OUT_PAIRS,
    MATERIALS,
    POSES,
    SHAPES,
    STYLES,
    TEXTURES,
    WORDS,
    article,
    pick,
)

__all__ = ["HELD_OUT_PAIRS", "KINDS", "TEMPLATES", "fill", "name", "templates", "vocabulary", "words_of"]

#: Other everyday names; the first is the usual one.
NAMES: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "sphere"),
    "cube": ("cube", "box", "block"),
    "star": ("star",),
    "heart": ("heart",),
    "cup": ("cup", "mug", "teacup"),
    "tree": ("tree", "pine tree", "fir tree", "pine"),
    "house": ("house", "cottage", "building"),
    "car": ("car", "vehicle", "automobile"),
    "fish": ("fish",),
    "flower": ("flower", "blossom", "daisy"),
    "hat": ("hat", "top hat"),
    "mushroom": ("mushroom", "toadstool"),
    "boat": ("boat", "ship", "sailboat"),
    "apple": ("apple",),
    "robot": ("robot", "android", "toy robot"),
    "doll": ("doll", "puppet", "girl"),
    "red": ("red", "scarlet", "crimson"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "meadow": ("a meadow", "a green field", "a grassy field", "the grass"),
    "desert": ("a desert", "the desert", "sand dunes", "the dunes"),
    "beach": ("a beach", "the beach", "the seaside", "the seashore"),
    "mountains": ("the mountains", "snowy mountains"),
    "forest": ("a forest", "the forest", "the woods"),
    "city": ("a city", "the city", "a city street", "a town"),
    "room": ("a room", "a living room", "the room"),
    "moon": ("the moon", "the surface of the moon", "outer space"),
    "plain": ("plain",),
    "striped": ("striped", "stripy", "stripey"),
    "dotted": ("dotted", "spotted", "polka dot"),
    "checkered": ("checkered", "checked", "chequered"),
    "zigzag": ("zigzag", "zigzag patterned"),
    "wooden": ("wooden",),
    "brick": ("brick",),
    "pixel art": ("pixel art", "8 bit pixel art"),
    "pencil sketch": ("pencil sketch", "pencil drawing"),
    "watercolor": ("watercolor", "watercolor painting"),
    "comic": ("comic", "comic book"),
    "mosaic": ("mosaic", "tile mosaic"),
    "oil painting": ("oil painting", "oil on canvas"),
    "stained glass": ("stained glass", "stained glass window"),
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "middle": ("in the middle", "in the center"),
    "top": ("at the top", "in the air"),
    "top left": ("at the top left", "in the top left corner"),
    "top right": ("at the top right", "in the top right corner"),
}

#: How captions say where and when, beside what scene.BACKGROUNDS and scene.GLOBALS say.
CAPTION_NAMES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on a meadow", "in a green field", "on the grass"),
    "desert": ("in a desert", "in the desert", "among sand dunes"),
    "beach": ("on a beach", "on the beach", "at the seaside"),
    "mountains": ("in the mountains", "in front of snowy mountains"),
    "forest": ("in a forest", "in the woods"),
    "city": ("in a city", "in the city", "on a city street"),
    "room": ("in a room", "in a living room", "indoors"),
    "moon": ("on the moon", "in outer space"),
    "night": ("at night", "in the dark"),
    "winter": ("in winter", "in the snow"),
    "rain": ("in the rain", "on a rainy day"),
    "fog": ("in the fog", "in the mist"),
    "sunset": ("at sunset", "at dusk"),
    "autumn": ("in autumn", "in the fall"),
}

#: What surfaces are called as a noun: "cover it with stripes", "made of wood".
PATTERN_NOUNS = {
    "striped": ("stripes",),
    "dotted": ("dots", "polka dots", "spots"),
    "checkered": ("checks", "a checkered pattern"),
    "zigzag": ("zigzags", "a zigzag pattern"),
}
MATERIAL_NOUNS = {"wooden": ("wood",), "brick": ("bricks", "brick")}

#: Weather, season and hour: as a noun phrase, as an adjective, as a stuff to add.
WEATHER: dict[str, dict[str, tuple[str, ...]]] = {
    "night": {"when": ("night", "nighttime"), "how": ("dark outside",)},
    "winter": {"when": ("winter", "a snowy day"), "how": ("snowy", "wintry"), "stuff": ("snow",)},
    "rain": {"when": ("a rainy day",), "how": ("rainy",), "stuff": ("rain",)},
    "fog": {"when": ("a foggy day", "a misty morning"), "how": ("foggy", "misty"), "stuff": ("fog", "mist")},
    "sunset": {"when": ("sunset", "dusk", "the golden hour")},
    "autumn": {"when": ("autumn", "fall"), "stuff": ("autumn leaves", "falling leaves")},
    "clear": {"when": ("a clear day", "a sunny day", "a normal day"), "how": ("sunny", "clear")},
}

#: Whole-picture colour changes: as an adjective ("make it ...") and as a verb ("... the picture").
LOOKS: dict[str, dict[str, tuple[str, ...]]] = {
    "brighter": {"how": ("brighter", "lighter"), "do": ("brighten", "lighten")},
    "darker": {"how": ("darker",), "do": ("darken",)},
    "black and white": {
        "how": ("black and white", "grayscale", "monochrome"),
        "do": ("remove the color from", "take the color out of"),
    },
    "colorful": {
        "how": ("more colorful", "more vivid", "more saturated"),
        "do": ("saturate", "boost the colors of"),
    },
    "muted": {
        "how": ("less colorful", "less saturated", "muted", "faded"),
        "do": ("desaturate", "mute the colors of"),
    },
    "sepia": {
        "how": ("sepia", "sepia toned", "old fashioned"),
        "do": ("apply a sepia tone to", "add a sepia filter to"),
    },
    "blurry": {"how": ("blurry", "blurred", "out of focus"), "do": ("blur",)},
    "inverted": {"how": ("inverted", "negative"), "do": ("invert the colors of", "invert")},
    "warmer": {"how": ("warmer",), "do": ("warm up", "make the colors warmer in")},
    "colder": {"how": ("colder", "cooler"), "do": ("cool down", "make the colors colder in")},
    "high contrast": {
        "how": ("high contrast", "higher in contrast"),
        "do": ("increase the contrast of", "add contrast to"),
    },
    "low contrast": {
        "how": ("low contrast", "lower in contrast", "flatter"),
        "do": ("reduce the contrast of", "lower the contrast of"),
    },
}

PICTURES = ("the picture", "the image", "the photo", "it", "this", "this picture", "the whole image")
POLITE = ("please ", "can you ", "could you ", "i want you to ", "now ", "would you ", "just ", "then ")
THANKS = (" please", " for me", " thanks", " if you can")

#: Words that mean the same wherever a template says them.
SAME: dict[str, tuple[str, ...]] = {
    "color": ("colour",),
    "colors": ("colours",),
    "picture": ("image", "pic", "photo"),
    "image": ("picture", "photo"),
    "photo": ("photograph", "picture"),
    "remove": ("delete", "erase"),
    "detect": ("find", "locate"),
    "add": ("put", "insert"),
    "change": ("modify",),
    "background": ("backdrop", "scenery"),
    "bigger": ("larger", "huge"),
    "smaller": ("tinier", "little"),
    "center": ("centre",),
}

#: task -> kind -> templates. Kinds of one task differ in their slots and in what is done.
KINDS: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("templates.json").read_text(encoding="utf-8")
)

TEMPLATES: dict[str, list[str]] = {
    task: list(dict.fromkeys(itertools.chain(*kinds.values()))) for task, kinds in KINDS.items()
}

#: Where a thing may be put beside another one.
RELATIONS = {
    "left of": ("to the left of the {obj}", "left of the {obj}"),
    "right of": ("to the right of the {obj}", "right of the {obj}"),
    "on": ("on top of the {obj}", "on the {obj}"),
}


def templates(task: str, kind: str, split: str = "train") -> list[str]:
    """The templates a split (scene.SPLITS) may use: the last seventh is held out of "train" and "pairs",
    is all there is in "wordings", and part of "test"."""
    full = KINDS[task][kind]
    known = len(full) - math.ceil(len(full) / 7)
    return full if split == "test" else full[known:] if split == "wordings" else full[:known]


def slots(template: str) -> set[str]:
    return {slot for _, slot, _, _ in string.Formatter().parse(template) if slot}


def fill(rng: np.random.Generator, task: str, kind: str, split: str, **values: str) -> str:
    """An instruction made from one of the templates whose slots are all given; "" if there is none."""
    fitting = [t for t in templates(task, kind, split) if slots(t) <= values.keys()]
    if not fitting:
        return ""
    template = pick(rng, fitting)
    if split != "wordings" and rng.random() < 0.1:
        template = _reworded(rng, template)
    text = template.format(**values)
    if _is_order(template) and rng.random() < 0.12:
        text = pick(rng, POLITE) + text
    elif rng.random() < 0.05:
        text += pick(rng, THANKS)
    return text


def _reworded(rng: np.random.Generator, template: str) -> str:
    """The template with one of its words exchanged for another of SAME."""
    words = template.split()
    known = [k for k, word in enumerate(words) if word in SAME]
    if known:
        k = pick(rng, known)
        words[k] = pick(rng, SAME[words[k]])
    return " ".join(words)


_NO_ORDERS = frozenset(
    re.findall(
        r"\w+",
        """the i there no where what as in it now how let depth normal line segmentation this from a an pose
        skeleton stick sketch label outline which can could who everything new more has have without with also
        only please bounding black we all outlines map near mask same semantic lines should was and to""",
    )
)


def _is_order(template: str) -> bool:
    """Whether "please" and the like can stand before it."""
    first = template.split()[0]
    return first not in _NO_ORDERS and (not first.startswith("{") or first == "{do}")


def name(rng: np.random.Generator, key: str) -> str:
    """The usual name three times in four, else one of its synonyms."""
    options = NAMES.get(key, (key,))
    return options[0] if rng.random() < 0.75 else pick(rng, options)


def spoken(rng: np.random.Generator, words: str) -> str:
    """Swaps every known word of "striped purple ball" for one of its names."""
    return " ".join(name(rng, word) for word in words.split())


def caption_name(rng: np.random.Generator, key: str) -> str:
    """How a caption says a backdrop or a weather: the usual words twice in three."""
    options = CAPTION_NAMES[key]
    return options[0] if rng.random() < 0.67 else pick(rng, options)


def a_style(rng: np.random.Generator, style: str) -> tuple[str, str]:
    """A name of the style, without and with its article ("pixel art" takes none)."""
    called = name(rng, style)
    bare = called.endswith((" art", "on canvas", "comic", "glass"))
    return called, called if bare and called != "comic" else article(called)


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers of a text; all punctuation is dropped."""
    return re.findall(r"[a-z0-9]+", text.lower())


def vocabulary() -> list[str]:
    """Every word that instructions and captions can contain, sorted."""
    texts: list[str] = [
        re.sub(r"\{\w+\}", " ", t) for kinds in KINDS.values() for full in kinds.values() for t in full
    ]
    texts += [re.sub(r"\{\w+\}", " ", t) for group in RELATIONS.values() for t in group]
    texts += [
        *COLOURS,
        *SHAPES,
        *TEXTURES,
        *MATERIALS,
        *STYLES,
        *WORDS,
        *BACKGROUNDS,
        *BACKGROUNDS.values(),
        *GLOBALS,
        *GLOBALS.values(),
    ]
    texts += [
        *itertools.chain(
            *NAMES.values(),
            *CAPTION_NAMES.values(),
            *SAME.values(),
            *PATTERN_NOUNS.values(),
            *MATERIAL_NOUNS.values(),
        ),
        *PICTURES,
        *POLITE,
        *THANKS,
        *POSES,
    ]
    texts += [
        text
        for table in (WEATHER, LOOKS)
        for forms in table.values()
        for group in forms.values()
        for text in group
    ]
    texts += ["a an and nothing with the text picture of in on please at top bottom", *CAPTION_WORDS]
    return sorted(set(itertools.chain(*map(words_of, texts))))


#: What captions say of pictures that are not plain scenes.
CAPTION_WORDS = (
    "a picture of with a box around the highlighted",
    "a depth map of",
    "a segmentation map of",
    "a pose map of",
    "a normal map of",
    "a line drawing of",
    "a small big on the left right in the middle air",
    *LOOKS,
)
