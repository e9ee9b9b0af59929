"""From scores to verdicts, and from candidates to the best of them.

A candidate is kept if no filter failed it. A filter without its model fails nobody; one that breaks down
over a candidate, or gives no number, does: what could not be judged is not kept. Candidates of one job are
ranked by CLIP's direction, as InstructPix2Pix orders its own; where nobody measured that, by how little
changed outside the mask; where there is no outside either, they stay in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...errors import EmuEditError
from ..faults import FILTER_FAILED, told
from ..records import Candidate, Score, Verdict
from .base import BATCH, Filter, Finding, Poll

RANKED_BY = (("clip_direction", 1.0), ("outside", -1.0))


def judge(candidate: Candidate, filters: Sequence[Filter]) -> Verdict:
    """One candidate's verdict."""
    return judge_all([candidate], filters)[0]


def judge_all(
    candidates: Sequence[Candidate],
    filters: Sequence[Filter],
    on_step: Callable[[int, int], None] | None = None,
    poll: Poll | None = None,
) -> list[Verdict]:
    """One verdict for each candidate; every filter looks at every one, so that each keeps every score.

    on_step(done, total) is called after each filter and may raise to interrupt. poll is asked before every
    look, at a few candidates or one; give the same one to a model that asks inside a look, and what it raises
    there goes through too. A filter that raises over a candidate, or scores it NaN, fails it with a reason
    that begins with FILTER_FAILED; pictures that hold values that are no finite numbers fail as "finite". A
    full disk raises EmuEditError.
    """
    if not candidates:
        return []
    rows: list[list[Finding]] = [_unsound(one) for one in candidates]
    for done, each in enumerate(filters, 1):
        size = 1 if getattr(each, "one_by_one", False) else BATCH
        for start in range(0, len(candidates), size):
            end = start + size
            for row, finding in zip(rows[start:end], _looked(each, candidates[start:end], poll), strict=True):
                row.append(finding)
        if on_step is not None:
            on_step(done, len(filters))
    return [_verdict(one, row) for one, row in zip(candidates, rows, strict=True)]


def _looked(each: Filter, candidates: Sequence[Candidate], poll: Poll | None) -> list[Finding]:
    if poll is not None:
        poll()
    try:
        return each.look(candidates)
    except Exception as problem:
        if poll is not None and poll.stopped is not None:
            raise poll.stopped from None  # no fault of the filter's: the user wants to stop
        reason = f"{FILTER_FAILED}{told(problem)}"
    if len(candidates) == 1:
        return [Finding((Score(each.name, None, None, False, reason),))]
    return [_looked(each, [one], poll)[0] for one in candidates]  # the others of the batch are not to blame


def _unsound(one: Candidate) -> list[Finding]:
    """A failed score where a picture holds NaN or infinity, which some filters would not notice."""
    if all(bool(torch.isfinite(picture).all()) for picture in (one.source, one.target)):
        return []
    reason = "a picture holds values that are no finite numbers"
    return [Finding((Score("finite", None, None, False, reason),))]


def _verdict(one: Candidate, findings: Sequence[Finding]) -> Verdict:
    scores = tuple(score for finding in findings for score in finding.scores)
    task = next((finding.task for finding in findings if finding.task), one.task)
    failed = next((score for score in scores if score.passed is False), None)
    return Verdict(
        task,
        failed is None,
        scores,
        "" if failed is None else failed.reason,
        "" if failed is None else failed.name,
        rank_of(scores),
    )


def rank_of(scores: Sequence[Score]) -> float | None:
    """What a candidate is ranked by, higher is better; None where nothing to rank by was measured."""
    values = {score.name: score.value for score in scores}
    for name, sign in RANKED_BY:
        value = values.get(name)
        if value is not None:
            return sign * value
    return None


def best(verdicts: Sequence[Verdict], keep: int = 1) -> list[int]:
    """The places of the kept candidates of one job, best first, `keep` at most (InstructPix2Pix keeps 4).

    Equal ranks stay in order; a candidate without a rank comes after those with one.
    """
    if keep < 1:
        raise EmuEditError(f"filters: {keep} candidates are to be kept of each job; give 1 or more.")
    places = [place for place, verdict in enumerate(verdicts) if verdict.kept]

    def order(place: int) -> tuple[bool, float]:
        rank = verdicts[place].rank
        return rank is None, -(rank or 0.0)

    return sorted(places, key=order)[:keep]
