"""What writing instructions has cost so far: questions, tokens, seconds, money if prices are known."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .backend import Answer


@dataclass
class Usage:
    """Counts of a run. written: instructions kept. dropped: how many came to nothing, by kind of reason.

    price_in, price_out: money for a million tokens read and written, 0 where nothing is to be paid.
    """

    price_in: float = 0.0
    price_out: float = 0.0
    clock: Callable[[], float] = time.monotonic
    written: int = 0
    asked: int = 0
    again: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    begun: float | None = None

    def ask(self, again: bool = False) -> None:
        """One more question is sent."""
        if self.begun is None:
            self.begun = self.clock()
        self.asked += 1
        self.again += again

    def hear(self, answer: Answer) -> None:
        """An answer came, whether or not it is of use."""
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens

    @property
    def seconds(self) -> float:
        """Since the first question."""
        return 0.0 if self.begun is None else max(0.0, self.clock() - self.begun)

    @property
    def cost(self) -> float:
        """In the prices' money."""
        return (self.prompt_tokens * self.price_in + self.completion_tokens * self.price_out) / 1e6

    def line(self) -> str:
        """For a progress line: "12 written, 1 dropped (1 duplicate), 15 questions, ... 3.1 a minute"."""
        parts = [f"{self.written} written"]
        if self.dropped:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.dropped.items()))
            parts.append(f"{sum(self.dropped.values())} dropped ({kinds})")
        again = f" ({self.again} again)" if self.again else ""
        parts.append(f"{self.asked} questions{again}")
        if self.prompt_tokens or self.completion_tokens:
            parts.append(f"{self.prompt_tokens} tokens read, {self.completion_tokens} written")
        if self.price_in or self.price_out:
            parts.append(f"cost {self.cost:.4f}")
        if self.seconds > 0:
            parts.append(f"{60 * self.written / self.seconds:.1f} a minute")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The counts, for a report."""
        return {
            "written": self.written,
            "asked": self.asked,
            "again": self.again,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "dropped": dict(sorted(self.dropped.items())),
            "cost": self.cost,
            "seconds": round(self.seconds, 3),
        }
