"""Where masks come from when words name the thing: one interface, whatever finds it.

A source looks for phrases in pictures and tells boxes, scores, labels and, if it can, masks. Nothing found is
a result like others: empty, with a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import EmuEditError
from ..images import check_images
from .phrases import BACKGROUND, OBJECT, WHOLE, Phrase, Target, target_of

SAME_OBJECT = 0.8  # boxes that overlap more (intersection over union) are one object found twice


@dataclass(frozen=True)
class DetectSettings:
    """How sure to be. threshold: least score of a find; text_threshold: least score of its noun, so that "red
    ball" does not find what is only red (0: off); max_instances: the best so many in each picture (0: all).
    """

    threshold: float = 0.3
    text_threshold: float = 0.25
    max_instances: int = 0

    def __post_init__(self) -> None:
        for name in ("threshold", "text_threshold"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise EmuEditError(
                    f"{name.replace('_', ' ')}: it must lie in 0..1, got {value}; 0.3 is usual."
                )
        if self.max_instances < 0:
            raise EmuEditError(f"max instances: it must be 0 or more, got {self.max_instances}; 0 takes all.")


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in one picture of H x W pixels, best first, on the CPU.

    boxes: [N,4] float32, left, top, right, bottom in pixels. scores: [N] in 0..1. labels: for each the
    phrase. masks:
    [N,H,W] float32 in 0..1, or None where the source knows boxes only.
    """

    boxes: Tensor
    scores: Tensor
    labels: tuple[str, ...]
    masks: Tensor | None = None

    @property
    def count(self) -> int:
        return self.boxes.shape[0]

    def pick(self, rows: Sequence[int]) -> Found:
        """Only these, in this order."""
        index = torch.tensor(list(rows), dtype=torch.long)
        masks = None if self.masks is None else self.masks[index]
        return Found(self.boxes[index], self.scores[index], tuple(self.labels[i] for i in rows), masks)


NONE_FOUND = Found(torch.zeros(0, 4), torch.zeros(0), ())


class Source(Protocol):
    """Finds phrases in pictures [B,H,W,3] in 0..1: one Found for each picture, whatever is found."""

    @property
    def name(self) -> str: ...

    def detect(
        self, images: Tensor, phrases: Sequence[Phrase], settings: DetectSettings
    ) -> tuple[Found, ...]: ...


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in B pictures of height x width pixels. scope: phrases.OBJECT, or WHOLE where the words
    are about the whole picture, which makes the mask white.
    """

    found: tuple[Found, ...]
    height: int
    width: int
    scope: str = OBJECT
    notes: tuple[str, ...] = field(default=())

    @property
    def count(self) -> int:
        """Finds in all pictures together."""
        return sum(found.count for found in self.found)

    def mask(self) -> Tensor:
        """[B,height,width] float32 in 0..1: the union of each picture's masks, or of its filled boxes."""
        planes = torch.zeros(len(self.found), self.height, self.width)
        for plane, found in zip(planes, self.found, strict=True):
            if found.masks is not None and found.count:
                plane.copy_(found.masks.amax(dim=0))
            elif found.count:
                for left, top, right, bottom in found.boxes.tolist():
                    rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
                    plane[rows, max(0, math.floor(left)) : max(0, math.ceil(right))] = 1.0
        return torch.ones_like(planes) if self.scope == WHOLE else planes

    def bounding_boxes(self) -> list[list[dict[str, Any]]]:
        """ComfyUI's BOUNDING_BOX as its SAM3 Detect gives it: for each picture a list of boxes in pixels."""
        return [
            [
                {
                    "x": left,
                    "y": top,
                    "width": right - left,
                    "height": bottom - top,
                    "score": score,
                    "label": label,
                }
                for (left, top, right, bottom), score, label in zip(
                    found.boxes.tolist(), found.scores.tolist(), found.labels, strict=True
                )
            ]
            for found in self.found
        ]

    def report(self) -> str:
        """A line for each picture, then the notes."""
        lines = []
        for i, found in enumerate(self.found):
            finds = ", ".join(
                f"{w} {s:.2f}" for w, s in zip(found.labels, found.scores.tolist(), strict=True)
            )
            where = f"picture {i + 1}: " if len(self.found) > 1 else ""
            if self.scope == OBJECT:
                lines.append(f"{where}{finds or 'nothing was found, the mask is empty'}")
        return "\n".join([*lines, *self.notes])


def text_to_mask(
    source: Source,
    images: Tensor,
    words: str,
    settings: DetectSettings | None = None,
    after: bool = False,
) -> Detections:
    """Find what `words`, an instruction or a phrase, are about in pictures [B,H,W,3] in 0..1.

    `after`: the pictures are edited ones, so what the instruction adds is looked for. Where a part is not
    found ("the dog's tail"), its owner is taken; where words name a side, the object there. Words about the
    whole picture give a white mask, words about the background an empty one, each with a sentence. Raises
    EmuEditError for no words and for what is no picture.
    """
    settings = settings or DetectSettings()
    images = check_images(images, "the picture")
    target = target_of(words)
    wanted = target.wanted(after)
    empty = Detections((NONE_FOUND,) * images.shape[0], *images.shape[1:3])
    if not wanted:
        return _without_a_thing(empty, target)
    # Boxes first: a mask costs a segmenter time and H x W numbers, so only the chosen ones get theirs.
    finder = source.detector if isinstance(source, Segmented) else source
    found = list(finder.detect(images, wanted, replace(settings, max_instances=0)))
    omitted = _left_out(finder, wanted)
    asked = [repr(phrase.text) for phrase in wanted if phrase.text not in omitted]
    notes = [f"looked for {' and '.join(asked)} with {source.name}"]
    owners = tuple(dict.fromkeys(Phrase(p.owner, p.owner.split()[-1]) for p in wanted if p.owner))
    lost = [i for i, found_here in enumerate(found) if not found_here.count]
    if owners and lost:
        again = finder.detect(images[lost], owners, replace(settings, max_instances=0))
        for i, found_here in zip(lost, again, strict=True):
            found[i] = found_here
        notes.append(f"where it was not found: {' and '.join(repr(owner.text) for owner in owners)}")
        omitted += _left_out(finder, owners)
    if omitted:
        notes.append(f"not looked for, since {finder.name} has no room for so many: {', '.join(omitted)}")
    finds = [_chosen(here, wanted, settings, empty.height, empty.width) for here in found]
    masked = source.with_masks(images, finds) if isinstance(source, Segmented) else tuple(finds)
    return replace(empty, found=masked, notes=tuple(notes))


def _left_out(source: Source, phrases: Sequence[Phrase]) -> tuple[str, ...]:
    """What a source says it has no room for; most have room for any list."""
    said = getattr(source, "left_out", None)
    return said(phrases) if said is not None else ()


def _without_a_thing(empty: Detections, target: Target) -> Detections:
    if target.scope == BACKGROUND:
        note = (
            "the words are about the background: name what stands before it instead, and take the background "
            "kind of mask"
        )
        return replace(empty, notes=(f"nothing was looked for, the mask is empty; {note}",))
    if target.added:
        note = f"{target.added[0].text!r} is not there yet and the words name no place, so the mask is white"
    else:
        note = "the words are about the whole picture, so the mask is white"
    return replace(empty, scope=WHOLE, notes=(note,))


def _chosen(
    found: Found, phrases: Sequence[Phrase], settings: DetectSettings, height: int, width: int
) -> Found:
    """Without doubles, on the side asked for, and no more than so many."""
    order = sorted(range(found.count), key=lambda i: -float(found.scores[i]))
    kept: list[int] = []
    for i in order:
        if all(float(_overlap(found.boxes[i], found.boxes[k])) <= SAME_OBJECT for k in kept):
            kept.append(i)
    for phrase in phrases:
        ours = [i for i in kept if found.labels[i] == phrase.text]
        if phrase.where and len(ours) > 1:
            best = min(ours, key=lambda i: _distance(found.boxes[i], phrase.where, height, width))
            kept = [i for i in kept if i not in ours or i == best]
    return found.pick(kept[: settings.max_instances or None])


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of two boxes."""
    common = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp_min(0).prod()
    union = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - common
    return common / union.clamp_min(1e-6)


def _distance(box: Tensor, where: str, height: int, width: int) -> float:
    """How far a box's centre is from a side or the middle; smaller is nearer."""
    x, y = float(box[0] + box[2]) / 2 / width, float(box[1] + box[3]) / 2 / height
    ways = {"left": x, "right": -x, "top": y, "bottom": -y, "middle": math.hypot(x - 0.5, y - 0.5)}
    return ways[where]


@dataclass(frozen=True, eq=False)
class Segmented:
    """A detector's boxes with a segmenter's masks in them, without doubles and within max_instances."""

    detector: Source
    segmenter: Any  # segment.Segmenter

    @property
    def name(self) -> str:
        return f"{self.detector.name} and {self.segmenter.name}"

    def detect(
        self, images: Tensor, phrases: Sequence[Phrase], settings: DetectSettings
    ) -> tuple[Found, ...]:
        images = check_images(images, "the picture")
        found = self.detector.detect(images, phrases, settings)
        return self.with_masks(images, [_chosen(here, (), settings, *images.shape[1:3]) for here in found])

    def with_masks(self, images: Tensor, found: Sequence[Found]) -> tuple[Found, ...]:
        """The same finds of pictures [B,H,W,3], each with the mask in its box."""
        return tuple(
            replace(here, masks=self.segmenter.segment(image, here.boxes)) if here.count else here
            for image, here in zip(images, found, strict=True)
        )

    def left_out(self, phrases: Sequence[Phrase]) -> tuple[str, ...]:
        """As the detector says."""
        return _left_out(self.detector, phrases)
