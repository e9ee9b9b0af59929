"""From an instruction or a phrase to the things that a detector can look for.

"make the dog's tail blue" is about a tail, or the dog if no tail is found; "add a hat to the dog" about
the dog now and about a hat afterwards; "make it winter" about no thing at all. This is a rule for everyday
English (wordings.py), not a language model: it can be wrong, and says what it took.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EmuEditError
from ..predictor import POLITE, guess_task
from ..thresholding import WHOLE_PICTURE_TASKS
from .wordings import PICTURE, TOGETHER, VERBS, ordered

OBJECT, WHOLE, BACKGROUND = "object", "whole picture", "background"
NOTHING = ""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words(
    """
    red orange yellow green blue purple violet pink brown black white grey gray gold golden silver cyan
    magenta beige turquoise teal maroon navy lime olive cream tan crimson scarlet
    """
)
_SHADES = _words(
    """
    dark light bright pale deep hot neon pastel navy sky polka pixel sepia zigzag solid and
    """
)
_PEOPLE = {
    **dict.fromkeys(("him", "he", "his"), "man"),
    **dict.fromkeys(("her", "she", "hers"), "woman"),
    **dict.fromkeys(("them", "they", "their"), "people"),
    **dict.fromkeys(("me", "us"), "person"),
}
_OPENING = re.compile(
    r"^(?:(?:the|an?|this|that|these|those|all|every|each|both|any|some|more|another|other|whole|entire|"
    r"my|your|our|"
    r"its|one|two|three|four|five|six|several|many|few|of|only|just|lots|there|new)\b ?)+"
)
_SIDE = r"(?:left|right|top|bottom|middle|cent(?:er|re)|upper|lower)"
_WHERE = re.compile(
    rf"(?:^| )(?:(?:on|at|in|to) )?the (?:far )?(?P<side>{_SIDE})(?: (?:left|right|side|corner|half|part|"
    rf"hand))*"
    rf"(?: of the {PICTURE})?$"
)
# Not a person's "left hand", which is on the right of most pictures, and no "top hat".
_WHICH = re.compile(
    r"^(?P<side>left|right|top|bottom|upper|lower|middle)(?:most| hand(?= )| most)? "
    r"(?!(?:hand|arm|eye|ear|leg|foot|shoe|knee|cheek|shoulder|sleeve|hat|lip|wing|paw)s?$)(?=\w+$)"
)
_SIDES = {"upper": "top", "lower": "bottom", "center": "middle", "centre": "middle"}
_LOOSE = re.compile(
    rf"(?: (?:in|on|from|at|of|into) (?:the|this|my) (?:\w+ )?(?:{PICTURE}|foreground|background|back|"
    rf"front|air|distance)"
    r"| there| here| please| again| completely| entirely)+$"
)
_CLOSING = re.compile(r"(?: (?:please|thanks|thank you|for me|if you can))+$")
_PLACES = re.compile(
    rf"(?:the |a |my |this )?(?:(?:very |far |upper |lower |{_SIDE} )*"
    rf"(?:{_SIDE}|corner|side|edge|foreground|background|front|back|air|distance|there|here|place|"
    rf"{PICTURE})(?: |$))+"
)
_SPOT_OF = re.compile(
    rf"^(?:the )?(?:{_SIDE}|front|back|corner|side|edge)(?: (?:side|corner|left|right))? of (?=\w)"
)
_STOP = _words(
    """
    with in on at of by near next wearing holding sitting standing that who which behind under from to
    and above below beside made carrying riding
    """
)
# After "make the ball ...": words that no name of a thing contains.
_RESULT = _words(
    """
    look looks be become into to like as wear wearing smile smiling hold have disappear out a an more
    less much very slightly bit completely fully all not appear seem glow fly jump run sit stand dance
    laugh cry sleep say says read upside twice half so too one face float bounce shine rain snow burn
    grow explode wave point breathe bigger smaller larger taller
    """
)
_WHOLE_WORDS = _words(
    """
    it this that everything all picture image photo photograph scene shot view frame weather season time
    day night mood atmosphere light lighting colors colours color colour tones contrast brightness
    saturation exposure style world whole everyone outlines edges contours lines depth normals depthmap
    object objects pixel
    """
)
_SURFACES = _words(
    """
    stripes dots spots checks zigzags pattern patterns texture print color colour
    """
)
# Orders about the whole picture that fit no pattern; a bare phrase such as "vintage car" does not look so.
_ORDER = re.compile(
    r"(?:show|have|render|adjust|estimate|predict|compute|imagine|what|as if|how|in the style|apply|use|"
    r"create|boost|"
    r"label|draw|it is|give|make|turn|set|mute|apply|generate|extract|more|less|move|let|fill|desaturate|"
    r"saturate|"
    r"brighten|darken|convert|transform|redo|restyle|reduce|increase|invert|warm|cool|lighten|tone)\b|"
    r".*\b(?:style|version|filter|map|line art|drawing|look)$"
)
_NO_THINGS = _words(
    """
    object objects picture image photo photograph weather season everything one ones
    """
)
_MAPS = frozenset(("depth", "normal", "pose", "segmentation", "sketch"))
_ONE = re.compile(r"(?:the|his|her|their|my|this) ")
_BEHIND = frozenset(("background", "backdrop", "surroundings", "setting", "location", "scenery"))


@dataclass(frozen=True)
class Phrase:
    """A thing to look for.

    text: lower case without article, such as "red ball". head: its noun. owner: whose part it is ("dog" of
    "the dog's tail"), to be looked for when the part is not found. where: "left", "right", "top", "bottom",
    "middle" of the picture if the words choose so among several, else "".
    """

    text: str
    head: str
    owner: str = ""
    where: str = ""


@dataclass(frozen=True)
class Target:
    """What an instruction is about.

    things: in the picture before the edit. added: what the edit brings in. scope: OBJECT, or WHOLE or
    BACKGROUND when no thing is named.
    """

    things: tuple[Phrase, ...]
    added: tuple[Phrase, ...] = ()
    scope: str = OBJECT

    def wanted(self, after: bool = False) -> tuple[Phrase, ...]:
        """The things to look for in the picture before the edit, or `after` it: there the added ones."""
        return (self.added or self.things) if after else self.things

    def told(self) -> str:
        """In a few words, for reports."""
        names = ", ".join(repr(thing.text) for thing in self.things) or f"no thing, {self.scope}"
        return names + "".join(f"; adds {thing.text!r}" for thing in self.added)


def target_of(words: str) -> Target:
    """What an instruction ("make the red ball blue") or a phrase ("red ball", "dog . cat") is about.

    Several orders or phrases are taken together. Raises EmuEditError if there are no words.
    """
    text = _plain(words)
    if not text:
        raise EmuEditError('text: it is empty; say what to look for, such as "the red ball".')
    targets = [_target(clause) for clause in _clauses(text)]
    if not any(target.things or target.added or target.scope != NOTHING for target in targets):
        raise EmuEditError(f"text: {words!r} names no thing; say what to look for, such as 'the red ball'.")
    things = _unique([thing for target in targets for thing in target.things])
    added = _unique([thing for target in targets for thing in target.added])
    scopes = [target.scope for target in targets]
    scope = OBJECT if things or OBJECT in scopes else BACKGROUND if BACKGROUND in scopes else WHOLE
    return Target(things, added, scope)


def phrase_of(words: str) -> Phrase | None:
    """One noun phrase, cleaned: article gone, possessive and position apart; None if nothing is left."""
    text = " ".join(words.split())
    text = _LOOSE.sub("", text)
    text = _SPOT_OF.sub("", text)
    where = ""
    for pattern in (_WHERE, _WHICH):
        bare = _OPENING.sub("", text) if pattern is _WHICH else text
        if hit := pattern.search(bare):
            rest = (bare[: hit.start()] + bare[hit.end() :]).strip()
            if _OPENING.sub("", rest):
                text, where = rest, _SIDES.get(hit["side"], hit["side"])
    owner = ""
    first = text.split(" ", 1)
    if len(first) == 2 and first[0] in ("his", "her", "their"):
        owner, text = _PEOPLE[first[0]], first[1]
    elif (hit := re.match(r"(.+?)(?:'s|s'|') (.+)", text)) and not _STOP & set(hit[1].split()):
        whose = hit[1] + ("s" if hit[0].startswith(f"{hit[1]}s' ") else "")
        owner, text = _OPENING.sub("", whose).split("'s ")[-1], hit[2].split("'s ")[-1]
    elif hit := re.match(r"(.+?) of (?:the|his|her|their|this|that) (.+)", text):
        text, owner = hit[1], _OPENING.sub("", hit[2])
    text = _OPENING.sub("", _PEOPLE.get(text, text)).strip(" '")
    words_left = text.split()
    while words_left and (words_left[-1] in _STOP or words_left[-1] in ("the", "a", "an")):
        words_left.pop()
    if not words_left:
        return None
    end = next((i for i, word in enumerate(words_left) if i and _ends_noun(words_left, i)), len(words_left))
    return Phrase(" ".join(words_left), words_left[end - 1], owner, where)


def _ends_noun(words: Sequence[str], i: int) -> bool:
    """Whether the noun stands before word i; "and" between two colours does not, "flying over" does."""
    if (
        words[i].endswith("ing")
        and words[i + 1 : i + 2]
        and words[i + 1] in _STOP | {"a", "an", "the", "over"}
    ):
        return True
    return words[i] in _STOP and not (words[i] == "and" and words[i - 1] in COLOURS)


def prompt_of(phrases: Sequence[Phrase]) -> str:
    """As GroundingDINO was trained to be asked: lower case, each phrase ended by a full stop."""
    return " ".join(f"{phrase.text}." for phrase in phrases)


def _plain(words: str) -> str:
    """Lower case, straight quotes, quoted lettering and polite words gone; commas and stops kept apart."""
    text = words.lower()
    for curly, straight in (("\u201c", '"'), ("\u201d", '"'), ("\u2018", "'"), ("\u2019", "'")):
        text = text.replace(curly, straight)
    text = re.sub(r'"[^"]*"|(?:(?<=\s)|^)\'[^\']+\'(?!\w)', " ", text)
    text = re.sub(r"[.;\n!?|]+", " . ", text)
    text = re.sub(r"[^\w',. ]+", " ", text.replace(",", " , "))
    text = " ".join(text.split()).strip(" .,")
    text = _CLOSING.sub("", text)
    while (shorter := POLITE.sub("", text)) != text:
        text = shorter
    return text


def _clauses(text: str) -> list[str]:
    """Separate orders or phrases: at full stops, at commas, and at "and" or "then" before a verb."""
    pieces = re.split(r" [.,] (?:and |then )*", f"{text} ")
    clauses = []
    for piece in pieces:
        parts = re.split(r" (?:and(?: then)?|then) ", piece)
        clause = parts[0]
        for part in parts[1:]:
            whole = f"{clause} and {part}"
            if VERBS.match(part) and VERBS.match(clause) and not TOGETHER.fullmatch(whole):
                clauses.append(clause)
                clause = part
            else:
                clause = whole
        clauses.append(clause)
    return [clause.strip() for clause in clauses if clause.strip(" .,")]


def _target(clause: str) -> Target:
    kind, slots = ordered(clause)
    named = _LOOSE.sub("", slots.get("obj", clause if not kind else ""))
    if kind == "result":
        named = _without_result(named)
    if kind == "add" and _PLACES.fullmatch(named):
        named = ""
    if kind == "rest":
        return Target((), (), BACKGROUND)
    if kind or _ORDER.match(clause):
        task = guess_task(clause).task
        whole = {"scene", "picture", "image", "photo", *_BEHIND} & set(named.split())
        one_thing = kind not in ("", "add", "move") and not whole and _ONE.match(named)
        # "trace the cube" is no line drawing.
        if (task in _MAPS and not (one_thing and kind == "point")) or (
            task in WHOLE_PICTURE_TASKS and not one_thing
        ):
            return Target((), (), WHOLE)
        if task == "background" and not one_thing:
            return Target((), (), BACKGROUND)
    things, scope = _things(named)
    added: tuple[Phrase, ...] = ()
    new = slots.get("new", "")
    if kind == "add" or (kind == "swap" and re.match(r"(?:an?|some|the|two|three|another) ", new)):
        added = tuple(thing for thing in _things(new)[0] if thing.head not in _SURFACES)
    if kind and not scope:
        scope = WHOLE
    return Target(things, added, scope)


def _things(words: str) -> tuple[tuple[Phrase, ...], str]:
    """The noun phrases in "the cat and the dog", and the scope if there are none."""
    found, scope = [], NOTHING
    for part in listed(words):
        phrase = phrase_of(part)
        if phrase is None:
            continue
        if phrase.head in _BEHIND:
            scope = BACKGROUND
        elif phrase.text not in _WHOLE_WORDS and phrase.head not in _NO_THINGS:
            found.append(phrase)
        else:
            scope = scope or WHOLE
    return tuple(found), OBJECT if found else scope


def listed(words: str) -> list[str]:
    """Split at "and", but not inside "black and white cat"."""
    parts: list[str] = []
    for part in words.split(" and "):
        if parts and parts[-1].split() and parts[-1].split()[-1] in COLOURS and part.split(" ")[0] in COLOURS:
            parts[-1] += f" and {part}"
        else:
            parts.append(part)
    return parts


def _without_result(words: str) -> str:
    """ "the ball dark red" -> "the ball": what is left of the thing's name after make, turn or paint."""
    *before, last = listed(words)
    kept = [part if part.split()[-1:] and part.split()[-1] not in COLOURS else _bare(part) for part in before]
    return " and ".join([*kept, _bare(last)])


def _bare(words: str) -> str:
    tokens = words.split()
    for i, token in enumerate(tokens):
        if i and token in _RESULT:
            return " ".join(tokens[:i])
    opening = _OPENING.match(f"{words} ")
    start = len(opening.group().split()) if opening else 0
    if tokens and tokens[0] in ("it", *_PEOPLE):
        start = 1
    if len(tokens) - start >= 2 or (tokens and tokens[0] in ("it", "this", *_PEOPLE) and len(tokens) == 2):
        tokens.pop()
        while len(tokens) - start >= 2 and tokens[-1] in _SHADES | COLOURS:
            tokens.pop()
    return " ".join(tokens)


def _unique(phrases: Sequence[Phrase]) -> tuple[Phrase, ...]:
    return tuple(dict.fromkeys(phrases))
