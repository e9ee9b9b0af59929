"""From job to row: candidates by recipe, verdicts by filter, the best kept. One chunk of jobs at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...core.errors import EmuEditError
from ...core.pairs import shards
from ...core.pairs.faults import AWAY, DiskFull, told
from ...core.pairs.filters.judge import best
from ...core.pairs.recipes.base import RecipeContext, eight_bit
from ...core.pairs.recipes.table import candidates
from ...core.pairs.records import Candidate, Dropped, PairJob, Verdict
from .plan import BuildPlan
from .rows import FAULT, part_bytes

Judge = Callable[[Sequence[Candidate]], list[Verdict]]
Item = PairJob | Dropped
ASKED = 4
"""How often a language model that is away is asked for a chunk's jobs, before they come to nothing. One less
than the orders in turn after which a writer stops the run, so that the next job tells whether it is away."""


def keep_all(tried: Sequence[Candidate]) -> list[Verdict]:
    """The verdicts where nothing is filtered."""
    return [Verdict(one.task, True) for one in tried]


class Maker:
    """Turns chunks of jobs into parts. Holds the models; one lives in each worker."""

    def __init__(self, plan: BuildPlan, context: RecipeContext, judge: Judge = keep_all) -> None:
        self.plan, self.context, self.judge = plan, context, judge

    def part(self, chunk: int, items: Sequence[Item]) -> bytes:
        """The part of a chunk; `items[i]` is its job number chunk * chunk_jobs + i."""
        pairs: list[dict[str, bytes]] = []
        rows: list[dict[str, Any]] = []
        for place, item in enumerate(items):
            row, made = self.row(chunk * self.plan.chunk_jobs + place, item)
            rows.append(row)
            pairs += made
        return part_bytes(pairs, rows)

    def row(self, number: int, item: Item) -> tuple[dict[str, Any], list[dict[str, bytes]]]:
        """What job `number` came to, and the files of what was kept of it, best first."""
        row: dict[str, Any] = {"number": number, "job": None, "dropped": None, "candidates": []}
        if isinstance(item, Dropped):
            return row | {"dropped": item.to_json()}, []
        row["job"] = item.to_json()
        try:
            tried, made = self._made(number, item)
        except DiskFull:
            raise
        except EmuEditError as reason:
            lost = Dropped("recipe", str(reason), item.task, item.id)
        except Exception as fault:  # a bug, a graphics card that is full: the other jobs go on
            lost = Dropped(FAULT, told(fault), item.task, item.id)
        else:
            return row | {"candidates": tried}, made
        return row | {"dropped": lost.to_json()}, []

    def _made(self, number: int, job: PairJob) -> tuple[list[dict[str, Any]], list[dict[str, bytes]]]:
        """A row's candidates, and the files of those kept."""
        # Rounded as the files will be, so that a filter sees what a trainer will.
        tried = [
            replace(one, source=eight_bit(one.source), target=eight_bit(one.target))
            for one in candidates(self.context, job)
        ]
        verdicts = self.judge(tried)
        best_ones = best(verdicts, self.plan.keep)
        keys = {i: self.plan.key(number, place) for place, i in enumerate(best_ones)}
        told_of = [
            {
                "candidate": one.to_json(),
                "verdict": verdicts[i].to_json(),
                "key": keys.get(i, ""),
                "width": one.source.shape[1],
                "height": one.source.shape[0],
            }
            for i, one in enumerate(tried)
        ]
        made = [
            shards.pair_files(shards.pair_record(keys[i], job, tried[i], verdicts[i]), tried[i])
            for i in best_ones
        ]
        return told_of, made


def items_of(make: Callable[[Sequence[int]], list[Item]], numbers: Sequence[int]) -> list[Item]:
    """The items of these jobs. Where making them fails as nobody foresaw, one by one, and those that fail so
    again come to nothing. What concerns the whole run (EmuEditError) is raised."""
    try:
        return make(numbers)
    except EmuEditError:
        raise
    except Exception as fault:
        if len(numbers) == 1:
            return [Dropped(FAULT, told(fault), item=f"{numbers[0]:08d}")]
    return [item for number in numbers for item in items_of(make, [number])]


def completed(
    known: Sequence[Item], make: Callable[[Sequence[int]], list[Item]], numbers: Sequence[int]
) -> list[Item]:
    """The items of these jobs, of which the first are `known`, made or written down earlier: made are the
    others, and again those that failed as nobody foresaw or found a language model away.

    Those that find it away now are asked for again after the others, ASKED times in all: not for ever, for
    there are questions that a server fails over. One that was answered is asked with them, and shows whether
    the server is there at all; its first answer stays.
    """
    items = dict(enumerate(known))
    again: tuple[str, ...] = (FAULT, AWAY)
    for _ in range(ASKED):
        todo = [
            place
            for place in range(len(numbers))
            if place not in items or (isinstance(item := items[place], Dropped) and item.stage in again)
        ]
        if not todo:
            break
        answered = [place for place in sorted(items) if not _is_away(items[place])]
        probe = answered[:1] if any(_is_away(items.get(place)) for place in todo) else []
        found = items_of(make, [numbers[place] for place in (*probe, *todo)])
        items |= zip(todo, found[len(probe) :], strict=True)
        again = (AWAY,)
    return [items[place] for place in sorted(items)]


def _is_away(item: Item | None) -> bool:
    return isinstance(item, Dropped) and item.stage == AWAY


def items_to_lines(items: Sequence[Item]) -> bytes:
    """A chunk's jobs as they are written down before they are used, a JSON text a line."""
    records = (
        {"job": item.to_json()} if isinstance(item, PairJob) else {"dropped": item.to_json()}
        for item in items
    )
    return b"".join(shards.dump(record) + b"\n" for record in records)


def items_from_lines(lines: bytes) -> list[Item]:
    """The reverse of items_to_lines. It takes bytes, for a text would be split at U+2028 too."""
    return [
        PairJob.from_json(record["job"]) if "job" in record else Dropped.from_json(record["dropped"])
        for record in map(json.loads, lines.splitlines())
    ]
