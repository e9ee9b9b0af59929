"""A thing without whose it is: "the dog's tail" -> "tail", since detectors fail on possessives.

Emu Edit asks its language model a second time (arXiv 2311.10089, appendix 7.2.2); so do we where the backend
writes, and the rule of core.masks.phrases takes over where it does not, or answers nonsense.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ...masks.phrases import phrase_of
from .agent import agents
from .backend import Nonsense, Request, dice
from .rules import plain, read_object

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"object": {"type": "string"}},
    "required": ["object"],
    "additionalProperties": False,
}
# "of" also joins what belongs together ("stack of books"): only "of the", "of his" say whose.
_POSSESSIVE = re.compile(
    r"\w['’]s? \w|^(?:his|her|their|its|my|your|our) \w|\bof (?:the|his|her|their|its|my|that) "
)


def is_possessive(thing: str) -> bool:
    """Whether the words say whose the thing is."""
    return bool(_POSSESSIVE.search(thing.lower()))


def by_rule(thing: str) -> str:
    """The thing alone by core.masks.phrases; as it was if nothing would be left."""
    phrase = phrase_of(thing.lower().replace("’", "'"))
    return phrase.text if phrase is not None else thing


def request(thing: str, seed: int) -> Request:
    """The second question."""
    told = agents()["reduce"]
    messages = [{"role": "system", "content": told["system"]}]
    rows = list(told["exemplars"])
    rng = dice("possessive", seed, thing)
    rng.shuffle(rows)
    for words, bare in rows:
        messages += [
            {"role": "user", "content": words},
            {"role": "assistant", "content": json.dumps({"object": bare})},
        ]
    messages.append({"role": "user", "content": thing})
    return Request("", thing, tuple(messages), SCHEMA, rng.getrandbits(31), "object")


def read(thing: str, text: str) -> str:
    """The answer's thing; Nonsense if it is none, is still a possessive, or has words of its own."""
    found = read_object(text).get("object")
    if not isinstance(found, str) or not found.strip():
        raise Nonsense("the answer names no thing")
    found = re.sub(r"^(?:an?|the)\s+", "", " ".join(found.split()).strip(" ."), flags=re.IGNORECASE)
    if not plain(found) or is_possessive(found) or not set(plain(found).split()) <= set(plain(thing).split()):
        raise Nonsense(f"the answer {found[:60]!r} is no part of {thing!r}")
    return found
