"""The stream of a build: chunks made in turn, or by Ray; parts counted in order; shards written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ...core.errors import EmuEditError
from ...core.locks import only_one
from ...core.pairs.durable import write_whole
from .jobs import Jobs, keep_names
from .plan import BuildPlan
from .stages import Maker, completed, items_from_lines, items_to_lines
from .store import MOST_FAULTS, Store

Results = Callable[[Iterable[int]], Iterator[tuple[int, bytes]]]
Tell = Callable[[str], None]


def one_process(plan: BuildPlan, jobs: Jobs, maker: Maker, store: Store, total: int) -> Results:
    """Results made here, a chunk at a time; instructions are written down before they are used."""

    def results(chunks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        for chunk in chunks:
            known = store.written(chunk)
            lines = items_to_lines(completed(items_from_lines(known), jobs.make, plan.numbers(chunk, total)))
            if lines != known:
                write_whole(store.jobs_path(chunk), lines)
            # Read from the lines, not as made: what a resumed build would have.
            yield chunk, maker.part(chunk, items_from_lines(lines))

    return results


def build(
    folder: Path,
    plan: BuildPlan,
    jobs: Jobs,
    make_results: Callable[[Store, int], Results],
    tell: Tell = lambda line: None,
    every: float = 10.0,
) -> dict[str, Any]:
    """Build until `plan.count` pairs are kept; returns the manifest.

    `make_results(store, total)` gives what turns chunk numbers into (chunk, part), in any order. `tell` is
    called with a progress line at most once in `every` seconds, and at the end. Raises EmuEditError, with all
    that was made so far on the disk, when the jobs run out, nothing is kept for too long, MOST_FAULTS jobs in
    turn fail, or the disk fills.
    """
    with only_one(Path(folder), "build"):
        total = min(plan.job_limit, jobs.total or plan.job_limit)
        store = Store(Path(folder), plan, total)
        keep_names(Path(folder), getattr(jobs, "names", ()))
        last = math.ceil(total / plan.chunk_jobs)
        began, told, jobs_before = time.monotonic(), 0.0, store.tally.jobs.total()
        done = store.advance(last)
        if not done:
            _check_faults(store)
            stream = make_results(store, total)(store.missing(last))
            try:
                for chunk, part in stream:
                    store.put(chunk, part)
                    done = store.advance(last)
                    now = time.monotonic()
                    if now - told >= every or done:
                        told = now
                        rate = (store.tally.jobs.total() - jobs_before) / max(1e-9, now - began)
                        have = f"{min(store.pairs, plan.count)} of {plan.count} pairs"
                        tell(f"{have}; {store.tally.line()}; {rate:.2f} jobs/s")
                    if done:
                        break
                    _check_faults(store)
                    if store.barren >= plan.patience:
                        raise EmuEditError(_barren(store))
            finally:
                close = getattr(stream, "close", None)
                if close is not None:
                    close()
        manifest = store.finish()
    if manifest["pairs"] < plan.count:
        raise EmuEditError(
            f"build: the jobs ran out: {manifest['jobs']} gave {manifest['pairs']} of {plan.count} pairs, "
            "which are written; give more captions or a larger --max-jobs, and the same command goes on."
        )
    return manifest


def _check_faults(store: Store) -> None:
    """Take back the failures in turn and raise EmuEditError where there are too many of them."""
    if store.faults >= MOST_FAULTS:
        store.take_back_faults()
        raise EmuEditError(
            f"build: the last {store.faults} jobs failed, the latest with {store.fault!r}; mend that, and "
            "the same command tries them again."
        )


def _barren(store: Store) -> str:
    worst = (store.tally.dropped + store.tally.lost).most_common(1)
    why = f", most often by {worst[0][0].strip()!r}" if worst else ""
    return (
        f"build: the last {store.barren} jobs gave no pair{why}; look at {store.folder} with "
        "training.report, or raise --patience, and the same command goes on."
    )
