"""Everyday instructions by the thousand: patterns with options and slots, and how people mistype them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..small.scene import article, pick

HERE = Path(__file__).parent
KINDS: dict[str, str] = json.loads((HERE / "slots.json").read_text(encoding="utf-8"))
"""Kind of word -> its words, separated by commas."""
UNLISTED = ("rare", "rare_style", "rare_place")
"""Kinds that stand for all the words nobody listed: the predictor's lexicon does not get them."""

_GRAMMAR: dict[str, dict] = json.loads((HERE / "grammar.json").read_text(encoding="utf-8"))
PATTERNS: dict[str, dict[str, list[str]]] = {k: v for k, v in _GRAMMAR.items() if k != "slots"}
"""task -> "orders" (imperatives) and "phrases" (all else) -> patterns."""
_WORDS: dict[str, list[str]] = {
    name: [word.strip() for word in line.split(",")] for name, line in (KINDS | _GRAMMAR["slots"]).items()
}

THINGS = ("animal", "vehicle", "furniture", "thing", "thing", "food", "wear", "building", "plant", "nature")
OWNERS = (
    "the",
    "the",
    "the",
    "the",
    "that",
    "his",
    "her",
    "their",
    "my",
    "our",
    "this",
    "these",
    "both",
    "all the",
)
POINTED = (
    "on the left",
    "on the right",
    "in the middle",
    "in the back",
    "in front",
    "over there",
    "behind him",
)
PRONOUNS = ("him", "her", "them", "it", "me", "us")
BEGINNINGS = (
    ("please", "can you", "could you", "can you please", "could you please", "would you", "i want you to")
    + (
        "i would like you to",
        "i need you to",
        "now",
        "ok now",
        "next",
        "just",
        "kindly",
        "try to",
        "let's",
        "pls",
    )
    + (
        "can someone",
        "could someone please",
        "can anyone",
        "hey, can you",
        "hi, could you",
        "then",
        "also",
        "go ahead and",
    )
    + ("is it possible to", "would it be possible to", "i'd like to", "we need to", "you should", "help me")
)
ENDINGS = (
    (
        "please",
        "pls",
        "thanks",
        "thank you",
        "for me",
        "if you can",
        "if possible",
        "a bit",
        "now",
        "asap",
        "ok?",
        "!",
    )
    + (
        ", keep everything else the same",
        ", leave the rest as it is",
        "and make it look natural",
        "for my wife",
    )
    + (", make it realistic", "in this photo", "in the picture", "in this image", "so it looks better", ":)")
)
SHORT = {
    "you": "u",
    "please": "pls",
    "are": "r",
    "the": "da",
    "and": "n",
    "to": "2",
    "with": "w/",
    "picture": "pic",
}
SHORT |= {
    "background": "bg",
    "because": "cuz",
    "want": "wanna",
    "make": "mak",
    "the picture": "pic",
    "photo": "foto",
}


def choose(rng: np.random.Generator, pattern: str) -> str:
    """The pattern with one of the options of every (a|b|) taken, inner ones first."""
    while found := re.search(r"\(([^()]*)\)", pattern):
        pattern = pattern[: found.start()] + pick(rng, found[1].split("|")) + pattern[found.end() :]
    return " ".join(pattern.split())


def fill(rng: np.random.Generator, pattern: str) -> str:
    """One instruction made from a pattern."""
    text = re.sub(r"\{(\w+)\}", lambda slot: value(rng, slot[1]), choose(rng, pattern))
    return " ".join(text.replace(" ,", ",").split())


def value(rng: np.random.Generator, slot: str) -> str:
    """Words for a slot: one of SLOTS, or any word of the kind of that name."""
    return SLOTS[slot](rng) if slot in SLOTS else pick(rng, _WORDS[slot])


def _noun(rng: np.random.Generator) -> str:
    chance = rng.random()
    if chance < 0.16:
        return pick(rng, _WORDS["rare"])
    return pick(rng, _WORDS["person" if chance < 0.3 else pick(rng, THINGS)])


def _described(rng: np.random.Generator, noun: str) -> str:
    chance = rng.random()
    kind = "colour" if chance < 0.2 else "adj" if chance < 0.25 else "materialadj" if chance < 0.28 else ""
    return f"{pick(rng, _WORDS[kind])} {noun}" if kind else noun


def _the_obj(rng: np.random.Generator) -> str:
    chance = rng.random()
    if chance < 0.04:
        return pick(rng, ("it", "this", "that", "him", "her", "them"))
    if chance < 0.12:
        return (
            f"the {pick(rng, _WORDS['person'])}'s {pick(rng, _WORDS['wear' if chance < 0.09 else 'thing'])}"
        )
    text = f"{pick(rng, OWNERS)} {_described(rng, _noun(rng))}"
    if rng.random() < 0.12:
        return f"{text} {pick(rng, POINTED)}"
    if rng.random() < 0.06:
        return f"{text} {pick(rng, ('on', 'next to', 'behind', 'of', 'in', 'with'))} the {_noun(rng)}"
    return text


def _a_obj(rng: np.random.Generator) -> str:
    noun = _described(rng, _noun(rng))
    return noun if noun.endswith("s") and rng.random() < 0.7 else _counted(rng, noun)


def _counted(rng: np.random.Generator, noun: str) -> str:
    if rng.random() < 0.1:
        return f"{pick(rng, ('some', 'two', 'three', 'a few', 'several', 'another', 'a pair of'))} {noun}"
    return article(noun)


def _the_living(rng: np.random.Generator) -> str:
    chance = rng.random()
    if chance < 0.25:
        return pick(rng, PRONOUNS)
    noun = pick(rng, _WORDS["person" if chance < 0.65 else "animal" if chance < 0.92 else "rare"])
    return f"{pick(rng, ('the', 'the', 'my', 'that', 'his', 'her', 'our'))} {noun}"


def _the_part(rng: np.random.Generator) -> str:
    part = pick(rng, _WORDS["part" if rng.random() < 0.7 else "wear"])
    owner = pick(rng, ("his", "her", "their", "my", "the", "the", "its", f"{_the_living(rng)}'s"))
    return f"{owner} {part}" if owner.split()[0] not in {"him's", "them's"} else f"the {part}"


def _some(rng: np.random.Generator) -> str:
    noun = _noun(rng)
    plural = noun if noun.endswith("s") else f"{noun}s"
    return pick(rng, ("", "some ", "lots of ", "a few ", "many ")) + plural


def _a_place(rng: np.random.Generator) -> str:
    place = pick(rng, _WORDS["place" if rng.random() < 0.75 else "rare_place"])
    if place.startswith(("the ", "a ", "an ")) or rng.random() < 0.3:
        return place
    return pick(rng, (article(place), f"the {place}", f"{article(pick(rng, _WORDS['backdropadj']))} {place}"))


def _a_style(rng: np.random.Generator) -> str:
    style = pick(rng, _WORDS["style" if rng.random() < 0.72 else "rare_style"])
    return pick(rng, (style, article(style), f"the {style}", article(f"{style} {pick(rng, ARTWORKS)}")))


ARTWORKS = ("painting", "drawing", "picture", "artwork", "illustration", "poster", "character", "style image")


def _word(rng: np.random.Generator) -> str:
    word, chance = pick(rng, _WORDS["word"]), rng.random()
    if chance < 0.5:
        return f'"{word}"'
    if chance < 0.62:
        return f"'{word}'"
    return word.upper() if chance < 0.75 else word.capitalize() if chance < 0.85 else word


SLOTS: Mapping[str, Callable[[np.random.Generator], str]] = {
    "obj": lambda rng: _described(rng, _noun(rng)),
    "the_obj": _the_obj,
    "a_obj": _a_obj,
    "some_objs": _some,
    "the_living": _the_living,
    "the_part": _the_part,
    "the_wear": lambda rng: f"{pick(rng, ('his', 'her', 'the', 'their', 'my'))} {pick(rng, _WORDS['wear'])}",
    "a_wear": lambda rng: _counted(rng, _described(rng, pick(rng, _WORDS["wear"]))),
    "a_place": _a_place,
    "a_style": _a_style,
    "style": lambda rng: pick(rng, _WORDS["style" if rng.random() < 0.75 else "rare_style"]),
    "a_material": lambda rng: article(pick(rng, _WORDS["material"])),
    "word": _word,
}


def dressed(rng: np.random.Generator, text: str, order: bool) -> str:
    """The text as somebody would really type it: politeness around orders, slips, shorthand, capitals."""
    if order and rng.random() < 0.3:
        text = f"{pick(rng, BEGINNINGS)} {text}"
    if rng.random() < 0.12:
        text = f"{text} {pick(rng, ENDINGS)}".replace(" ,", ",").replace(" !", "!")
    return mistyped(rng, text)


def mistyped(rng: np.random.Generator, text: str) -> str:
    """Now and then a letter lost or doubled, an article lost, shorthand, capitals, a mark at the end."""
    if rng.random() < 0.1:
        text = re.sub(r"\b(the|a|an) ", "", text)
    if rng.random() < 0.06:
        text = " ".join(SHORT.get(word, word) for word in text.split())
    if rng.random() < 0.12:
        words = text.split()
        at = int(rng.integers(len(words)))
        words[at] = _slip(rng, words[at])
        text = " ".join(words)
    chance = rng.random()
    text = text[:1].upper() + text[1:] if chance < 0.35 else text.upper() if chance > 0.99 else text
    return text + pick(rng, ("", "", "", "", ".", ".", "!", "?", "..."))


def _slip(rng: np.random.Generator, word: str) -> str:
    if len(word) < 4 or not word.isalpha():
        return word
    at = int(rng.integers(1, len(word) - 1))
    kind = int(rng.integers(3))
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
