"""Image-to-image translation: a real picture and a map of it, in either direction (appendix 7.2.5)."""

from __future__ import annotations

import re

from ...errors import EmuEditError
from ..records import Candidate, PairJob
from .base import RecipeContext, real_picture, start

DIRECTIONS = ("to map", "to picture")
_MAPS = {
    "depth": r"\bdepth\b",
    "segmentation": r"\bsegment(?:ation|ed)\b|\blabel map\b",
    "pose": r"\b(?:pose|skeleton|stick figure)s?\b",
    "normal": r"\bnormals?\b",
    "sketch": r"\b(?:sketch|line (?:drawing|art)|outlines?|pencil drawing)\b",
}


def translation(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """(picture, its map), or (map, picture) where the instruction asks for a picture."""
    draw = start(job, number)
    annotator = context.annotators.get(job.task)
    if annotator is None:
        raise EmuEditError(f"the task {job.task} needs an annotator that makes such maps; give one.")
    direction = draw.note("direction", direction_of(job))
    picture = real_picture(context, job)
    made = annotator.annotate(picture)
    source, target = (picture, made) if direction == DIRECTIONS[0] else (made, picture)
    return [Candidate(source, target, job.instruction, 0, draw.seed, "blank", {}, draw.parameters)]


def direction_of(job: PairJob) -> str:
    """Which way an instruction asks for: a caption that speaks of the map tells; without one, to the map."""
    words = job.instruction
    before, after = (
        re.search(_MAPS[job.task], text.lower()) for text in (words.input_caption, words.output_caption)
    )
    return DIRECTIONS[1] if before and not after else DIRECTIONS[0]
