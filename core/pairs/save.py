"""A list of candidates as a folder of pairs, laid out as training.build_pairs lays out its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import EmuEditError
from . import shards
from .durable import write_whole
from .index import write_index
from .records import Candidate, PairJob, Verdict

PAIRS_IN_SHARD = 100  # held in memory as files until the shard is written
JOB, VERDICT = "job", "verdict"
"""Entries of a candidate's metadata that hold its PairJob and its Verdict, as JSON."""


def job_of(candidate: Candidate, place: int) -> PairJob:
    """The job that a candidate was made for; one made up where its metadata has none."""
    told = candidate.metadata.get(JOB)
    if told is not None:
        return PairJob.from_json(told)
    return PairJob(f"pair-{place:08d}", candidate.seed, candidate.instruction)


def verdict_of(candidate: Candidate) -> Verdict:
    """What filters said of a candidate; kept without scores where none were asked."""
    told = candidate.metadata.get(VERDICT)
    return Verdict(candidate.task, True) if told is None else Verdict.from_json(told)


def save_pairs(
    folder: Path, candidates: Sequence[Candidate], on_pair: Callable[[int], None] | None = None
) -> list[Path]:
    """Write candidates to `folder` as shards, an index and a manifest (see core.pairs.shards); the shards.

    Pairs keep their order; pair k has the key k. `on_pair(done)` is called after each and may raise to
    interrupt: shards that are whole stay, the manifest, which is written last, is then missing. Raises
    EmuEditError for no candidates, a folder that holds shards, and a disk that is full.
    """
    if not candidates:
        raise EmuEditError("save pairs: there are none; wire pairs that were made or kept.")
    if any((folder / shards.SHARDS).glob("*")):
        raise EmuEditError(f"save pairs: {folder} holds shards already; give another folder.")
    rows: list[dict[str, Any]] = []
    written, entries = [], []
    for number, first in enumerate(range(0, len(candidates), PAIRS_IN_SHARD)):
        path = folder / shards.SHARDS / f"{number:08d}.tar"
        pieces = []
        for place, candidate in enumerate(candidates[first : first + PAIRS_IN_SHARD], first):
            record, files = _pair(place, candidate)
            rows.append(record | {"shard": path.name})
            pieces.append(files)
            if on_pair is not None:
                on_pair(place + 1)
        data = b"".join([*pieces, shards.TAR_END])
        write_whole(path, data)
        written.append(path)
        digest = hashlib.sha256(data).hexdigest()
        entries.append({"name": path.name, "pairs": len(pieces), "bytes": len(data), "sha256": digest})
    index = write_index(folder, rows)
    manifest = {"pairs": len(candidates), "index": index.name, "shards": entries}
    write_whole(folder / shards.MANIFEST, shards.dump(manifest) + b"\n")
    return written


def _pair(place: int, candidate: Candidate) -> tuple[dict[str, Any], bytes]:
    """The record of a pair, and its files as they stand in a shard."""
    rest = {name: value for name, value in candidate.metadata.items() if name not in (JOB, VERDICT)}
    plain = replace(candidate, metadata=rest)
    record = shards.pair_record(f"{place:08d}", job_of(candidate, place), plain, verdict_of(candidate))
    return record, shards.members(shards.pair_files(record, plain))
