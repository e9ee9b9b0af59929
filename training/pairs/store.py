"""The folder of a build, in which every step is either done or not: killed anywhere, it goes on from there.

A chunk of jobs becomes a part, work/CCCCCCCC.tar; when all parts of a shard are there, in order, the shard is
written, then its records, then its summary, records/SSSSSSSS.json, which is what makes it count; only then do
the parts go. Each file is whole or absent (core.pairs.durable). What a killed process had written of a shard
without its summary is written again, with the same bytes, from the same parts. How a build that was finished
goes further: growth.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import EmuEditError
from ...core.locks import NAME as LOCK
from ...core.pairs import shards
from ...core.pairs.durable import clear_parts, is_part, remove, write_whole
from ...core.pairs.faults import AWAY
from ...core.pairs.index import write_index
from . import doubles, growth
from .plan import BuildPlan
from .rows import Part, Tally, failed, index_rows, kept_keys, read_part, read_rows

PLAN, WORK = "build.json", "work"
MOST_FAULTS = 20
"""Jobs in turn that fail by no fault of theirs, after which something is wrong with more than them."""


def _own(name: str) -> bool:
    """Whether a build that was killed before its plan was written may have left this."""
    return name == LOCK or is_part(name, PLAN)


@dataclass
class _Open:
    """What was counted of a shard that is not written yet: of its chunks up to `end`, exclusive."""

    end: int = 0
    pairs: int = 0
    barren: int = 0
    fresh: list[int] = field(default_factory=list)  # digests of its jobs
    double: set[int] = field(default_factory=set)  # numbers of its jobs that are doubles


class Store:
    """One build's folder, of `total` jobs at most; `advance` is what moves it on."""

    def __init__(self, folder: Path, plan: BuildPlan, total: int) -> None:
        self.folder, self.plan, self.total = Path(folder), plan, total
        self.work = self.folder / WORK
        self._check_plan()
        clear_parts(self.folder)  # not before: the folder of somebody else's files is left as it is
        self.tally = Tally()
        self.shard = self.kept = self.barren = 0
        self.faults = 0  # failures in turn since this start, which is there to try them again
        self.fault = ""  # the last one's reason
        self.seen = doubles.Doubles()
        self._resume()
        self._chunk = self.shard * plan.chunks_per_shard  # the next chunk to be counted
        self._streak = self._chunk  # where the failures in turn began
        self._open = [_Open()]  # the last is being counted, those before it are full

    def _check_plan(self) -> None:
        path = self.folder / PLAN
        if path.is_file():
            try:
                before = BuildPlan.from_json(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as damage:
                raise EmuEditError(f"{path} cannot be read ({damage}); give another folder.") from damage
            if differ := self.plan.differs(before):
                name = differ[0]
                raise EmuEditError(
                    f"build: {self.folder} holds a build with {name} {getattr(before, name)!r}, not "
                    f"{getattr(self.plan, name)!r}; give that, or another folder."
                )
            if self.plan.count < before.count and self.summaries_kept() > self.plan.count:
                raise EmuEditError(
                    f"build: {self.folder} holds more than {self.plan.count} pairs already; give a count of "
                    f"{before.count} or more, or another folder."
                )
        elif self.folder.is_dir() and not all(_own(p.name) for p in self.folder.iterdir()):
            raise EmuEditError(f"build: {self.folder} is not empty and holds no build; give another folder.")
        write_whole(path, shards.dump(self.plan.to_json()) + b"\n")

    def summary_path(self, shard: int) -> Path:
        return self.folder / shards.RECORDS / f"{shard:08d}.json"

    def records_path(self, shard: int) -> Path:
        return self.folder / shards.RECORDS / f"{shard:08d}.jsonl"

    def part_path(self, chunk: int) -> Path:
        return self.work / f"{chunk:08d}.tar"

    def jobs_path(self, chunk: int) -> Path:
        """Where a chunk's instructions lie, written down before they are used."""
        return self.work / f"{chunk:08d}.jobs.jsonl"

    def written(self, chunk: int) -> bytes:
        """A chunk's instructions as far as they are written down (stages.items_from_lines)."""
        path = self.jobs_path(chunk)
        return path.read_bytes() if path.is_file() else b""

    def summaries(self) -> Iterator[dict[str, Any]]:
        """The finished shards' summaries, in order."""
        shard = 0
        while self.summary_path(shard).is_file():
            yield self._summary(shard)
            shard += 1

    def _summary(self, shard: int) -> dict[str, Any]:
        path = self.summary_path(shard)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as damage:
            raise EmuEditError(
                f"{path} cannot be read ({damage}); delete it and those of higher numbers, and the same "
                "command makes these shards again."
            ) from damage

    def summaries_kept(self) -> int:
        return sum(summary["pairs"] for summary in self.summaries())

    def _resume(self) -> None:
        """Take up what is finished; a shard that was cut short is opened again if it may now be longer.

        Its files stay, and are what a finished build has, until the longer one is written.
        """
        found = list(self.summaries())
        self._end(found)
        opened = found.pop() if growth.may_grow(found, self.plan, self.total) else None
        for summary in found:
            self.kept += summary["pairs"]
            self.tally.merge(summary["tally"])
            self.barren = summary["barren"]
            self.seen.load(summary.get("digests", ""))
        self.shard = len(found)
        for path in sorted(self.work.glob("[0-9]*")) if self.work.is_dir() else []:
            chunk = int(path.name[:8])
            if chunk < self.shard * self.plan.chunks_per_shard:
                remove(path)
            elif path == self.part_path(chunk):
                self._open_short(chunk)
        if opened:
            rows = [*read_rows(self.records_path(self.shard)), *opened.get("rest", [])]
            for chunk, some in growth.in_chunks(rows, self.plan):
                if not self.part_path(chunk).is_file():
                    self._write_down(chunk, some)

    def _end(self, found: list[dict[str, Any]]) -> None:
        """End the build with its finished shards if they hold all pairs that it is asked for by now."""
        if sum(summary["pairs"] for summary in found) < self.plan.count:
            return
        while not found[-1]["cut"] and not found[-1]["pairs"]:
            found.pop()
            name = f"{len(found):08d}"
            for path in (self.folder / shards.SHARDS / f"{name}.tar", self.records_path(len(found))):
                remove(path)
            remove(self.summary_path(len(found)))  # last, so that a kill before it changes nothing
        shard = len(found) - 1
        rows = list(read_rows(self.records_path(shard)))
        if not found[-1]["cut"]:
            found[-1] |= growth.ended(rows, self.plan, self.total)
            write_whole(self.summary_path(shard), shards.dump(found[-1]) + b"\n")
        if len(rows) > found[-1]["jobs"]:  # now, or since a kill just here
            lines = (shards.dump(row) + b"\n" for row in rows[: found[-1]["jobs"]])
            write_whole(self.records_path(shard), lines)

    def _open_short(self, chunk: int) -> None:
        """Take back a part that was made when the jobs ended within its chunk, or of which a language model
        was away."""
        rows = read_part(self.part_path(chunk), pictures=False).rows
        away = any(row["dropped"] and row["dropped"]["stage"] == AWAY for row in rows)
        if away or len(rows) < len(self.plan.numbers(chunk, self.total)):
            self._take_back(chunk, rows)

    def _take_back(self, chunk: int, rows: Iterable[growth.Row]) -> None:
        """Forget a part, to be made again from the same instructions."""
        self._write_down(chunk, rows)
        remove(self.part_path(chunk))

    def _write_down(self, chunk: int, rows: Iterable[growth.Row]) -> None:
        """Write down again the instructions that rows were made from, unless as many are there."""
        lines = growth.lines_of(rows)
        if self.written(chunk).count(b"\n") < lines.count(b"\n"):
            write_whole(self.jobs_path(chunk), lines)

    @property
    def pairs(self) -> int:
        """Pairs kept so far, those of open shards too."""
        return self.kept + sum(one.pairs for one in self._open)

    @property
    def finished(self) -> bool:
        """Whether the last shard was written, enough pairs or not."""
        return self.shard > 0 and self._summary(self.shard - 1)["cut"]

    def put(self, chunk: int, part: bytes) -> None:
        """Write a chunk's part; the same chunk may come twice and is the same."""
        if chunk >= self._chunk and not self.part_path(chunk).is_file():
            write_whole(self.part_path(chunk), part)
        remove(self.jobs_path(chunk))

    def missing(self, last: int) -> Iterator[int]:
        """The chunks up to `last` (exclusive) that have no part yet, looked for as they are asked for."""
        for chunk in range(self.shard * self.plan.chunks_per_shard, last):
            if chunk >= self._chunk and not self.part_path(chunk).is_file():
                yield chunk

    def advance(self, last: int) -> bool:
        """Count the parts that are there in order, write the shards they fill; True when the build is done.

        `last`: the number of chunks there are at most. Done is: enough pairs, or no more chunks. A full shard
        waits while failures in turn that began within it go on, for these jobs may have to be tried again.
        """
        per_shard = self.plan.chunks_per_shard
        while not self.finished and self._chunk < last and self.part_path(self._chunk).is_file():
            part = read_part(self.part_path(self._chunk))
            for row in part.rows:
                self._count(row, part)
            self._chunk += 1
            counted = self._open[-1]
            counted.end, counted.barren = self._chunk, self.barren
            enough = self.pairs >= self.plan.count
            ends = enough or (self._chunk == last and self.faults < MOST_FAULTS)
            if not ends and self._chunk % per_shard == 0:
                self._open.append(_Open())
            while self._open and self._open[0].end and (ends or self._sure(self._open[0])):
                self._write_shard(self._open.pop(0), cut=ends and not self._open)
        return self.finished

    def _sure(self, shard: _Open) -> bool:
        """Whether a shard is full, and none of its jobs is of the failures in turn that are going on."""
        full = shard.end % self.plan.chunks_per_shard == 0
        return full and not (self.faults and self._streak < shard.end)

    def _count(self, row: dict[str, Any], part: Part) -> None:
        """One job: whether it is a double, whether it failed, and the counts."""
        digest = doubles.digest(row, part)
        if digest is not None:
            if self.seen.take(digest):
                self._open[-1].fresh.append(digest)
            else:
                self._open[-1].double.add(row["number"])
                doubles.drop(row)
        self._open[-1].pairs += len(kept_keys(row))
        self.tally.add(row)
        self.barren = 0 if kept_keys(row) else self.barren + 1
        wrong = failed(row)
        if wrong:
            self._streak = self._streak if self.faults else self._chunk
            self.faults += 1
            told = row["dropped"] or row["candidates"][-1]["verdict"]
            self.fault = told["reason"]
        elif wrong is False:
            self.faults = 0

    def take_back_faults(self) -> None:
        """Forget the parts from where the failures in turn began, to be made again."""
        for path in sorted(self.work.glob("[0-9]*.tar")) if self.work.is_dir() else []:
            chunk = int(path.name[:8])
            if chunk >= self._streak:
                self._take_back(chunk, read_part(path, pictures=False).rows)

    def _write_shard(self, counted: _Open, cut: bool) -> None:
        """The next shard from its parts; with `cut` it is the last, and holds no pair too many."""
        first, name = self.shard * self.plan.chunks_per_shard, f"{self.shard:08d}"
        room = self.plan.count - self.kept
        rows: list[bytes] = []
        rest: list[dict[str, Any]] = []
        tally, pairs, jobs = Tally(), 0, 0
        digest, size = hashlib.sha256(), 0

        def pieces() -> Iterator[bytes]:
            nonlocal pairs, jobs, size
            for chunk in range(first, counted.end):
                part = read_part(self.part_path(chunk))
                for row in part.rows:
                    if pairs >= room:
                        rest.append({name: row[name] for name in ("number", "job", "dropped")})
                        continue  # whoever asks for more pairs later gets this job's then
                    if row["number"] in counted.double:
                        doubles.drop(row)
                    data, count = _taken(row, part, room - pairs)
                    pairs, jobs, size = pairs + count, jobs + 1, size + len(data)
                    tally.add(row)
                    rows.append(shards.dump(row) + b"\n")
                    digest.update(data)
                    if data:
                        yield data
            digest.update(shards.TAR_END)
            size += len(shards.TAR_END)
            yield shards.TAR_END

        if self.summary_path(self.shard).is_file():  # of a finished build, which ends here to go further
            remove(self.folder / shards.MANIFEST)
            remove(self.summary_path(self.shard))
        write_whole(self.folder / shards.SHARDS / f"{name}.tar", pieces())
        write_whole(self.records_path(self.shard), rows)
        summary = {
            "name": f"{name}.tar",
            "pairs": pairs,
            "jobs": jobs,
            "bytes": size,
            "sha256": digest.hexdigest(),
            "cut": cut,
            "limit": [self.plan.count, self.total] if cut else [],
            "rest": rest,
            "barren": counted.barren,
            "digests": doubles.dump(counted.fresh),
            "tally": tally.to_json(),
        }
        write_whole(self.summary_path(self.shard), shards.dump(summary) + b"\n")
        for chunk in range(first, counted.end):
            remove(self.part_path(chunk))
        self.kept += pairs
        self.shard += 1

    def finish(self) -> dict[str, Any]:
        """Write the index and, last, the manifest; returns the manifest."""
        found = list(self.summaries())
        tally = Tally()
        for summary in found:
            tally.merge(summary["tally"])
        records = map(self.records_path, range(len(found)))
        index = write_index(self.folder, (pair for path in records for pair in index_rows(path)))
        manifest = {
            "pairs": self.kept,
            "jobs": sum(summary["jobs"] for summary in found),
            "index": index.name,
            "shards": [{k: s[k] for k in ("name", "pairs", "bytes", "sha256")} for s in found],
            "tally": tally.to_json(),
        }
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        write_whole(self.folder / shards.MANIFEST, text.encode())
        for path in sorted(self.work.glob("*")) if self.work.is_dir() else []:
            remove(path)  # of chunks that were made ahead and not needed
        if self.work.is_dir():
            self.work.rmdir()
        return manifest


def _taken(row: dict[str, Any], part: Part, room: int) -> tuple[bytes, int]:
    """The tar members of a job's pairs, no more than `room` of them, and how many; the row is told."""
    keys = kept_keys(row)
    for one in row["candidates"]:
        if one["key"] in keys[room:]:
            one["key"] = ""
    taken = keys[:room]
    return b"".join(shards.members(part.pairs[key]) for key in taken), len(taken)
