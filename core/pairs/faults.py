"""Failures that are no fault of the item: told in a sentence, so that the others go on."""

from __future__ import annotations

from ..errors import EmuEditError
from .durable import FULL


class DiskFull(EmuEditError):
    """It concerns all jobs and not one, so it ends the run."""


AWAY = "away"
"""Stage of an instruction for which a language model's backend was away: it is to be asked again."""

FILTER_FAILED = "filter failed: "
"""What the reason of a pair begins with that a filter could not judge."""


def told(problem: Exception) -> str:
    """What went wrong, in a line: a slip's sentence, else the kind of exception and its first line.

    Raises DiskFull where that is what went wrong.
    """
    if isinstance(problem, DiskFull):
        raise problem
    if isinstance(problem, OSError) and problem.errno in FULL:
        raise DiskFull(
            "the disk is full, seen while a pair was made; free some space and give the same command again."
        ) from problem
    if isinstance(problem, EmuEditError):
        return str(problem)
    line = next((line.strip() for line in str(problem).splitlines() if line.strip()), "no reason told")
    return f"{type(problem).__name__}: {line[:200]}"
