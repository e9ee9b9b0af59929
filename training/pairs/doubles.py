"""Pairs that a data set holds already, found with a digest of eight bytes of each.

A job's pair is a double of an earlier one if task, picture before, and the words of the instruction that
carry meaning are the same ("remove the dog", "please erase the dog"); where no picture was given, the
captions stand for it, since what is generated from the same words is more of the same. Jobs are looked at in
order and the first is kept, so the result is the same however they were made. That two of n different pairs
are taken for one has a chance of n^2 / 2^65: one in thirty million for a million pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ...core.pairs.instructions.dedupe import meaning
from ...core.pairs.instructions.rules import plain
from ...core.pairs.records import Dropped
from .rows import DOUBLE, Part, kept_keys

BYTES = 8
REASON = "a pair of this data set says the same of the same picture already."


class Doubles:
    """What was kept, as digests: 16 bytes of each job on the disk (in hex), 70 to 110 in memory (a set)."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def load(self, digests: str) -> None:
        """Take in those of a finished shard, as `dump` wrote them."""
        data = bytes.fromhex(digests)
        self._seen.update(int.from_bytes(data[at : at + BYTES], "big") for at in range(0, len(data), BYTES))

    def take(self, digest: int) -> bool:
        """Whether it is new; it is remembered."""
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True


def dump(digests: list[int]) -> str:
    """Digests as text, 16 hexadecimal digits each."""
    return b"".join(digest.to_bytes(BYTES, "big") for digest in digests).hex()


def digest(row: Mapping[str, Any], part: Part) -> int | None:
    """What a job's best pair is about; None where it has none."""
    keys = kept_keys(row)
    if not keys:
        return None
    words = row["job"]["instruction"]
    hashed = hashlib.blake2b(digest_size=BYTES)
    if row["job"]["picture"]:
        hashed.update(part.pairs[keys[0]][f"{keys[0]}.source.png"])
    told = [words["task"], " ".join(meaning(words["instruction"]))]
    if not row["job"]["picture"]:
        told += [plain(words["input_caption"]), plain(words["output_caption"])]
    hashed.update("\x1f".join(["", *told]).encode())
    return int.from_bytes(hashed.digest(), "big")


def drop(row: dict[str, Any]) -> None:
    """Make a row one of a double: its candidates stay told, none of them is a pair."""
    job = row["job"]
    row["dropped"] = Dropped(DOUBLE, REASON, job["instruction"]["task"], job["id"]).to_json()
    for one in row["candidates"]:
        one["key"] = ""
