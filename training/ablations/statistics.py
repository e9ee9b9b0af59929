"""Means with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals share a value."""
        return self.low <= other.high and other.low <= self.high


def mean_of(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of independent values (percentile bootstrap)."""
    return statistic_of({"": values}, lambda rows: float(np.mean(rows[""])), seed)


def mean_over(groups: Mapping[str, Sequence[float]], seed: int = 0) -> Interval:
    """The mean of the means of groups, such as tasks; values are drawn anew within their group."""
    return statistic_of(groups, lambda rows: float(np.mean([np.mean(v) for v in rows.values()])), seed)


def share_of(part: Sequence[float], whole: Sequence[float], seed: int = 0) -> Interval:
    """sum(part) / sum(whole) of paired values, pairs drawn anew together."""
    if len(part) != len(whole):
        raise ValueError(f"{len(part)} values against {len(whole)}")
    pairs = np.stack([np.asarray(part, float), np.asarray(whole, float)], 1)

    def share(rows: Mapping[str, np.ndarray]) -> float:
        top, bottom = rows[""].sum(0)
        return float(top / bottom) if bottom else float("nan")

    return statistic_of({"": pairs}, share, seed)


def statistic_of(
    groups: Mapping[str, Sequence[float] | np.ndarray],
    statistic: Callable[[Mapping[str, np.ndarray]], float],
    seed: int = 0,
) -> Interval:
    """Any statistic of groups of independent rows, with the percentile bootstrap's interval."""
    rows = {name: np.asarray(values, float) for name, values in groups.items()}
    rng = np.random.default_rng(seed)
    drawn = [
        statistic({name: v[rng.integers(0, len(v), len(v))] for name, v in rows.items()})
        for _ in range(DRAWS)
    ]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return Interval(statistic(rows), float(low), float(high))
