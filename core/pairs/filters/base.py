"""What every filter is: a name, and scores for a batch of candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...errors import EmuEditError
from ..records import Candidate, Score

BATCH = 16  # candidates given to a model at once


@dataclass(frozen=True)
class Finding:
    """What a filter says of one candidate: its scores, and the task it would put it under, if another."""

    scores: tuple[Score, ...]
    task: str | None = None


class Filter(Protocol):
    """`name` is also the first score's name, or their names' beginning. `look` gives one Finding for each
    candidate; what a candidate looks like to it must not depend on the others of the batch.

    A filter that has nothing of a batch has an attribute `one_by_one = True`: it is given candidates singly,
    so that a run can be stopped between them.
    """

    @property
    def name(self) -> str: ...

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]: ...


class Poll:
    """Asks a host whether to go on: `ask` raises what the host stops with.

    It remembers that it raised. Hosts stop with an ordinary exception, which who forgives a filter's faults
    must be able to tell from those; and asking again would not tell, since ComfyUI takes the user's wish
    back as it raises.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        self.stopped: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.ask()
        except BaseException as stop:
            self.stopped = stop
            raise


@dataclass(frozen=True)
class NotRun:
    """Stands for a filter whose model is missing: each candidate's record says so."""

    name: str
    reason: str

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        return [not_run(self.name, self.reason) for _ in candidates]


def not_run(name: str, reason: str) -> Finding:
    """One score that says why there is none."""
    return Finding((Score(name, reason=reason),))


def at_least(name: str, value: float, threshold: float, reason: str) -> Score:
    """Passed if value >= threshold; `reason` is the sentence for when it is not."""
    return Score(name, value, threshold, value >= threshold, "" if value >= threshold else reason)


def at_most(name: str, value: float, threshold: float, reason: str) -> Score:
    """Passed if value <= threshold."""
    return Score(name, value, threshold, value <= threshold, "" if value <= threshold else reason)


def check_share(name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    """A threshold within its range, or EmuEditError."""
    if not low <= value <= high:
        raise EmuEditError(f"filters: {name} is {value}; give a number from {low:g} to {high:g}.")


def batches(
    candidates: Sequence[Candidate], concerned: Sequence[bool] | None = None, size: int = BATCH
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Places of candidates of one picture size, with their sources and targets [B,H,W,3], at most `size`."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(candidates):
        if concerned is None or concerned[place]:
            groups.setdefault(tuple(one.source.shape), []).append(place)
    for places in groups.values():
        for start in range(0, len(places), size):
            some = places[start : start + size]
            yield (
                some,
                torch.stack([candidates[k].source for k in some]),
                torch.stack([candidates[k].target for k in some]),
            )


def unconcerned(name: str, task: str) -> Finding:
    """The finding for a task that a filter has nothing to say of."""
    return not_run(name, f"does not concern the task {task}")
