"""Instructions that say the same twice: equal ones, and near ones about the same picture.

Equal: the same task, captions and instruction but for case and punctuation. Near: the same task and input
caption, and instructions whose words that carry meaning (no articles, no verbs of asking, "from the picture")
are the same but for a share. The first of a kind is kept, so the result follows from the order alone.
"""

from __future__ import annotations

import hashlib

from ...errors import EmuEditError
from ..records import Instruction
from .rules import plain

NEAR = 0.8


def words_of(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


# Words that ask, point or fill in: without them "Remove the dog, please" and "erase the dog" are one.
_EMPTY_WORDS = words_of(
    """
    a an the this that these those some it its of to into in on at from with for by as and or so be is are was
    were please can could you i we want would like now let there should have has make turn change transform
    convert switch morph set put place insert add include draw show give remove erase delete take away out get
    rid wipe eliminate clear replace swap exchange substitute instead paint create apply use detect find
    locate mark segment highlight image picture photo photograph scene shot whole entire become becomes
    becoming look looks looking made
    """
)


def meaning(instruction: str) -> list[str]:
    """The words of an instruction that carry its meaning, in order; all of them where none does."""
    words = plain(instruction).split()
    return [word for word in words if word not in _EMPTY_WORDS] or words


class Seen:
    """Remembers instructions; `why_double` says why one is too much, or takes it in and says ""."""

    def __init__(self, near: float = NEAR):
        if not 0 < near <= 1:
            raise EmuEditError(
                f"duplicates: the likeness is {near}; give more than 0 and at most 1 (= equal)."
            )
        self.near = near
        self._equal: set[bytes] = set()
        self._told: dict[bytes, list[tuple[frozenset[str], str]]] = {}

    def why_double(self, one: Instruction) -> str:
        """ "" if it is new, which is remembered; else a sentence."""
        equal = _hash(one.task, one.instruction, one.input_caption, one.output_caption)
        if equal in self._equal:
            return f"a duplicate: {one.instruction!r} was written before for this caption"
        place = _hash(one.task, one.input_caption)
        meant = frozenset(meaning(one.instruction))
        for others, said in self._told.get(place, ()):
            if len(meant & others) >= self.near * len(meant | others):
                return f"nearly a duplicate of {said!r}"
        self._equal.add(equal)
        self._told.setdefault(place, []).append((meant, one.instruction))
        return ""


def _hash(*texts: str) -> bytes:
    return hashlib.blake2b("\x1f".join(map(plain, texts)).encode(), digest_size=16).digest()
