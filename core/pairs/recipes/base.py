"""What every recipe gets, and how its chances are drawn, written down and drawn again.

A recipe makes candidates try by try. A try has a seed of its own, follows from (job, number of the try) alone
and is generated as one batch of fixed make-up, so that `table.remake` can make one pair again bit for bit
without its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...backbone import Backbone
from ...errors import EmuEditError
from ...images import check_images
from ...masks.phrases import Phrase, listed, phrase_of
from ...masks.soft_mask import SoftMaskSettings, make_masks, size_in_pixels
from ...masks.sources import DetectSettings, Source
from ...masks.targets import collect
from ..records import Candidate, Instruction, PairJob

TRIES = 10
"""Tries of a job by default (appendix 7.2.3: Local and Style; we take as many for all)."""

BLANK = "blank"
MASKED = ("precise", "soft", "box")
"""The masks that a candidate each is made under."""


class NoCandidate(EmuEditError):
    """A try, or a whole job, that comes to nothing, with why: no slip of the user's, the run goes on."""


@dataclass(frozen=True, eq=False)
class Lettering:
    """Words in a picture: `text`, its `box` (left, top, right, bottom in pixels), `mask` [H,W] in 0..1, and
    the name of its `colour` if the reader knows it."""

    text: str
    box: tuple[float, float, float, float]
    mask: Tensor
    colour: str = ""


class TextReader(Protocol):
    """Finds lettering in one picture [H,W,3]."""

    def read(self, picture: Tensor) -> Sequence[Lettering]: ...


class Inpainter(Protocol):
    """Fills in what `mask` [H,W] marks of a picture [H,W,3]; `caption` says what the result shows."""

    def inpaint(self, picture: Tensor, mask: Tensor, caption: str, seed: int) -> Tensor: ...


class Annotator(Protocol):
    """Turns one picture [H,W,3] into a map of it, [H,W,3] in 0..1 (depth, segmentation, ...)."""

    def annotate(self, picture: Tensor) -> Tensor: ...


class Writer(Protocol):
    """Writes `text` into a box of a picture [H,W,3]; gives the picture and where it wrote, [H,W] in 0..1."""

    def write(
        self, picture: Tensor, box: Sequence[float], text: str, colour: str, font: str
    ) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, eq=False)
class RecipeContext:
    """The models and choices of a run; what is None or missing closes the recipes that need it.

    backbone: a text-to-image model. finder: what finds the object that words name. picture: a job's real
    picture [H,W,3] in 0..1, raising EmuEditError when it cannot be read. reader, inpainter, writer: of
    lettering, for Text. painter: an inpainting model for Background (None: the backbone, under the mask).
    annotators: by task, for translation. tries: tries of a job for recipes that draw; steps, sampler: of
    generation (None: the model's own). size: (height, width) in pixels of generated pictures, None: the
    model's own. control: attention control on (off only for ablations). masks: MASKED, or "blank" alone for
    the ablation. record: keep the attention maps of `words`; None: of the objects' nouns, or where there are
    none of the words in which the captions differ. inversion_calls: network calls that
    Style's inversion may take (Plug-and-Play: 999). on_step: called after every denoising step, may raise to
    interrupt.
    """

    backbone: Backbone | None = None
    finder: Source | None = None
    picture: Callable[[PairJob], Tensor] | None = None
    reader: TextReader | None = None
    inpainter: Inpainter | None = None
    painter: Inpainter | None = None
    writer: Writer | None = None
    annotators: Mapping[str, Annotator] = field(default_factory=dict)
    tries: int = TRIES
    steps: int | None = None
    sampler: str = "ddim"
    size: tuple[int, int] | None = None
    control: bool = True
    masks: tuple[str, ...] = MASKED
    record: bool = False
    words: tuple[str, ...] | None = None
    inversion_calls: int = 200
    mask_settings: SoftMaskSettings = field(default_factory=SoftMaskSettings)
    detect_settings: DetectSettings = field(default_factory=DetectSettings)
    on_step: Callable[[Any], Any] | None = None


class Draw:
    """The chances of one try: each is drawn under a name, written down, and taken from `fixed` if there.

    A fixed value leaves all others as they were: the draw it replaces is made all the same.
    """

    def __init__(self, seed: int, fixed: Mapping[str, Any]) -> None:
        self.seed, self.fixed = seed, fixed
        self.parameters: dict[str, Any] = {}
        self._chance = np.random.default_rng(seed)

    def uniform(self, name: str, low: float, high: float) -> float:
        """A number between low and high, to four digits."""
        return float(self._note(name, round(float(self._chance.uniform(low, high)), 4)))

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self._note(name, int(self._chance.integers(low, high + 1))))

    def pick(self, name: str, options: Sequence[Any]) -> Any:
        """One of a few."""
        return self._note(name, options[int(self._chance.integers(len(options)))])

    def note(self, name: str, value: Any) -> Any:
        """A value that is not drawn but belongs to the record."""
        return self._note(name, value)

    def _note(self, name: str, drawn: Any) -> Any:
        self.parameters[name] = self.fixed.get(name, drawn)
        return self.parameters[name]


def try_seed(job: PairJob, number: int) -> int:
    """The seed of a job's try: 63 bits that follow from both and collide with no neighbour's."""
    words = np.random.SeedSequence((job.seed, number)).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])


def start(job: PairJob, number: int) -> Draw:
    """The chances of try `number`; `fixed` values are the job's own."""
    draw = Draw(try_seed(job, number), job.parameters)
    draw.parameters["try"] = number
    return draw


def real_picture(context: RecipeContext, job: PairJob) -> Tensor:
    """The job's picture [H,W,3], checked; NoCandidate if it cannot be read."""
    if context.picture is None:
        raise EmuEditError(f"the task {job.task} starts from a picture, but none are given; give pictures.")
    try:
        return check_images(context.picture(job)[None], f"the picture {job.picture!r}")[0]
    except (EmuEditError, OSError) as problem:
        raise NoCandidate(f"its picture cannot be read: {problem}") from problem


def find(context: RecipeContext, picture: Tensor, words: str, job: PairJob) -> Tensor:
    """The precise mask [H,W] of what `words` name in a picture [H,W,3]; NoCandidate if it is not there."""
    if context.finder is None:
        raise EmuEditError(f"the task {job.task} looks for objects, but there is no detector; give one.")
    if not words:
        raise NoCandidate(f"its instruction names no object to look for ({job.instruction.instruction!r}).")
    # Lower case: `listed` knows the colours so, and detectors are asked so.
    things = [one for part in words.lower().split(" . ") for one in listed(part) if one.strip()]
    phrases = [phrase_of(one) or Phrase(one.strip(), one.split()[-1]) for one in things]
    found = context.finder.detect(picture[None], phrases, context.detect_settings)[0]
    if not found.count:
        raise NoCandidate(f"{words!r} was not found in the picture.")
    if found.masks is not None:
        return found.masks.amax(dim=0)
    boxes = [[{"x": x, "y": y, "width": r - x, "height": b - y} for x, y, r, b in found.boxes.tolist()]]
    return collect(None, boxes, 1, tuple(picture.shape[:2])).masks[0]  # type: ignore[arg-type]


def three_masks(context: RecipeContext, precise: Tensor) -> dict[str, Tensor]:
    """Precise, soft and box mask [H,W] each of one object (appendix 7.2.2)."""
    made = make_masks(collect(precise[None]), context.mask_settings)
    return {"precise": made.precise[0], "soft": made.soft[0], "box": made.box[0]}


def reach(context: RecipeContext, height: int, width: int) -> tuple[float, float]:
    """Radius of growth and sigma of blur of the mask settings, in pixels of such a picture."""
    settings = context.mask_settings
    grow = size_in_pixels(settings.grow, settings.unit, height, width, "grow")
    return grow, size_in_pixels(settings.blur, settings.unit, height, width, "blur")


def numbered(candidates: Sequence[Candidate], number: int, of_a_try: int) -> list[Candidate]:
    """The candidates of try `number` with their places among all of the job's."""
    return [replace(one, index=number * of_a_try + place) for place, one in enumerate(candidates)]


def eight_bit(picture: Tensor) -> Tensor:
    """A picture rounded to the 256 levels a file has, so that a filter sees what a trainer will."""
    return ((picture.clamp(0, 1) * 255).round() / 255).to(torch.float32)


def objects_of(instruction: Instruction) -> str:
    """The object that a pointing task is about: the edited one, else the original one."""
    return instruction.edited_object or instruction.original_object
