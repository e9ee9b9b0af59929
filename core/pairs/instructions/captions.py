"""A caption taken apart as far as rules can: its things, where it is, when, what is written, in which style.

Two sets of words: those of the procedural world, whose usual captions (training/small/captions.py) are
understood exactly, and everyday ones, with which any caption is read as well as an article before a noun
allows. Edits are splices of the text, so what they do not touch keeps its words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ...errors import EmuEditError

HERE = Path(__file__).parent
WORDS = ("everyday", "world")
_INTO = "in|on|at|by|near|along|through|across|inside|among|down|up|around|outside|over|past|towards"
_INNER = rf"(?!(?:{_INTO}|an?|the|of|and)\b)\w+"
# What may stand behind a place; "on a garden wall" is none.
_THEN = r"(?=$|[,;]| (?:at|in|on|with|and|that|by|near|under|during|while|after|before|for|as)\b)"
_LIST = r"(?:,? and |, )"
_CARRIES = (
    r",? (?:and|with|next to|beside|near|behind|in front of|above|under|holding|wearing|carrying|on|in|by|"
    r"among|between|against|over) $"
)


@cache
def words_called(name: str) -> Words:
    """The words of everyday.json or world.json."""
    if name not in WORDS:
        raise EmuEditError(f"grammar: there are no words {name!r}; give one of {', '.join(WORDS)}.")
    return Words(json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Thing:
    """A noun phrase: where its article starts and its words end, the article, the adjectives, the noun as it
    stands, its usual name, and its kind ("animal", ...; "" if unknown)."""

    start: int
    end: int
    article: str
    before: str
    noun: str
    name: str
    kind: str

    @property
    def words(self) -> str:
        return f"{self.before} {self.noun}".strip()


class Words:
    """A vocabulary: kinds of things, colours, surfaces, places, weather, styles, looks (see world.json)."""

    def __init__(self, table: Mapping[str, Any]):
        self.table = table
        self.kind_of = {name: kind for kind, names in table["kinds"].items() for name in names}
        self.usual: dict[str, str] = {**{n: n for n in self.kind_of}, **table["synonyms"]}

    def __getitem__(self, key: str) -> Any:
        return self.table[key]

    @property
    def exact(self) -> bool:
        """Whether captions hold nothing but known words."""
        return bool(self.table["exact"])

    @cached_property
    def names(self) -> str:
        """All names of things as one pattern, longest first."""
        return _any([*self.usual, *(f"{name}s" for name in self.usual if not self.exact)])

    @cached_property
    def places(self) -> re.Pattern[str]:
        """Where a scene is: a known phrase, or a preposition before a known kind of place."""
        known = _any([words for place in self["places"].values() for words in place["where"]])
        if self["place_nouns"]:
            nouns = _any(self["place_nouns"])
            known += rf"|(?:{_INTO}) (?:an?|the) (?:{_INNER} ){{0,3}}(?:{nouns})s?"
        return re.compile(rf" (?P<where>{known}){_THEN}", re.IGNORECASE)

    @cached_property
    def effects(self) -> re.Pattern[str]:
        known = _any([words for effect in self["effects"].values() for words in effect["where"]])
        return re.compile(rf" (?P<effect>{known})\b", re.IGNORECASE)


def _any(options: list[str]) -> str:
    return "|".join(re.escape(option) for option in sorted(set(options), key=lambda o: (-len(o), o)))


def article(words: str) -> str:
    """ "an orange apple", "a red ball"."""
    return f"{'an' if words[:1].lower() in tuple('aeiou') else 'a'} {words}"


class Caption:
    """A caption and what was understood of it. Raises EmuEditError if it is empty."""

    def __init__(self, text: str, words: Words):
        self.text, self.words = " ".join(text.split()).rstrip("."), words
        if not self.text:
            raise EmuEditError("captions: one is empty; give a sentence that says what the picture shows.")
        body = self.text
        self.written = _WRITTEN.search(body)
        styled = [f"{style['caption']} " for style in words["styles"].values()]
        self.style = next((len(opening) for opening in styled if body.lower().startswith(opening)), 0)
        self.effect = _last(words.effects, body)
        self.where = self._where(body)
        self.things = tuple(self._found(body))

    def _where(self, body: str) -> re.Match[str] | None:
        """The last place told that is no weather ("in the snow")."""
        effect = self.effect
        found = [
            hit
            for hit in self.words.places.finditer(body)
            if not (effect and hit.start() < effect.end() and effect.start() < hit.end())
        ]
        return found[-1] if found else None

    def _found(self, body: str) -> list[Thing]:
        closed = [span for span in (self.where, self.effect, self.written) if span]
        pattern = _WORLD if self.words.exact else _EVERYDAY
        things = []
        for hit in re.finditer(pattern.format(names=self.words.names), body[self.style :], re.IGNORECASE):
            start, end = hit.start("article") + self.style, hit.end("noun") + self.style
            thing = self._thing(start, hit["article"], body[hit.end("article") + self.style : end].strip())
            if thing is not None and not any(
                span.start() < thing.end and thing.start < span.end() for span in closed
            ):
                things.append(thing)
        return things

    def _thing(self, start: int, first: str, words: str) -> Thing | None:
        """The noun phrase that `words` begin: up to a verb, a preposition, or the known name."""
        known = re.search(rf"\b(?:{self.words.names})$", words.lower()) if self.words.exact else None
        if known:
            before, noun = words[: known.start()].strip(), words[known.start() :]
        else:
            kept = self._phrase(words.split())
            if not kept:
                return None
            size = 2 if len(kept) > 1 and " ".join(kept[-2:]).lower() in self.words.usual else 1
            before, noun = " ".join(kept[:-size]), " ".join(kept[-size:])
        lower = noun.lower()
        name = self.words.usual.get(lower) or self.words.usual.get(lower.removesuffix("s"), lower)
        end = start + len(first) + 1 + len(f"{before} {noun}".strip())
        return Thing(start, end, first, before, noun, name, self.words.kind_of.get(name, ""))

    def _phrase(self, words: list[str]) -> list[str]:
        """Adjectives and noun: what stands before the first word that belongs to no name."""
        stops, nouns = self.words["stops"], self.words["ing_nouns"]
        kept: list[str] = []
        for place, word in enumerate(words):
            lower = word.lower()
            verb = lower.endswith(("ing", "ed")) and place and lower not in nouns
            if lower in stops or verb:
                break
            kept.append(word)
        return kept

    # -- edits, each a new text

    def renamed(self, thing: Thing, words: str) -> str:
        """With another name for a thing, its article fitted."""
        first = thing.article
        if first.lower() in ("a", "an"):
            fitted = article(words).split()[0]
            first = fitted.capitalize() if first[0].isupper() else fitted
        return f"{self.text[: thing.start]}{first} {words}{self.text[thing.end :]}"

    def without(self, thing: Thing) -> str | None:
        """Without a thing; None where the sentence would not stand without it."""
        run = self._run(thing)
        if len(run) > 1:
            left = [self.text[one.start : one.end] for one in run if one is not thing]
            if thing.start == 0:
                left[0] = left[0][0].upper() + left[0][1:] if self.text[0].isupper() else left[0]
            listed = " and ".join(filter(None, [", ".join(left[:-1]), left[-1]]))
            return self.text[: run[0].start] + listed + self.text[run[-1].end :]
        if self.words.exact:
            return f"{self.text[: thing.start]}nothing{self.text[thing.end :]}"
        before, after = self.text[: thing.start], self.text[thing.end :]
        carried = re.search(_CARRIES, before)
        stands = not after or any(span and span.start() == thing.end for span in (self.where, self.effect))
        if carried and carried.start() > 0 and stands:
            return before[: carried.start()] + after
        if not before and self.where and self.where.start() == thing.end:
            scene = re.sub(r"^\S+ (?=(?:an?|the) )", "", self.where["where"], flags=re.IGNORECASE)
            return f"{scene}{self.text[self.where.end() :]}"
        return None

    def _run(self, thing: Thing) -> list[Thing]:
        """The list of things that this one stands in: "a cat, a dog and a bird"."""
        place = self.things.index(thing)
        first = last = place
        while first and re.fullmatch(_LIST, self.text[self.things[first - 1].end : self.things[first].start]):
            first -= 1
        while last + 1 < len(self.things) and re.fullmatch(
            _LIST, self.text[self.things[last].end : self.things[last + 1].start]
        ):
            last += 1
        return list(self.things[first : last + 1])

    def adding(self, words: str) -> str:
        """With one thing more: in the list of things if the scene follows it, else "with" it."""
        for span in (self.where, self.effect, self.written):
            lists = [run for run in map(self._run, self.things) if span and run[-1].end == span.start()]
            if lists:
                said = [self.text[one.start : one.end] for one in lists[0]] + [words]
                listed = f"{', '.join(said[:-1])} and {said[-1]}"
                return self.text[: lists[0][0].start] + listed + self.text[lists[0][-1].end :]
        if self.words.exact and "nothing " in self.text:
            return self.text.replace("nothing ", f"{words} ", 1)
        cut = self.effect.start() if self.effect else len(self.text)
        return f"{self.text[:cut]} with {words}{self.text[cut:]}"

    def elsewhere(self, where: str) -> str:
        """At another place; the place is put before weather and lettering where none was told."""
        if self.where:
            return f"{self.text[: self.where.start()]} {where}{self.text[self.where.end() :]}"
        cuts = [span.start() for span in (self.effect, self.written) if span]
        cut = min(cuts, default=len(self.text))
        return f"{self.text[:cut]} {where}{self.text[cut:]}"

    def under(self, effect: str) -> str:
        """In another weather, season or hour; "" for none."""
        said = f" {effect}" if effect else ""
        if self.effect:
            return f"{self.text[: self.effect.start()]}{said}{self.text[self.effect.end() :]}"
        cut = self.written.start() if self.written and self.words.exact else len(self.text)
        return f"{self.text[:cut]}{said}{self.text[cut:]}"

    def reading(self, words: str) -> str:
        """With lettering, in place of other lettering if there is some; "" takes it away."""
        if self.written and words:
            return f"{self.text[: self.written.start(1)]}{words}{self.text[self.written.end(1) :]}"
        if self.written:
            return self.text[: self.written.start()] + self.text[self.written.end() :]
        return f'{self.text} with the text "{words}"'

    def plain(self) -> str:
        """Without its style's opening words."""
        return self.text[self.style :].lstrip()

    def lower(self) -> str:
        """As it stands inside a sentence."""
        first = self.text.split(" ", 1)[0]
        return self.text[0].lower() + self.text[1:] if first.lower() in _OPENERS else self.text


_WRITTEN = re.compile(r" (?:with|that says|that reads|and)(?: the)?(?: (?:text|words?|sign))? \"([^\"]+)\"")
_OPENERS = ("a", "an", "the", "two", "three", "four", "five", "some", "several", "many", "children", "people")
_WORLD = r"\b(?P<article>an?) (?P<noun>(?:[\w-]+ ){{0,5}}?(?:{names}))(?!\w)"
# Everyday captions: an article and up to five words, cut down afterwards ({names} is not needed here).
_ARTICLES = "an?|the|two|three|four|five|some|his|her"
_EVERYDAY = (
    rf"(?:(?<=\s)|^)(?P<article>{_ARTICLES})(?=[ ])"
    rf"(?P<noun>(?: (?!(?:{_ARTICLES})\b)[\w'-]+){{{{1,5}}}})"
)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(reversed(list(pattern.finditer(text))), None)
