"""What passes between the stages that make pairs: instructions, jobs, candidates, scores, verdicts.

All are plain values with `to_json` (a dict of JSON's own types) and `from_json` (which checks what it reads),
so that a build can write them down at any moment and go on from there. Tensors are the one exception: a
Candidate's pictures and masks live in a shard's files beside its record.

The tuple of an instruction is Emu Edit's (arXiv 2311.10089, section on instruction generation): the edit
instruction, the captions before and after, the original and the edited object.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import EmuEditError
from .record_checks import (
    as_json,
    check_task,
    check_text,
    check_whole,
    fields_of,
    file_safe,
    mapping,
    plain,
    shape,
)

MASK_KINDS = ("precise", "soft", "box", "blank")
"""A candidate's mask: the segmenter's outline; that grown and blurred; the filled box; the whole picture."""

OBJECT_FIELDS = ("original_object", "edited_object")
TEXT_FIELDS = ("instruction", "input_caption", "output_caption", *OBJECT_FIELDS)


@dataclass(frozen=True)
class Instruction:
    """One edit in words.

    task: a task id. instruction: what to do ("make the dog's tail blue"). input_caption, output_caption: the
    picture before and after. original_object, edited_object: what a detector looks for in the picture before
    and after, without possessive ("tail"); "" where the task has none (see instructions.rules). metadata:
    JSON values for people and reports (backend, model, what was reduced); never read by a recipe.
    """

    task: str
    instruction: str
    input_caption: str
    output_caption: str
    original_object: str = ""
    edited_object: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_task(self.task, "instruction")
        for name in TEXT_FIELDS:
            check_text(getattr(self, name), f"instruction: {name}", may_be_empty=name not in TEXT_FIELDS[:3])
        object.__setattr__(self, "metadata", plain(self.metadata, "instruction: metadata"))

    def reassigned(self, task: str) -> Instruction:
        """The same words under another task."""
        return replace(self, task=task)

    def to_json(self) -> dict[str, Any]:
        return as_json(self)

    @classmethod
    def from_json(cls, record: Any) -> Instruction:
        return cls(**fields_of(cls, record, "an instruction"))


@dataclass(frozen=True)
class PairJob:
    """One pair to make: an instruction, an id that names it in the data set, and the seed of all its chances.

    id: file-safe letters, digits, "-" and "_", unique in a build. picture: for recipes that start from a real
    picture, its path relative to the folder of pictures; "" otherwise. parameters: JSON values that fix what
    a recipe would sample, such as {"self_fraction": 0.6}; empty = all sampled.
    """

    id: str
    seed: int
    instruction: Instruction
    picture: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id or not file_safe(self.id):
            raise EmuEditError(f"pair job: its id is {self.id!r}; use letters, digits, '-' and '_'.")
        check_whole(self.seed, f"pair job {self.id}: seed")
        if not isinstance(self.instruction, Instruction):
            raise EmuEditError(
                f"pair job {self.id}: {type(self.instruction).__name__} where an Instruction belongs."
            )
        check_text(self.picture, f"pair job {self.id}: picture", may_be_empty=True)
        object.__setattr__(self, "parameters", plain(self.parameters, f"pair job {self.id}: parameters"))

    @property
    def task(self) -> str:
        return self.instruction.task

    def to_json(self) -> dict[str, Any]:
        return {**as_json(self), "instruction": self.instruction.to_json()}

    @classmethod
    def from_json(cls, record: Any) -> PairJob:
        values = fields_of(cls, record, "a pair job")
        return cls(**{**values, "instruction": Instruction.from_json(values["instruction"])})


@dataclass(frozen=True, eq=False)
class Candidate:
    """One picture pair tried for a job.

    source, target: float32 [H,W,3] in 0..1, of one size. instruction: as the job's. index: its number among
    the job's candidates. seed: with `parameters` (JSON values, all that was sampled) it makes this pair
    again, bit for bit. masks: kind ("precise", "soft", "box") -> float [H,W] in 0..1, 1 = where the edit
    was meant to be; empty for a whole-picture task. mask_kind: the one of MASK_KINDS that the edit was made
    under. maps: word -> attention map float [h,w], if recorded. metadata: JSON values beside the parameters
    that a judge or a report may read, such as a known scene; never needed to make the pair again.
    """

    source: Tensor
    target: Tensor
    instruction: Instruction
    index: int = 0
    seed: int = 0
    mask_kind: str = "blank"
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"candidate {self.index}"
        for name in ("source", "target"):
            picture = getattr(self, name)
            if not isinstance(picture, Tensor) or picture.ndim != 3 or picture.shape[-1] != 3:
                raise EmuEditError(f"{where}: its {name} is no picture [H,W,3] but {shape(picture)}.")
        if self.source.shape != self.target.shape:
            raise EmuEditError(
                f"{where}: its source is {shape(self.source)} and its target {shape(self.target)}; "
                "make both of one size."
            )
        check_whole(self.index, f"{where}: index")
        check_whole(self.seed, f"{where}: seed")
        if self.mask_kind not in MASK_KINDS:
            raise EmuEditError(f"{where}: mask kind {self.mask_kind!r} is none of {', '.join(MASK_KINDS)}.")
        for kind, mask in self.masks.items():
            if kind not in MASK_KINDS or not isinstance(mask, Tensor) or mask.shape != self.source.shape[:2]:
                raise EmuEditError(
                    f"{where}: mask {kind!r} is {shape(mask)}; give one [H,W] of the picture's size, "
                    f"named one of {', '.join(MASK_KINDS)}."
                )
        if self.masks and self.mask_kind != "blank" and self.mask_kind not in self.masks:
            raise EmuEditError(f"{where}: it was made under the {self.mask_kind!r} mask but lacks it.")
        for name in ("parameters", "metadata"):
            object.__setattr__(self, name, plain(getattr(self, name), f"{where}: {name}"))

    @property
    def task(self) -> str:
        return self.instruction.task

    @property
    def mask(self) -> Tensor | None:
        """The mask that the edit was made under, [H,W]; None where the whole picture might change."""
        return None if self.mask_kind == "blank" else self.masks.get(self.mask_kind)

    def to_json(self) -> dict[str, Any]:
        """All but the tensors; which masks and maps there are is told."""
        return {
            "instruction": self.instruction.to_json(),
            "index": self.index,
            "seed": self.seed,
            "mask_kind": self.mask_kind,
            "masks": sorted(self.masks),
            "maps": sorted(self.maps),
            "parameters": dict(self.parameters),
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_json(
        cls,
        record: Any,
        source: Tensor,
        target: Tensor,
        masks: Mapping[str, Tensor] | None = None,
        maps: Mapping[str, Tensor] | None = None,
    ) -> Candidate:
        """Put together again from its record and the tensors stored beside it."""
        record = {**mapping(record, "a candidate"), "source": source, "target": target}
        values = fields_of(cls, record, "a candidate")
        values |= {"masks": masks or {}, "maps": maps or {}}
        return cls(**{**values, "instruction": Instruction.from_json(values["instruction"])})


@dataclass(frozen=True)
class Score:
    """What one filter says of one candidate.

    value: what was measured (None: nothing could be). threshold: what it was held against (None: nothing).
    passed: True or False, or None when the filter was not run or does not concern the task. reason: one
    sentence whenever `passed` is not True, else a remark or "".
    """

    name: str
    value: float | None = None
    threshold: float | None = None
    passed: bool | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        check_text(self.name, "score: name")
        for name in ("value", "threshold"):
            number = getattr(self, name)
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                raise EmuEditError(f"score {self.name}: {name} is {number!r}; give a finite number or None.")
            object.__setattr__(self, name, float(number))
        if self.passed is not None and not isinstance(self.passed, bool):
            raise EmuEditError(f"score {self.name}: passed is {self.passed!r}; give true, false or null.")
        check_text(self.reason, f"score {self.name}: reason", may_be_empty=True)
        if self.passed is not True and not self.reason:
            raise EmuEditError(f"score {self.name}: it did not pass and gives no reason; give one sentence.")

    def to_json(self) -> dict[str, Any]:
        return as_json(self)

    @classmethod
    def from_json(cls, record: Any) -> Score:
        return cls(**fields_of(cls, record, "a score"))


@dataclass(frozen=True)
class Verdict:
    """What all filters together say of one candidate.

    kept: no filter failed it. task: the task it goes under, which the task predictor may have changed.
    reason: why it was dropped ("" if kept): the first failing filter's sentence. dropped_by: that filter's
    name. rank: what candidates of one job are ordered by, higher is better; None sorts last.
    """

    task: str
    kept: bool
    scores: tuple[Score, ...] = ()
    reason: str = ""
    dropped_by: str = ""
    rank: float | None = None

    def __post_init__(self) -> None:
        check_task(self.task, "verdict")
        if not isinstance(self.kept, bool):
            raise EmuEditError(f"verdict: kept is {self.kept!r}; give true or false.")
        object.__setattr__(self, "scores", tuple(self.scores))
        check_text(self.reason, "verdict: reason", may_be_empty=self.kept)
        check_text(self.dropped_by, "verdict: dropped_by", may_be_empty=True)
        if self.rank is not None and not math.isfinite(self.rank):
            raise EmuEditError(f"verdict: rank is {self.rank}; give a finite number or None.")

    def score(self, name: str) -> Score | None:
        """The score of that name, None if there is none."""
        return next((score for score in self.scores if score.name == name), None)

    def to_json(self) -> dict[str, Any]:
        return {**as_json(self), "scores": [score.to_json() for score in self.scores]}

    @classmethod
    def from_json(cls, record: Any) -> Verdict:
        values = fields_of(cls, record, "a verdict")
        scores = values.get("scores", [])
        if not isinstance(scores, (list, tuple)):
            raise EmuEditError(f"a verdict: its scores are {type(scores).__name__}; give a list.")
        return cls(**{**values, "scores": tuple(Score.from_json(score) for score in scores)})


@dataclass(frozen=True)
class Dropped:
    """An item that came to nothing at some stage, with why, so that nothing is lost silently.

    stage: "instruction", "away", "recipe", "filter", "save" ... reason: one sentence. task, item: what it was
    about (a caption, a job's id). detail: JSON values worth keeping, such as the start of a nonsense answer.
    """

    stage: str
    reason: str
    task: str = ""
    item: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self.stage, "dropped: stage")
        check_text(self.reason, "dropped: reason")
        check_text(self.task, "dropped: task", may_be_empty=True)
        check_text(self.item, "dropped: item", may_be_empty=True)
        object.__setattr__(self, "detail", plain(self.detail, "dropped: detail"))

    def to_json(self) -> dict[str, Any]:
        return as_json(self)

    @classmethod
    def from_json(cls, record: Any) -> Dropped:
        return cls(**fields_of(cls, record, "a dropped item"))
