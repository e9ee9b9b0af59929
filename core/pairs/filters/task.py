"""The task predictor's say: an instruction that reads as another task's goes under that task.

Emu Edit (arXiv 2311.10089, section on filtering) reassigns such samples; it drops none for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...predictors.base import TaskPredictor
from ..records import Candidate, Score
from .base import Finding


@dataclass(frozen=True)
class TaskFilter:
    """predictor: core.predictor's. threshold: the confidence, 0..1, from which it is believed; below it the
    task stays (None: the predictor's own). The score is the probability of the task the pair was made for.
    """

    predictor: TaskPredictor
    threshold: float | None = None
    name = "task"

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        texts = [one.instruction.instruction for one in candidates]
        found = self.predictor.predict(texts, threshold=self.threshold)
        findings = []
        for one, prediction in zip(candidates, found, strict=True):
            chance = dict(prediction.ranking)[one.task]
            if prediction.task == one.task:
                findings.append(Finding((Score(self.name, chance, None, True),)))
            elif not prediction.sure:
                told = f"reads as {prediction.task} ({prediction.confidence:.0%}), too unsure to reassign"
                findings.append(Finding((Score(self.name, chance, None, True, told),)))
            else:
                told = f"reads as {prediction.task} ({prediction.confidence:.0%}) and goes under it"
                findings.append(Finding((Score(self.name, chance, None, True, told),), prediction.task))
        return findings
