"""Lettering read back: the new words are in the target, the old ones are gone (for the task text)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Protocol

from torch import Tensor

from ...errors import EmuEditError
from ..records import Candidate, Score
from .base import Finding, check_share, not_run, unconcerned

MARGIN = 0.1  # of the mask's box, left around a crop


class Reader(Protocol):
    """Reads the lettering of one picture [H,W,3] in 0..1: things with a `text`, as recipes.base.TextReader.

    A reader that cannot find lettering by itself has an attribute `wants_crop = True` and is given the part
    of the picture that the mask's box marks.
    """

    def read(self, picture: Tensor) -> Sequence[Any]: ...


@dataclass(frozen=True)
class LetteringFilter:
    """least: how alike, 0..1, the words read must be to those asked for, and how unlike those to go.

    Likeness is difflib's ratio of the letters and digits, case apart; several finds count together too.
    """

    reader: Reader
    least: float = 0.8
    name = "lettering"
    one_by_one = True

    def __post_init__(self) -> None:
        check_share("the likeness of lettering", self.least)

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        return [self._look(one) for one in candidates]

    def _look(self, one: Candidate) -> Finding:
        if one.task != "text":
            return unconcerned(self.name, one.task)
        try:
            read = [str(found.text) for found in self.reader.read(self._view(one))]
        except EmuEditError as problem:
            told = f"the lettering could not be read: {problem}"
            return Finding((Score(self.name, None, self.least, False, told),))
        old, new = one.instruction.original_object, one.instruction.edited_object
        scores = []
        if new:
            value = likeness(new, read)
            told = f"the target reads {' '.join(read) or 'nothing'!r} instead of {new!r}"
            passed = value >= self.least
            scores.append(Score(self.name, value, self.least, passed, "" if passed else told))
        if old and letters(old) != letters(new):
            value = likeness(old, read)
            gone = value < self.least
            told = "" if gone else f"the target still reads {old!r}"
            scores.append(Score("lettering_gone", value, self.least, gone, told))
        return Finding(tuple(scores)) if scores else not_run(self.name, "no lettering is named")

    def _view(self, one: Candidate) -> Tensor:
        mask = one.mask
        if not getattr(self.reader, "wants_crop", False) or mask is None or not bool((mask > 0.5).any()):
            return one.target
        rows, columns = (mask > 0.5).any(dim=1).nonzero()[:, 0], (mask > 0.5).any(dim=0).nonzero()[:, 0]
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        more = max(1, round(MARGIN * (bottom - top)))
        return one.target[max(0, top - more) : bottom + more, max(0, left - more) : right + more]


def letters(text: str) -> str:
    """Letters and digits alone, lower case."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def likeness(wanted: str, read: Sequence[str]) -> float:
    """0..1: how alike the best of the finds, or all of them together, are to what is wanted."""
    goal = letters(wanted)
    finds = [letters(text) for text in [*read, " ".join(read)]]
    return max((SequenceMatcher(None, goal, found, autojunk=False).ratio() for found in finds), default=0.0)
