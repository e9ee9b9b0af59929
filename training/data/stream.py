"""The order in which a run sees its pairs, and how it finds its place again.

Each epoch draws an order of the units from (seed, epoch). Units are read until a window of pairs is full;
the window's pairs are drawn in an order from (seed, epoch, first unit). The place of a run is therefore
three small numbers, and going on from it reads one window of locations, not the whole epoch. Every process
of a run follows the same order and loads its own part of each batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...core.errors import EmuEditError
from .pairs import BadPair, PairSource, RawPair, Unreadable
from .skipped import SkipReport


@dataclass(frozen=True)
class Place:
    """Where a run is: epoch, place of the window's first unit in the epoch's order, pairs into the window."""

    epoch: int = 0
    unit: int = 0
    offset: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Window:
    pairs: Sequence[RawPair]
    after: Place


@dataclass(frozen=True, eq=False)
class Batch:
    """What one process loads of one batch, and the place to go on from after it."""

    items: list[Any]
    after: Place


class PairStream:
    """Batches of a source without end. `window`: how many pairs are mixed at a time."""

    def __init__(self, source: PairSource, seed: int, window: int, size: int, skipped: SkipReport) -> None:
        self._source, self._seed, self._window, self._size = source, seed, window, size
        self._skipped = skipped
        self._units = source.units()

    def batches(
        self, start: Place, count: int, rank: int = 0, processes: int = 1, workers: int = 4, ahead: int = 2
    ) -> Generator[Batch, None, None]:
        """From `start` on, the `count` items of this process out of every `count * processes`.

        Pictures are read by `workers` threads, `ahead` batches before they are wanted. A pair that cannot be
        read gives its place to the next that can. Raises EmuEditError when nothing in an epoch can be read.
        """
        with ThreadPoolExecutor(max(1, workers)) as pool:
            waiting: list[tuple[list[Any], Place]] = []
            for places, after in self._batch_places(start, count, rank, processes):
                waiting.append(([pool.submit(self._load, *place) for place in places], after))
                if len(waiting) > ahead:
                    futures, reached = waiting.pop(0)
                    yield Batch([future.result() for future in futures], reached)

    def _batch_places(
        self, place: Place, count: int, rank: int, processes: int
    ) -> Iterator[tuple[list[tuple[_Window, int]], Place]]:
        window = self._read_window(place)
        while True:
            mine: list[tuple[_Window, int]] = []
            for number in range(count * processes):
                while place.offset >= len(window.pairs):
                    place = window.after
                    window = self._read_window(place)
                if number // count == rank:
                    mine.append((window, place.offset))
                place = Place(place.epoch, place.unit, place.offset + 1)
            yield mine, place

    def _read_window(self, place: Place) -> _Window:
        order = np.random.default_rng((self._seed, place.epoch)).permutation(len(self._units))
        found: list[RawPair] = []
        unit = place.unit
        while unit < len(order) and len(found) < self._window:
            for pair in self._source.read(self._units[order[unit]]):
                if isinstance(pair, BadPair):
                    self._skipped.add(pair.id, pair.reason)
                else:
                    found.append(pair)
            unit += 1
        if not found and place.unit == 0 and unit >= len(order):
            raise EmuEditError(
                f"--data {self._source.name}: not one pair can be used. {self._skipped.sentence()}".strip()
            )
        shuffled = np.random.default_rng((self._seed, place.epoch, place.unit)).permutation(len(found))
        after = Place(place.epoch + 1) if unit >= len(order) else Place(place.epoch, unit)
        return _Window([found[i] for i in shuffled], after)

    def _load(self, window: _Window, offset: int) -> Any:
        for index in itertools.islice(
            itertools.cycle(range(len(window.pairs))), offset, offset + len(window.pairs)
        ):
            pair = window.pairs[index]
            if pair.id in self._skipped:
                continue
            try:
                return pair.load(self._size)
            except Unreadable as problem:
                self._skipped.add(pair.id, str(problem))
        raise EmuEditError(
            f"--data {self._source.name}: none of {len(window.pairs)} pairs in a row can be used. "
            f"{self._skipped.sentence()}"
        )


def known_tasks(
    names: Sequence[str],
    wanted: Sequence[str],
    instructions: Sequence[str],
    predict: Callable[[Sequence[str]], list[str]],
) -> list[str]:
    """Task of each pair: the data set's own if the editor knows it, else the predicted one, else ""."""
    missing = [i for i, task in enumerate(wanted) if task not in names]
    tasks = list(wanted)
    if missing:
        for i, task in zip(missing, predict([instructions[i] for i in missing]), strict=True):
            tasks[i] = task if task in names else ""
    return tasks
