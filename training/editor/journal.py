"""The log of a run: one JSON line every few steps, and TensorBoard's files on demand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.packages import need
from ...core.pairs.durable import write_whole


class Journal:
    """Means over `every` steps. What a killed run logged after its last checkpoint is taken back at first.

    `pending` is what had been gathered for the next line when the checkpoint was saved (see `state`).
    """

    def __init__(
        self, run: Path, every: int, done: int, pending: Mapping[str, Any], tensorboard: bool
    ) -> None:
        self._file, self._every = run / "log.jsonl", every
        self._sums: dict[str, list[float]] = {name: list(pair) for name, pair in pending.items()}
        self._take_back(done)
        self._writer: Any = None
        if tensorboard:
            why, install = "to write TensorBoard's files", "pip install tensorboard"
            need("tensorboard", why, install)
            writers: Any = need("torch.utils.tensorboard", why, install)
            self._writer = writers.SummaryWriter(str(run / "tensorboard"), purge_step=done + 1)

    def _take_back(self, done: int) -> None:
        if not self._file.is_file():
            return
        lines = self._file.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= done]
        if kept != lines:
            write_whole(self._file, "".join(line + "\n" for line in kept).encode())

    def state(self) -> dict[str, list[float]]:
        """For the checkpoint."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def note(self, step: int, values: Mapping[str, float], facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take in the values of one step; returns the line if it is time for one."""
        for name, value in values.items():
            entry = self._sums.setdefault(name, [0.0, 0.0])
            entry[0] += value
            entry[1] += 1
        if step % self._every:
            return None
        means = {name: total / count for name, (total, count) in sorted(self._sums.items())}
        self._sums = {}
        line = {"step": step, **means, **facts}
        self.write(line)
        if self._writer is not None:
            for name, value in line.items():
                if name != "step" and isinstance(value, (int, float)):
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
        return line

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line as it is."""
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line
