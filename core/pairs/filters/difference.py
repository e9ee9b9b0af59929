"""What changed where: little outside the mask, and something at all where the edit was meant to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...metrics import pair, region_means
from ..records import Candidate, Score
from .base import Finding, at_least, at_most, batches, check_share


@dataclass(frozen=True)
class OutsideFilter:
    """Mean absolute difference, 0..1, outside the mask the edit was made under, at most `most`. A soft mask
    counts by what it leaves. Whole-picture edits have no outside."""

    most: float = 0.05
    name = "outside"

    def __post_init__(self) -> None:
        check_share("the difference outside the mask", self.most)

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        values = _means(candidates, outside=True)
        findings = []
        for value in values:
            if value is None:
                told = "the whole picture might change, there is no outside"
                findings.append(Finding((Score(self.name, reason=told),)))
            else:
                told = "too much changed outside the mask"
                findings.append(Finding((at_most(self.name, value, self.most, told),)))
        return findings


@dataclass(frozen=True)
class ChangedFilter:
    """Mean absolute difference, 0..1, where the edit was meant to be, at least `least`: a pair of equal
    pictures teaches an editor to do nothing."""

    least: float = 0.005
    name = "changed"

    def __post_init__(self) -> None:
        check_share("the least change", self.least)

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        told = "nothing to speak of changed where the edit was meant to be"
        return [
            Finding((at_least(self.name, value or 0.0, self.least, told),))
            for value in _means(candidates, outside=False)
        ]


def _means(candidates: Sequence[Candidate], outside: bool) -> list[float | None]:
    """For each candidate the mean absolute difference of a region; None where the region is empty."""
    found: list[float | None] = [None] * len(candidates)
    for places, source, target in batches(candidates):
        before, after = pair(source, target)
        planes = (after.double() - before.double()).abs().mean(-1)
        for row, place in enumerate(places):
            mask = candidates[place].mask
            if mask is None and outside:
                continue
            weights = None if mask is None else mask.to(planes)[None].clamp(0, 1)
            if weights is not None and outside:
                weights = 1 - weights
            if weights is None or bool((weights > 0).any()):
                found[place] = float(region_means(planes[row : row + 1], weights))
    return found
