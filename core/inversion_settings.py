"""What task inversion is told, tells while it works, and gives: see task_inversion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .errors import EmuEditError
from .tasks import TaskVector

MEAN = "mean"
AUTO = "auto"
PHASES = ("encode", "start", "learn")


@dataclass(frozen=True)
class InversionSettings:
    """How to learn. `steps` updates at most, of `batch` examples each, noised anew; `rate` in units of the
    root mean square of the known tasks' vectors, falling to zero along a cosine; `start` is "auto", "none"
    (zeros), "mean" or a known task; the share `held_out` of the examples (0 to 0.5) is kept to measure by,
    every `check_every` steps, and after `patience` checks without a new best learning ends (0: never before
    `steps`). `size`: longest side worked at in pixels (None: the editor's own). `text_dropout`: share of
    views without their words (None: 0.05 if the editor is used with text guidance, else 0). `checkpointing`
    halves the memory of large editors for a third more time.
    Raises EmuEditError for values out of range.
    """

    steps: int = 300
    rate: float = 0.1
    batch: int = 8
    seed: int = 0
    start: str = AUTO
    held_out: float = 0.2
    check_every: int = 20
    patience: int = 5
    size: int | None = None
    text_dropout: float | None = None
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("steps", self.steps, 1),
            ("batch", self.batch, 1),
            ("check_every", self.check_every, 1),
            ("patience", self.patience, 0),
        ):
            if value < least:
                raise EmuEditError(f"task inversion: {name} is {value}; give {least} or more.")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise EmuEditError(f"task inversion: rate is {self.rate}; give a positive number such as 0.1.")
        if not 0 <= self.held_out <= 0.5:
            raise EmuEditError(f"task inversion: held_out is {self.held_out}; give a share in 0..0.5.")


@dataclass(frozen=True, eq=False)
class InversionStep:
    """What the callback sees: the `phase` (one of PHASES), `index` of its `total` parts (from 0), the `loss`
    just seen, the lowest `held_out` loss so far (NaN before there is one), and whether this was a `check`.

    `preview()` gives [1,H,3W,3]: input, wanted, and what the best vector so far makes of it; it can be asked
    for once the examples are encoded.
    """

    phase: str
    index: int
    total: int
    loss: float
    held_out: float
    check: bool
    preview: Callable[[], Tensor]


OnStep = Callable[[InversionStep], None]


@dataclass(frozen=True, eq=False)
class InversionResult:
    """The learnt `task`; `start`: what it started from, and `starts`: the loss of every start tried;
    `history`: (step, loss of the held-out examples) at each check, step 0 being the start; `best_step`: the
    step that the vector is from; `learnt_from` and `held_out`: counts of examples; `notes`: sentences for
    the user; `preview` [1,H,3W,3]: input, wanted and result for one example, held out if any is.
    """

    task: TaskVector
    start: str
    starts: dict[str, float]
    history: list[tuple[int, float]]
    best_step: int
    learnt_from: int
    held_out: int
    notes: tuple[str, ...]
    preview: Tensor

    def report(self) -> str:
        """The result in sentences, one a line."""
        first, last = self.history[0][1], min(loss for _, loss in self.history)
        kept = f"{self.held_out} held out" if self.held_out else "none held out: too few"
        line = (
            f"learnt {self.task.name!r} from {self.learnt_from} examples ({kept}), starting from "
            f"{self.start!r}: loss {first:.4f} -> {last:.4f}, step {self.best_step} of {self.history[-1][0]}"
        )
        return "\n".join([line, *self.notes])
