"""What a training run says of itself, and how it is asked to end."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor


class Journal:
    """One JSON line every half minute, to a file and to the screen.

    `relative_error` is, per task, the squared error of the first sampling step (from pure noise), as it shows
    in the picture, over what there was to draw (see objective.py); `layout` is how little the inner features
    tell of what stands where, in nats a question.
    """

    def __init__(self, path: Path, size: int, every: float = 30.0) -> None:
        self.path, self.size, self.every = path, size, every
        self._clear()

    def _clear(self) -> None:
        self.began = time.monotonic()
        self.losses: list[float] = []
        self.masks: list[float] = []
        self.layouts: list[float] = []
        self.errors: dict[str, list[float]] = defaultdict(list)
        self.samples = 0

    def note(self, loss: float, seen: dict[str, Tensor], tasks: Sequence[str], at_pure_noise: Tensor) -> None:
        """Remember one batch."""
        self.losses.append(loss)
        self.masks.append(float(seen["mask"]))
        if "layout" in seen:
            self.layouts.append(float(seen["layout"]))
        self.samples += len(tasks)
        for index in (seen["informed"] & at_pure_noise).nonzero().flatten().tolist():
            self.errors[tasks[index]].append(float(seen["relative"][index]))

    def speak(self, progress: dict[str, Any]) -> None:
        """Write a line if it is time."""
        elapsed = time.monotonic() - self.began
        if elapsed < self.every:
            return
        entry = progress | {
            "loss": _mean(self.losses),
            "mask": _mean(self.masks),
            **({"layout": _mean(self.layouts)} if self.layouts else {}),
            "size": self.size,
            "per_second": round(self.samples / elapsed, 1),
            "relative_error": {task: _mean(values) for task, values in sorted(self.errors.items())},
        }
        text = json.dumps(entry)
        with open(self.path, "a") as file:
            file.write(text + "\n")
        print(text, flush=True)
        self._clear()


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that a sitting ends with its state saved."""
    asked = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: asked.set())
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
