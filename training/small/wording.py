"""How people ask: instruction templates, synonyms, and the closed vocabulary they make up.

A template is plain lower-case words with {slots}. The last seventh of every list is held out of
training (see `templates`), so that tests can ask in ways the network has never read.
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
    "cup": ("cup", "mug"),
    "tree": ("tree", "pine tree"),
    "house": ("house", "cottage"),
    "car": ("car", "vehicle"),
    "fish": ("fish",),
    "flower": ("flower", "blossom"),
    "hat": ("hat", "top hat"),
    "mushroom": ("mushroom", "toadstool"),
    "boat": ("boat", "ship", "sailboat"),
    "apple": ("apple",),
    "purple": ("purple", "violet"),
    "meadow": ("a meadow", "a green field", "a grassy field"),
    "desert": ("a desert", "the desert", "sand dunes"),
    "beach": ("a beach", "the beach", "the seaside"),
    "mountains": ("the mountains", "snowy mountains"),
    "forest": ("a forest", "the woods"),
    "city": ("a city", "the city", "a city street"),
    "room": ("a room", "a living room"),
    "moon": ("the moon", "the surface of the moon", "outer space"),
    "plain": ("plain",),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted", "polka dot"),
    "checkered": ("checkered",),
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
POLITE = ("please ", "can you ", "could you ", "i want you to ", "now ")

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
    """The templates a split may use: all of them, less the last seventh for training."""
    full = KINDS[task][kind]
    return full if split == "test" else full[: len(full) - math.ceil(len(full) / 7)]


def slots(template: str) -> set[str]:
    return {slot for _, slot, _, _ in string.Formatter().parse(template) if slot}


def fill(rng: np.random.Generator, task: str, kind: str, split: str, **values: str) -> str:
    """An instruction made from one of the templates whose slots are all given."""
    template = pick(rng, [t for t in templates(task, kind, split) if slots(t) <= values.keys()])
    text = template.format(**values)
    if _is_order(template) and rng.random() < 0.12:
        text = pick(rng, POLITE) + text
    elif rng.random() < 0.03:
        text += " please"
    return text


def _is_order(template: str) -> bool:
    first = template.split()[0]
    return first not in {
        "the",
        "i",
        "there",
        "no",
        "where",
        "what",
        "as",
        "in",
        "it",
        "now",
        "how",
        "let",
        "depth",
        "normal",
        "line",
        "segmentation",
    } and (not first.startswith("{") or first == "{do}")


def name(rng: np.random.Generator, key: str) -> str:
    """The usual name three times in four, else one of its synonyms."""
    options = NAMES.get(key, (key,))
    return options[0] if rng.random() < 0.75 else pick(rng, options)


def spoken(rng: np.random.Generator, words: str) -> str:
    """Swaps every known word of "striped purple ball" for one of its names."""
    return " ".join(name(rng, word) for word in words.split())


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
        *itertools.chain(*NAMES.values(), *PATTERN_NOUNS.values(), *MATERIAL_NOUNS.values()),
        *PICTURES,
        *POLITE,
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
    "a normal map of",
    "a line drawing of",
    *LOOKS,
)
