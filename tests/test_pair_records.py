"""Records of pairs: written, read back equal, and refused in one sentence when they are damaged."""

from __future__ import annotations

import json

import pytest
import torch

from emu_edit.core.errors import EmuEditError
from emu_edit.core.pairs.records import (
    Candidate,
    Dropped,
    Instruction,
    PairJob,
    Score,
    Verdict,
)

WORDS = Instruction(
    "local",
    "turn the cat into a fox",
    "a cat on a wall",
    "a fox on a wall",
    "cat",
    "fox",
    {"backend": "grammar", "places": (1, 2)},
)
JOB = PairJob("local-000012", 12, WORDS, "street/3.jpg", {"self_fraction": 0.6})
SCORES = (
    Score("clip_image", 0.83, 0.7, True),
    Score("depth", None, 0.2, None, "no depth estimator was given"),
    Score("detector", 0.1, 0.3, False, "'fox' was not found in the target (best 0.10)"),
)
VERDICT = Verdict("local", False, SCORES, SCORES[2].reason, "detector", 0.4)
DROPPED = Dropped("instruction", "the answer is no JSON", "add", "a dog", {"answer": "Sure! Here"})


def candidate(**changes) -> Candidate:
    values = {
        "source": torch.rand(4, 6, 3),
        "target": torch.rand(4, 6, 3),
        "instruction": WORDS,
        "index": 2,
        "seed": 99,
        "mask_kind": "soft",
        "masks": {"soft": torch.rand(4, 6), "box": torch.ones(4, 6)},
        "parameters": {"blend": 0.1},
        "maps": {"cat": torch.rand(2, 3)},
    }
    return Candidate(**{**values, **changes})


@pytest.mark.parametrize(
    "item", [WORDS, JOB, *SCORES, VERDICT, DROPPED], ids=lambda item: type(item).__name__
)
def test_written_as_json_and_read_back_equal(item):
    text = json.dumps(item.to_json(), allow_nan=False)
    assert type(item).from_json(json.loads(text)) == item


def test_a_candidate_is_its_record_and_its_tensors():
    one = candidate()
    record = json.loads(json.dumps(one.to_json()))
    assert record["masks"] == ["box", "soft"] and record["maps"] == ["cat"]
    again = Candidate.from_json(record, one.source, one.target, one.masks, one.maps)
    assert again.to_json() == one.to_json()
    assert again.target is one.target and again.mask is one.masks["soft"]
    assert candidate(mask_kind="blank", masks={}).mask is None


def test_a_reassigned_instruction_keeps_its_words():
    other = WORDS.reassigned("texture")
    assert other.task == "texture" and other.instruction == WORDS.instruction and WORDS.task == "local"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Instruction("paint", "x", "y", "z"), "'paint' is no task"),
        (lambda: Instruction("local", " ", "y", "z"), "instruction is empty"),
        (lambda: Instruction("local", "x", "y", 3), "output_caption is int"),
        (lambda: Instruction("local", "x", "y", "z", None), "original_object is NoneType"),
        (lambda: Instruction("local", "x", "y", "z", metadata={"a": {1}}), "cannot be written as JSON"),
        (lambda: Instruction("local", "x", "y", "z", metadata={"a": float("nan")}), "cannot be written"),
        (lambda: PairJob("a/b", 1, WORDS), "its id is 'a/b'"),
        (lambda: PairJob("", 1, WORDS), "its id is ''"),
        (lambda: PairJob("a", -1, WORDS), "seed is -1"),
        (lambda: PairJob("a", 1, "turn"), "str where an Instruction belongs"),
        (lambda: candidate(source=torch.rand(4, 6)), "its source is no picture"),
        (lambda: candidate(target=torch.rand(4, 5, 3)), "make both of one size"),
        (lambda: candidate(mask_kind="oval"), "mask kind 'oval'"),
        (lambda: candidate(mask_kind="precise"), "but lacks it"),
        (lambda: candidate(masks={"soft": torch.rand(3, 6)}), "mask 'soft' is [3, 6]"),
        (lambda: Score("a", float("nan")), "value is nan"),
        (lambda: Score("a", True), "value is True"),
        (lambda: Score("a", 1, 2, False), "gives no reason"),
        (lambda: Score("a", 1, 2, "yes", "x"), "passed is 'yes'"),
        (lambda: Verdict("local", False), "verdict: reason is empty"),
        (lambda: Verdict("local", True, rank=float("inf")), "rank is inf"),
        (lambda: Instruction.from_json([1]), "list where a record belongs"),
        (lambda: Instruction.from_json({**WORDS.to_json(), "colour": 1}), "unknown field 'colour'"),
        (lambda: Instruction.from_json({"task": "local"}), "'instruction' is missing"),
        (lambda: PairJob.from_json({**JOB.to_json(), "instruction": None}), "NoneType where a record"),
        (lambda: Verdict.from_json({**VERDICT.to_json(), "scores": "all"}), "its scores are str"),
        (lambda: Dropped("filter", ""), "dropped: reason is empty"),
    ],
)
def test_damage_is_told_in_one_sentence(make, says):
    with pytest.raises(EmuEditError) as problem:
        make()
    assert says in str(problem.value) and "\n" not in str(problem.value)
