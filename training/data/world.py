"""The procedural world as a source of pairs: drawn when asked for, exact."""

from __future__ import annotations

from dataclasses import dataclass

from ..small import edits
from .pairs import BadPair, Pair, RawPair

BUNDLE = 256


@dataclass(frozen=True)
class DrawnPair:
    """Example `index` of the world of `seed`."""

    seed: int
    index: int

    @property
    def id(self) -> str:
        return f"world/{self.seed}/{self.index}"

    def load(self, size: int) -> Pair:
        made = edits.make_example(self.seed, self.index, tasks=edits.TASKS, size=size)
        return Pair(self.id, made.instruction, made.task, made.source, made.target)


class WorldSource:
    """The first `count` examples of the world of `seed`; a unit is a bundle of them."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.name = f"world:{count}:{seed}"
        self._count, self._seed = count, seed

    def units(self) -> list[str]:
        return [f"{start:09d}" for start in range(0, self._count, BUNDLE)]

    def stamp(self, unit: str) -> str:
        return f"{self._seed}-{','.join(edits.TASKS)}-{min(self._count, int(unit) + BUNDLE)}"

    def read(self, unit: str) -> list[RawPair | BadPair]:
        first = int(unit)
        return [DrawnPair(self._seed, i) for i in range(first, min(first + BUNDLE, self._count))]
