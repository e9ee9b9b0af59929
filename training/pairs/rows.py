"""Parts: what a chunk of jobs came to, as one tar file: the kept pairs' files, then a row for each job.

A row is {"number", "job", "dropped", "candidates": [{"candidate", "verdict", "key"}, ...]}: every candidate
with every score, and the reason where a job came to nothing. Rows go on into records/NNNNNNNN.jsonl.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import EmuEditError
from ...core.pairs import shards
from ...core.pairs.faults import AWAY, FILTER_FAILED

ROWS = "rows.jsonl"
FAULT, DOUBLE = "fault", "duplicate"
"""Stages of jobs that came to nothing: by an exception that nobody foresaw; for being there already."""


def part_bytes(pairs: Sequence[Mapping[str, bytes]], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A part: the files of its kept pairs in order, then its rows."""
    lines = b"".join(shards.dump(row) + b"\n" for row in rows)
    return b"".join(
        [*(shards.members(pair) for pair in pairs), shards.members({ROWS: lines}), shards.TAR_END]
    )


@dataclass(frozen=True, eq=False)
class Part:
    """A part as read: `rows` in order of their jobs, `pairs` key -> the pair's files."""

    rows: list[dict[str, Any]]
    pairs: dict[str, dict[str, bytes]]


def read_part(path: Path, pictures: bool = True) -> Part:
    """A part from its file; without `pictures` its rows alone."""
    pairs: dict[str, dict[str, bytes]] = {}
    rows: list[dict[str, Any]] = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not pictures and member.name != ROWS:
                    continue
                data = archive.extractfile(member).read()  # type: ignore[union-attr]
                if member.name == ROWS:
                    rows = [json.loads(line) for line in data.splitlines()]
                else:
                    pairs.setdefault(member.name.partition(".")[0], {})[member.name] = data
    except (tarfile.TarError, OSError, EOFError, ValueError) as damage:
        raise EmuEditError(
            f"{path} is damaged ({damage}); delete it and go on with the same command."
        ) from damage
    return Part(rows, pairs)


def kept_keys(row: Mapping[str, Any]) -> list[str]:
    """The keys of the pairs that a job gave, best first."""
    return sorted(one["key"] for one in row["candidates"] if one["key"])


@dataclass
class Tally:
    """How many came through: jobs, candidates and pairs by task, and what dropped the others."""

    jobs: Counter[str] = field(default_factory=Counter)
    candidates: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # "task stage": jobs without a candidate
    dropped: Counter[str] = field(default_factory=Counter)  # "task filter": candidates

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one job. A pair counts under the task that it was made for."""
        task = task_of(row)
        self.jobs[task] += 1
        self.candidates[task] += len(row["candidates"])
        self.pairs[task] += len(kept_keys(row))
        if row["dropped"]:
            self.lost[f"{task} {row['dropped']['stage']}"] += 1
        for one in row["candidates"]:
            if not one["verdict"]["kept"]:
                self.dropped[f"{task} {one['verdict']['dropped_by'] or 'unknown'}"] += 1

    def merge(self, other: Mapping[str, Mapping[str, int]]) -> None:
        """Add a tally's to_json."""
        for name, counts in other.items():
            getattr(self, name).update(counts)

    def to_json(self) -> dict[str, dict[str, int]]:
        return {name: dict(sorted(getattr(self, name).items())) for name in self.__dataclass_fields__}

    def line(self) -> str:
        """The progress in a line: jobs, candidates, and what each filter took."""
        jobs, candidates = self.jobs.total(), self.candidates.total()
        pairs = self.pairs.total()
        by_filter: Counter[str] = Counter()
        for name, count in self.dropped.items():
            by_filter[name.split(" ", 1)[1]] += count
        by_stage: Counter[str] = Counter()
        for name, count in self.lost.items():
            by_stage[name.split(" ", 1)[1]] += count
        shares = [
            f"{name} -{count} ({count / max(1, candidates):.0%})" for name, count in by_filter.most_common()
        ]
        shares += [f"{name}: {count} jobs" for name, count in by_stage.most_common()]
        told = "; ".join(shares) or "nothing dropped"
        rate = f"{pairs / max(1, jobs):.0%} of jobs"
        return f"{jobs} jobs, {candidates} candidates, {pairs} pairs ({rate}): {told}"


def failed(row: Mapping[str, Any]) -> bool | None:
    """Whether a job failed by no fault of its own: in its recipe as nobody foresaw, all its candidates in a
    filter, or as a language model was away. None: it came to nothing before that could be seen."""
    if row["dropped"]:
        return True if row["dropped"]["stage"] in (FAULT, AWAY) else None
    reasons = [one["verdict"]["reason"] for one in row["candidates"]]
    return bool(reasons) and all(reason.startswith(FILTER_FAILED) for reason in reasons)


def task_of(row: Mapping[str, Any]) -> str:
    """The task that a job was about."""
    if row["job"]:
        return row["job"]["instruction"]["task"]
    return row["dropped"]["task"] if row["dropped"] else ""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a shard's records."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError) as damage:
        raise EmuEditError(f"{path} cannot be read ({damage}); build it again.") from damage


def index_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The index's rows of one shard, from its records."""
    for row in read_rows(path):
        for one in sorted(row["candidates"], key=lambda one: one["key"]):
            if one["key"]:
                words, candidate = one["candidate"]["instruction"], one["candidate"]
                yield {
                    "key": one["key"],
                    "shard": f"{path.stem}.tar",
                    "task": one["verdict"]["task"],
                    **{k: words[k] for k in shards.INDEX_COLUMNS if k in words and k != "task"},
                    "mask_kind": candidate["mask_kind"],
                    "width": one["width"],
                    "height": one["height"],
                    "seed": candidate["seed"],
                    "rank": one["verdict"]["rank"],
                }
