"""All filters with their usual thresholds, from whatever models there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...errors import EmuEditError
from ...masks.sources import DetectSettings, Source
from ...predictors.base import TaskPredictor
from ...scorer import Scorer
from ..records import Verdict
from .base import Filter, NotRun
from .clip import ClipFilter
from .depth import DepthEstimator, DepthFilter
from .difference import ChangedFilter, OutsideFilter
from .lettering import LetteringFilter, Reader
from .presence import PresenceFilter
from .task import TaskFilter

NAMES = ("task", "changed", "outside", "clip", "depth", "present", "lettering")


@dataclass(frozen=True)
class Thresholds:
    """task: confidence from which the predictor's task is taken, None its own. clip_image, clip_text,
    clip_direction: InstructPix2Pix's. depth: share of the depth range. outside, changed: mean absolute
    difference in 0..1. detector: a find's least score. lettering: likeness of words. Those that no paper
    tells (depth, outside, changed, lettering) are ours."""

    task: float | None = None
    clip_image: float = 0.7
    clip_text: float = 0.2
    clip_direction: float = 0.2
    depth: float = 0.1
    outside: float = 0.05
    changed: float = 0.005
    detector: float = 0.3
    lettering: float = 0.8


def standard_filters(
    thresholds: Thresholds | None = None,
    *,
    predictor: TaskPredictor | None = None,
    scorer: Scorer | None = None,
    depth: DepthEstimator | None = None,
    detector: Source | None = None,
    reader: Reader | None = None,
    names: Collection[str] = NAMES,
) -> list[Filter]:
    """The filters of `names`, in the order of NAMES; one without its model becomes a NotRun that says so."""
    limits = thresholds or Thresholds()
    if strange := sorted(set(names) - set(NAMES)):
        raise EmuEditError(f"filters: there is none called {strange[0]!r}; give some of {', '.join(NAMES)}.")
    made: dict[str, Filter] = {
        "changed": ChangedFilter(limits.changed),
        "outside": OutsideFilter(limits.outside),
        "task": _missing("task", "no task predictor"),
        "clip": _missing("clip_image", "no scorer with CLIP"),
        "depth": _missing("depth", "no depth estimator"),
        "present": _missing("present", "no detector"),
        "lettering": _missing("lettering", "no reader of lettering"),
    }
    if predictor is not None:
        made["task"] = TaskFilter(predictor, limits.task)
    if scorer is not None and scorer.clip is not None:
        made["clip"] = ClipFilter(scorer, limits.clip_image, limits.clip_text, limits.clip_direction)
    if depth is not None:
        made["depth"] = DepthFilter(depth, limits.depth)
    if detector is not None:
        made["present"] = PresenceFilter(detector, DetectSettings(threshold=limits.detector))
    if reader is not None:
        made["lettering"] = LetteringFilter(reader, limits.lettering)
    return [made[name] for name in NAMES if name in names]


def _missing(name: str, what: str) -> NotRun:
    return NotRun(name, f"not run: {what} was given")


def summary(verdicts: Sequence[Verdict]) -> dict[str, Mapping[str, int]]:
    """For reports: score's name -> how many passed it, failed it, were dropped by it, and were not run."""
    table: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        for score in verdict.scores:
            row = table.setdefault(score.name, {"passed": 0, "failed": 0, "dropped": 0, "not run": 0})
            row["not run" if score.passed is None else "passed" if score.passed else "failed"] += 1
        if verdict.dropped_by:
            table[verdict.dropped_by]["dropped"] += 1
    return dict(table)
