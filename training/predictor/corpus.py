"""The predictor's texts: what it is trained on, tuned on (dev), and tested on (held out).

Two wordings count as one when they have the same skeleton: politeness and small words gone, things blank,
and colours, places, styles and the like replaced by their kind. What is held out has no skeleton in common
with what is trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...core.predictors.reading import Lexicon, words_of
from ...core.tasks import TASK_IDS
from ..small.scene import pick
from . import world
from .grammar import HERE, KINDS, PATTERNS, THINGS, UNLISTED, dressed, fill, mistyped

UNCLEAR = ""
"""The label of texts that ask for no edit: the predictor learns to be unsure of them."""
BLANKS = {*THINGS, "person", "part"}
_POLITE = frozenset(
    # said around an order
    ("please", "pls", "plz", "kindly", "can", "could", "would", "will", "you", "u", "someone", "somebody")
    + ("anyone", "anybody", "hey", "hi", "ok", "now", "then", "also", "just", "thanks", "thank", "to", "for")
    + ("i", "me", "want", "need", "like")
    # before a noun
    + ("the", "a", "an", "my", "our", "his", "her", "their", "its", "your", "this", "that", "these", "those")
    + ("some",)
)


@dataclass(frozen=True)
class Wording:
    """A text and its task (UNCLEAR for none); `voice` tells who wrote it."""

    task: str
    text: str
    voice: str = ""


def lexicon() -> Lexicon:
    """The kinds of words that the predictor is given."""
    return Lexicon.of({kind: line for kind, line in KINDS.items() if kind not in UNLISTED})


def read_wordings(name: str) -> list[Wording]:
    """The wordings of training/predictor/<name>.jsonl."""
    lines = (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Wording(**json.loads(line)) for line in lines]


def unclear_texts() -> list[str]:
    """Texts that ask for nothing, or not in English."""
    return [json.loads(line) for line in (HERE / "unclear.jsonl").read_text(encoding="utf-8").splitlines()]


@cache
def _structure() -> frozenset[str]:
    """The words that make a wording: those that the grammar's patterns say outright."""
    patterns = [p for group in PATTERNS.values() for listed in group.values() for p in listed]
    return frozenset(word for p in patterns for word in words_of(re.sub(r"\{\w+\}", " ", p)))


@cache
def _all_kinds() -> Lexicon:
    return Lexicon.of(KINDS)


def skeleton(text: str) -> str:
    """The wording without what it is about; see above. Unknown words are taken for things."""
    parts: list[str] = []
    for word, kinds in _all_kinds().read([w for w in words_of(text) if w not in _POLITE]):
        thing = not kinds or kinds[0] in BLANKS or kinds[0] == "rare"
        if not thing:
            part = f"<{kinds[0].removeprefix('rare_')}>"
        elif word in _structure() or (not kinds and not parts):
            part = word
        else:
            part = "_"
        if part == "_" and parts and parts[-1] in ("_", "<colour>", "<adj>", "<materialadj>"):
            parts.pop()
        parts.append(part)
    return " ".join(parts)


def swapped(rng: np.random.Generator, text: str, share: float = 0.5) -> str:
    """The text with some of its things, colours, places and so on exchanged for others of the same kind."""
    listed = _listed()

    def other(found: re.Match[str]) -> str:
        kinds = lexicon_cached().kinds.get(found[0].lower(), ())
        if not kinds or kinds[0] not in SWAPPED or rng.random() > share:
            return found[0]
        return pick(rng, listed[kinds[0]])

    return re.sub(r"[A-Za-z]+", other, text)


SWAPPED = {*THINGS, "person", "colour", "material", "place", "time", "materialadj", "weatheradj"}


@cache
def lexicon_cached() -> Lexicon:
    return lexicon()


@cache
def _listed() -> dict[str, list[str]]:
    return {kind: [word.strip() for word in line.split(",")] for kind, line in KINDS.items()}


def everyday_templates() -> list[tuple[str, str, bool]]:
    """(task, pattern, whether it is an order) of the grammar."""
    return [
        (task, pattern, kind == "orders")
        for task, group in PATTERNS.items()
        for kind, listed in group.items()
        for pattern in listed
    ]


def plain_examples(seed: int, per_task: int) -> list[Wording]:
    """Training wordings before anybody mistypes them: grammar, everyday wordings, the world's templates."""
    rng = np.random.default_rng(seed)
    everyday = read_wordings("everyday")
    known = [template for template in world.templates() if not template.held_out]
    examples: list[Wording] = []
    for task in TASK_IDS:
        patterns = [(pattern, order) for t, pattern, order in everyday_templates() if t == task]
        written = [wording.text for wording in everyday if wording.task == task]
        scenes = [template for template in known if template.task == task]
        for number in range(per_task):
            chance = rng.random()
            if chance < 0.5:
                pattern, order = patterns[number % len(patterns)]
                examples.append(Wording(task, fill(rng, pattern), "order" if order else "phrase"))
            elif chance < 0.85 or not scenes:
                text = written[number % len(written)]
                examples.append(
                    Wording(task, swapped(rng, text) if number >= len(written) else text, "written")
                )
            else:
                examples.append(Wording(task, world.filled(scenes[number % len(scenes)], rng), "world"))
    return examples


def training_examples(seed: int, per_task: int) -> list[Wording]:
    """What the predictor is trained on: plain_examples as people type them, and unclear texts."""
    kept_out = {skeleton(text) for _, text in world.held_out(8, seed=1)}
    rng = np.random.default_rng((seed, 1))
    examples = []
    for wording in plain_examples(seed, per_task):
        if wording.voice != "world" and skeleton(wording.text) in kept_out:
            continue
        if wording.voice in ("order", "phrase"):
            text = dressed(rng, wording.text, wording.voice == "order")
        else:
            text = mistyped(rng, wording.text)
        examples.append(Wording(wording.task, text, wording.voice))
    strange = unclear_texts()
    for number in range(per_task // 2):
        examples.append(
            Wording(UNCLEAR, _garbled(rng, strange[number % len(strange)], number >= len(strange)))
        )
    return examples


def _garbled(rng: np.random.Generator, text: str, change: bool) -> str:
    """A strange text, or a stranger one: its words shuffled, or letters at random."""
    if not change:
        return text
    if rng.random() < 0.5:
        words = text.split()
        return " ".join(words[i] for i in rng.permutation(len(words)))
    letters = "abcdefghijklmnopqrstuvwxyz   "
    return "".join(pick(rng, letters) for _ in range(int(rng.integers(3, 40)))).strip() or "x"


def without_known(wordings: Iterable[Wording], known: Iterable[str]) -> list[Wording]:
    """Those whose skeleton is not among the skeletons `known`."""
    skeletons = set(known)
    return [wording for wording in wordings if skeleton(wording.text) not in skeletons]


def training_skeletons(seed: int, per_task: int) -> set[str]:
    """The skeletons of everything trained on, before mistyping."""
    return {skeleton(wording.text) for wording in plain_examples(seed, per_task)}


def accuracy(predicted: Sequence[str], wordings: Sequence[Wording]) -> float:
    """The share of wordings whose task was told right."""
    return sum(p == w.task for p, w in zip(predicted, wordings, strict=True)) / max(len(wordings), 1)
