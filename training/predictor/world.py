"""Instructions as the small world's templates make them, without drawing anything.

The wordings are those of training/small/templates.json; `held_out` are the templates that neither the bundled
editor nor the predictor is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...core.errors import EmuEditError
from ..small import scene, wording
from ..small.captions import caption
from ..small.scene import article, pick
from ..small.wording import LOOKS, MATERIAL_NOUNS, NAMES, PATTERN_NOUNS, PICTURES, RELATIONS, WEATHER, spoken

Draw = Callable[[np.random.Generator], str]


@dataclass(frozen=True)
class Template:
    """One template: its task, its words with {slots}, and whether it is kept from training."""

    task: str
    words: str
    held_out: bool


def templates() -> Iterator[Template]:
    """All templates of the world; the last of each list are held out, by the rule of training/small."""
    for task, kinds in wording.KINDS.items():
        for kind, full in kinds.items():
            known = len(wording.templates(task, kind, "train"))
            for number, words in enumerate(full):
                yield Template(task, words, number >= known)


def _form(table: dict[str, dict[str, tuple[str, ...]]], slot: str) -> Draw:
    """A form of a table such as WEATHER: {"night": {"when": (...)}}."""
    forms = [text for group in table.values() for text in group.get(slot, ())]
    return lambda rng: pick(rng, forms)


def _obj(rng: np.random.Generator) -> str:
    shape = pick(rng, scene.SHAPES)
    if rng.random() < 0.4:
        return spoken(rng, shape)
    return spoken(rng, f"{pick(rng, (*scene.COLOURS, *scene.MATERIALS))} {shape}")


def _thing(rng: np.random.Generator) -> str:
    pattern = f"{pick(rng, scene.PATTERNS)} " if rng.random() < 0.15 else ""
    return article(spoken(rng, f"{pattern}{pick(rng, tuple(scene.COLOURS))} {pick(rng, scene.SHAPES)}"))


def _where(rng: np.random.Generator) -> str:
    if rng.random() < 0.4:
        return pick(rng, RELATIONS[pick(rng, tuple(RELATIONS))]).format(obj=_obj(rng))
    return wording.name(rng, pick(rng, tuple(scene.ANCHORS)))


def _named(keys: tuple[str, ...]) -> Draw:
    return lambda rng: wording.name(rng, pick(rng, keys))


def _style(rng: np.random.Generator, with_article: bool) -> str:
    return wording.a_style(rng, pick(rng, scene.STYLES))[with_article]


def _caption(rng: np.random.Generator) -> str:
    return caption(scene.random_scene(rng), rng)


SLOTS: dict[str, Draw] = {
    "obj": _obj,
    "bare": _obj,
    "colour": _named(tuple(scene.COLOURS)),
    "a_colour": lambda rng: article(pick(rng, tuple(scene.COLOURS))),
    "a_shape": lambda rng: article(wording.name(rng, pick(rng, scene.SHAPES))),
    "a_thing": _thing,
    "where": _where,
    "texture": _named((*scene.PATTERNS, *scene.MATERIALS)),
    "pattern": lambda rng: pick(rng, PATTERN_NOUNS[pick(rng, tuple(PATTERN_NOUNS))]),
    "material": lambda rng: pick(rng, MATERIAL_NOUNS[pick(rng, tuple(MATERIAL_NOUNS))]),
    "backdrop": _named(tuple(scene.BACKGROUNDS)),
    "when": _form(WEATHER, "when"),
    "stuff": _form(WEATHER, "stuff"),
    "style": lambda rng: _style(rng, False),
    "a_style": lambda rng: _style(rng, True),
    "word": lambda rng: f'"{pick(rng, scene.WORDS)}"',
    "old": lambda rng: f'"{pick(rng, scene.WORDS)}"',
    "pic": lambda rng: pick(rng, PICTURES),
    "do": _form(LOOKS, "do"),
    "caption": _caption,
}
HOW = {"color": _form(LOOKS, "how"), "global": _form(WEATHER, "how")}
EDGES = ("at the top", "at the bottom")  # where the world's texts stand


def filled(template: Template, rng: np.random.Generator) -> str:
    """The template with every slot filled, now and then politely asked, as training/small asks.

    Raises EmuEditError for a slot that SLOTS does not know.
    """
    values = {}
    for slot in sorted(wording.slots(template.words)):
        draw = HOW.get(template.task) if slot == "how" else SLOTS.get(slot)
        if slot == "where" and template.task == "text":
            values[slot] = pick(rng, EDGES)
        elif draw is None:
            raise EmuEditError(
                f"template {template.words!r}: the predictor's trainer does not know the slot {slot!r}; "
                "add it to SLOTS in training/predictor/world.py."
            )
        else:
            values[slot] = draw(rng)
    text = template.words.format(**values)
    chance = rng.random()
    if chance < 0.1 and template.words.split()[0] not in NO_ORDERS:
        return pick(rng, wording.POLITE) + text
    return f"{text} please" if chance > 0.97 else text


NO_ORDERS = {"the", "i", "there", "no", "where", "what", "as", "in", "it", "now", "how", "let", *NAMES}


def held_out(count: int, seed: int) -> list[tuple[str, str]]:
    """(task, text): `count` fillings of every held-out template."""
    rng = np.random.default_rng(seed)
    return [(t.task, filled(t, rng)) for t in templates() if t.held_out for _ in range(count)]
