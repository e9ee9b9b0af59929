"""From scores to verdicts: who is kept, who is best, and filters that fail or lack their model."""

from __future__ import annotations

import json

import pytest
from test_pair_filters import IN, Detector, Eye, Reader, Red, candidate

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs.filters.base import Finding, NotRun
from emu_edit.core.pairs.filters.difference import ChangedFilter, OutsideFilter
from emu_edit.core.pairs.filters.judge import best, judge, judge_all
from emu_edit.core.pairs.filters.standard import NAMES, Thresholds, standard_filters, summary
from emu_edit.core.pairs.records import Score, Verdict
from emu_edit.core.predictor import bundled_predictor


class Fails:
    name = "moody"

    def look(self, candidates):
        if any(one.index == 1 for one in candidates):
            raise EmuEditError("its picture is damaged.")
        return [Finding((Score("moody", 1.0, 0.5, True),)) for _ in candidates]


def test_every_score_is_kept_with_the_reason_for_dropping():
    many = [candidate(index=k, spill=0.2 * (k == 2), change=0.5 * (k != 2)) for k in range(3)]
    steps: list = []
    filters = [Fails(), OutsideFilter(), ChangedFilter(), NotRun("depth", "no depth estimator was given")]
    verdicts = judge_all(many, filters, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [one.kept for one in verdicts] == [True, False, False]
    assert [len(one.scores) for one in verdicts] == [4, 4, 4]
    assert [one.scores[0].passed for one in verdicts] == [True, False, True]
    assert verdicts[1].reason == "filter failed: its picture is damaged."
    dropped = verdicts[2]
    assert dropped.dropped_by == "outside" and dropped.reason == dropped.scores[1].reason
    assert dropped.scores[2].passed is False and dropped.scores[3].passed is None
    assert Verdict.from_json(json.loads(json.dumps(dropped.to_json()))) == dropped
    assert judge(many[2], filters) == dropped
    assert summary(verdicts)["outside"] == {"passed": 2, "failed": 1, "dropped": 1, "not run": 0}
    assert judge_all([], filters) == []


def test_interruption_goes_through():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_all([candidate()], [OutsideFilter()], stop)


def test_the_best_are_ranked_by_direction_then_by_what_stayed():
    def verdict(kept, rank):
        return Verdict("local", kept, reason="" if kept else "no", rank=rank)

    ranks = [
        verdict(True, 0.1),
        verdict(False, 0.9),
        verdict(True, 0.4),
        verdict(True, None),
        verdict(True, 0.4),
    ]
    assert best(ranks) == [2] and best(ranks, 9) == [2, 4, 0, 3]
    assert best([verdict(False, 1.0)]) == []
    with pytest.raises(EmuEditError, match="0 candidates"):
        best(ranks, 0)
    quiet, loud = (judge(candidate(spill=s), [OutsideFilter()]) for s in (0.01, 0.03))
    assert best([loud, quiet]) == [1]


def test_missing_models_are_told_and_fail_nobody():
    filters = standard_filters()
    assert [one.name for one in filters] == [
        "task",
        "changed",
        "outside",
        "clip_image",
        "depth",
        "present",
        "lettering",
    ]
    verdict = judge(candidate(), filters)
    assert verdict.kept
    told = {score.name: score.reason for score in verdict.scores if score.passed is None}
    assert set(told) == {"task", "clip_image", "depth", "present", "lettering"}
    assert told["depth"] == "not run: no depth estimator was given"
    assert [one.name for one in standard_filters(Thresholds(outside=0.2), names=("outside",))] == ["outside"]
    with pytest.raises(EmuEditError, match="none called 'magic'"):
        standard_filters(names=[*NAMES, "magic"])


def test_all_filters_with_models():
    filters = standard_filters(
        predictor=bundled_predictor(),
        scorer=Eye([[1, 0, 0.0], [0.8, 0.6, 0.0]], [[1, 0, 0.5], [0.8, 0.6, 0.5]]),  # type: ignore[arg-type]
        depth=Red(),
        detector=Detector({}, {"blue cup": (IN, 0.5)}),
        reader=Reader(),
    )
    verdict = judge(candidate(), filters)
    assert verdict.kept and verdict.rank == pytest.approx(1.0)
    assert [score.name for score in verdict.scores] == [
        *("task", "changed", "outside", "clip_image", "clip_text_before", "clip_text_after"),
        *("clip_direction", "depth", "present", "absent", "lettering"),
    ]
