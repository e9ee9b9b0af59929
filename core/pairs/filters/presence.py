"""What a detector finds: there, gone, or replaced (Emu Edit, section on filtering).

Add: the new object is in the target. Remove: the old one is not. Local: the old one is not and the new one
is. "red ball" and "blue ball" are one thing to most detectors, so of two names with one noun only the new
one is looked for, unless the detector says `tells_attributes = True`. Texture: the object is in the target.
Detect and segment: it is in the source, before anything was drawn on it. Where an edit has a mask, only what
lies in it counts, for a picture may hold a second ball that was to stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ...masks.phrases import Phrase, phrase_of
from ...masks.sources import DetectSettings, Found, Source
from ..records import Candidate, Score
from .base import Finding, unconcerned

PRESENT = ("add", "local", "texture", "detect", "segment")
ABSENT = ("remove", "local")
IN_SOURCE = ("detect", "segment")
INSIDE = 0.5  # share of a find's box that the mask must cover for it to count


@dataclass(frozen=True)
class PresenceFilter:
    """Scores "present" and "absent": the best find's score, against the detector's threshold."""

    detector: Source
    settings: DetectSettings = field(default_factory=DetectSettings)
    name = "present"
    one_by_one = True

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        return [self._look(one) for one in candidates]

    def _look(self, one: Candidate) -> Finding:
        words = one.instruction
        scores = []
        new = _phrase(words.edited_object or words.original_object) if one.task in PRESENT else None
        old = _phrase(words.original_object) if one.task in ABSENT else None
        if new is not None:
            best = self._best(one, new)
            told = f"{new.text!r} was not found in the {'source' if one.task in IN_SOURCE else 'target'}"
            there = best > 0
            scores.append(Score("present", best, self.settings.threshold, there, "" if there else told))
        if old is not None and (new is None or self._another(old, new)):
            best = self._best(one, old)
            told = f"{old.text!r} is still in the target" if best > 0 else ""
            scores.append(Score("absent", best, self.settings.threshold, best == 0, told))
        return Finding(tuple(scores)) if scores else unconcerned(self.name, one.task)

    def _another(self, old: Phrase, new: Phrase) -> bool:
        """Whether the detector can be asked to tell the two apart."""
        return old.head != new.head or (
            old.text != new.text and getattr(self.detector, "tells_attributes", False)
        )

    def _best(self, one: Candidate, phrase: Phrase) -> float:
        """The best score of a find that counts; 0 where there is none."""
        picture = one.source if one.task in IN_SOURCE else one.target
        (found,) = self.detector.detect(picture[None], [phrase], self.settings)
        mask = one.mask
        counts = [
            float(found.scores[k]) for k in range(found.count) if mask is None or covered(found, k, mask)
        ]
        return max(counts, default=0.0)


def _phrase(words: str) -> Phrase | None:
    return (phrase_of(words.lower()) or Phrase(words, words.split()[-1])) if words.strip() else None


def covered(found: Found, k: int, mask: Tensor) -> bool:
    """Whether a mask [H,W] covers half of find k's box, or, where the box is larger, is covered by it so."""
    left, top, right, bottom = (int(round(v)) for v in found.boxes[k].tolist())
    inside = float(mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)].sum())
    area = max(1, (right - left) * (bottom - top))
    return inside >= INSIDE * min(area, max(1.0, float(mask.sum())))
