"""How a finished build goes further: the shard that it ended with is opened again, and nobody is asked twice.

A build ends within a shard, which is then "cut" by what its summary's "limit" tells: the pairs asked for, or
the jobs that there were. Made longer, its last chunk may go on where it ended, so the shard's jobs are made
again; but from the instructions in its records, for a language model need not answer the same twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ...core.pairs import shards
from .plan import BuildPlan
from .rows import DOUBLE, Tally, kept_keys

Row = Mapping[str, Any]
"""What became of a job (rows.py); here its "number", "job" and "dropped" are enough."""


def may_grow(summaries: Sequence[Mapping[str, Any]], plan: BuildPlan, total: int) -> bool:
    """Whether the last of these shards was cut by what reaches further with this plan and `total` jobs."""
    if not summaries or not summaries[-1]["cut"]:
        return False
    pairs = sum(summary["pairs"] for summary in summaries)
    if pairs >= plan.count or total < sum(summary["jobs"] for summary in summaries):
        return False  # enough already, or fewer jobs than gave what is there: opened, it would shrink
    count_before, total_before = summaries[-1]["limit"]
    return pairs >= count_before or total > total_before


def ended(rows: Sequence[Row], plan: BuildPlan, total: int) -> dict[str, Any]:
    """What the summary of a full shard with these rows says when it ends with its last pair, as the shard of
    a build to just so many pairs does: the jobs after it that share its chunk are the "rest"."""
    last = max(place for place, row in enumerate(rows) if kept_keys(row))
    chunk = rows[last]["number"] // plan.chunk_jobs
    after = [row for row in rows[last + 1 :] if row["number"] // plan.chunk_jobs == chunk]
    tally = Tally()
    for row in rows[: last + 1]:
        tally.add(row)
    return {
        "jobs": last + 1,
        "cut": True,
        "limit": [plan.count, total],
        "rest": [{"number": row["number"], "job": row["job"], "dropped": _own(row)} for row in after],
        "barren": len(after),
        "tally": tally.to_json(),
    }


def _own(row: Row) -> Any:
    """Why a job came to nothing of itself, and not for what other jobs gave."""
    return row["dropped"] if row["dropped"] and row["dropped"]["stage"] != DOUBLE else None


def in_chunks(rows: Iterable[Row], plan: BuildPlan) -> Iterator[tuple[int, list[Row]]]:
    """Rows by the numbers of their chunks; the last may have fewer of them than a chunk has jobs."""
    for chunk, some in groupby(rows, lambda row: row["number"] // plan.chunk_jobs):
        yield chunk, list(some)


def lines_of(rows: Iterable[Row]) -> bytes:
    """What rows were made from, as stages.items_to_lines writes it: the job, which a row has whatever became
    of it later, or why there was none."""
    records = ({"job": row["job"]} if row["job"] else {"dropped": row["dropped"]} for row in rows)
    return b"".join(shards.dump(record) + b"\n" for record in records)
