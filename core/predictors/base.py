"""What every predictor of tasks gives, and how it says that it is unsure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import EmuEditError

# As in core.tasks, which needs torch; a test holds the two together.
TASKS = (
    "local",
    "remove",
    "add",
    "texture",
    "background",
    "global",
    "style",
    "text",
    "detect",
    "segment",
    "color",
) + ("depth", "segmentation", "pose", "normal", "sketch")
THRESHOLD = 0.5
"""The confidence below which a predictor calls itself unsure, unless it or the caller says otherwise."""


@dataclass(frozen=True)
class Prediction:
    """The task of one instruction.

    task: the likeliest task, or the caller's fallback where the predictor is unsure. confidence: the
    probability, 0..1, of the likeliest task. ranking: all tasks with their probabilities, likeliest first,
    summing to 1. target: the thing the edit is about ("red ball"), None when it is about no one thing.
    note: what a user should know, "" if nothing. sure: whether confidence reaches the threshold.
    """

    task: str
    confidence: float
    ranking: tuple[tuple[str, float], ...]
    target: str | None
    note: str
    sure: bool


@dataclass(frozen=True)
class TaskGuess:
    """A task id of `tasks.TASK_IDS` (or "none", from task_for), and in a few words why."""

    task: str
    reason: str


class TaskPredictor(ABC):
    """Instruction -> task, whatever does the thinking; subclasses give `probabilities`."""

    name: str = ""
    threshold: float = THRESHOLD

    @abstractmethod
    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """float64 [len(texts), 16], rows summing to 1, columns as TASKS. The texts are not empty."""

    def remark(self, text: str) -> str:
        """What should be said of this text besides, such as that its end was not read; "" if nothing."""
        return ""

    def predict(
        self, texts: Sequence[str], *, threshold: float | None = None, fallback: str | None = None
    ) -> list[Prediction]:
        """One Prediction for each text.

        Where the confidence is below `threshold` (None: the predictor's own; 0..1) the note says so, and the
        task is `fallback` if one is given. Raises EmuEditError for an empty text, a threshold outside 0..1
        and a fallback that is no task ("none" is allowed: no task at all).
        """
        if isinstance(texts, str):
            raise EmuEditError(
                "instructions: one text was given where a list of texts belongs; wrap it in []."
            )
        limit = self.threshold if threshold is None else threshold
        if not 0 <= limit <= 1:
            raise EmuEditError(f"threshold is {limit}; give a confidence from 0 to 1.")
        if fallback is not None and fallback not in (*TASKS, "none"):
            raise EmuEditError(f"fallback {fallback!r} is no task; give none or one of {', '.join(TASKS)}.")
        for text in texts:
            check_text(text)
        if not texts:
            return []
        rows = self.probabilities(texts)
        return [self._prediction(text, row, limit, fallback) for text, row in zip(texts, rows, strict=True)]

    def _prediction(self, text: str, row: np.ndarray, limit: float, fallback: str | None) -> Prediction:
        order = np.argsort(-row, kind="stable")
        ranking = tuple((TASKS[i], float(row[i])) for i in order)
        (task, confidence), (second, less) = ranking[0], ranking[1]
        notes = [self.remark(text)]
        sure = confidence >= limit
        if not sure:
            notes.append(f"unsure: {task} ({confidence:.0%}) or {second} ({less:.0%})")
            if fallback is not None:
                notes[-1] += f"; {fallback} is taken, as chosen"
                task = fallback
        return Prediction(
            task, confidence, ranking, target_of(text, ranking[0][0]), "; ".join(filter(None, notes)), sure
        )


def check_text(text: str) -> None:
    """Raise EmuEditError for what is no text or holds nothing to read."""
    if not isinstance(text, str):
        raise EmuEditError(f"instruction: {type(text).__name__} was given where a text belongs; give a str.")
    if not text.strip():
        raise empty()


def empty() -> EmuEditError:
    """The slip of saying nothing."""
    return EmuEditError("instruction: it is empty; say what to change, such as 'make the ball blue'.")


WITHOUT_THING = frozenset(
    ("background", "global", "style", "color", "depth", "segmentation", "pose", "normal", "sketch", "text")
)
"""Tasks about the whole picture, what is behind things, or lettering: they have no target object."""


def target_of(text: str, task: str) -> str | None:
    """What the instruction is about: the thing added, changed, removed or pointed at; None if no one thing.

    The tagging is core.masks.phrases's rule, read with the task in mind.
    """
    if task in WITHOUT_THING:
        return None
    from ..masks import phrases  # not above: it asks this package for the task

    try:
        target = phrases.target_of(text)
    except EmuEditError:
        return None  # the text names nothing, which is an answer here
    named = target.wanted(after=task == "add")
    return named[0].text if named else None
