"""Task -> recipe, all candidates of a job, and one of them made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import EmuEditError
from ..records import Candidate, PairJob
from .add import add, remove
from .background import background
from .base import NoCandidate, RecipeContext, numbered
from .color import color
from .local import local, texture
from .pointing import detect, segment
from .style import style
from .text import text
from .translation import translation
from .whole import whole

Attempt = Callable[[RecipeContext, PairJob, int], list[Candidate]]


@dataclass(frozen=True)
class Recipe:
    """attempt: one try. needs: fields of RecipeContext without which there is none. drawn: whether another
    try gives another picture (those that only read a real one are done in one)."""

    attempt: Attempt
    needs: tuple[str, ...]
    drawn: bool = True


RECIPES: Mapping[str, Recipe] = {
    "local": Recipe(local, ("backbone", "finder")),
    "remove": Recipe(remove, ("backbone", "finder")),
    "add": Recipe(add, ("backbone", "finder")),
    "texture": Recipe(texture, ("backbone", "finder")),
    "background": Recipe(background, ("backbone", "finder")),
    "global": Recipe(whole, ("backbone",)),
    "style": Recipe(style, ("backbone", "picture")),
    "text": Recipe(text, ("picture", "reader", "inpainter"), drawn=False),
    "detect": Recipe(detect, ("picture", "finder"), drawn=False),
    "segment": Recipe(segment, ("picture", "finder"), drawn=False),
    "color": Recipe(color, ("picture",), drawn=False),
    **{
        task: Recipe(translation, ("picture", "annotators"), drawn=False)
        for task in ("depth", "segmentation", "pose", "normal", "sketch")
    },
}


def missing(context: RecipeContext, task: str) -> str:
    """Why a task's pairs cannot be made in this context, in a few words; "" if they can."""
    if task not in RECIPES:
        return "there is no recipe for it"
    lacking = [name for name in RECIPES[task].needs if not getattr(context, name)]
    if "annotators" in RECIPES[task].needs and not lacking and task not in context.annotators:
        lacking = ["annotator"]
    return f"it needs {' and '.join(WORDS.get(name, name) for name in lacking)}" if lacking else ""


WORDS = {
    "backbone": "a text-to-image model",
    "finder": "a detector",
    "picture": "pictures",
    "reader": "a reader of lettering",
    "inpainter": "an inpainter",
    "annotators": "an annotator",
    "annotator": "an annotator",
}


def candidates(context: RecipeContext, job: PairJob) -> list[Candidate]:
    """All candidates of a job, by try and mask; NoCandidate, with the first reason, if every try fails."""
    if why := missing(context, job.task):
        raise EmuEditError(
            f"pairs of the task {job.task} cannot be made: {why}; give it, or leave the task out."
        )
    recipe = RECIPES[job.task]
    found: list[Candidate] = []
    reasons: list[str] = []
    for number in range(context.tries if recipe.drawn else 1):
        try:
            found += numbered(recipe.attempt(context, job, number), number, len(context.masks))
        except NoCandidate as reason:
            reasons.append(str(reason))
    if not found:
        raise NoCandidate(reasons[0])
    return found


def remake(context: RecipeContext, job: PairJob, record: Mapping[str, Any]) -> Candidate:
    """The pair of a candidate's record, made again from its job and what was drawn, bit for bit.

    `context` holds the same models. `record` is Candidate.to_json()'s. Raises EmuEditError when what is made
    does not carry the record's seed, which means that job and record do not belong together.
    """
    drawn = dict(record["parameters"])
    number, kind = int(drawn.pop("try")), record["mask_kind"]
    drawn.pop("mask_kind", None)
    fixed = replace(job, parameters={**job.parameters, **drawn})
    made = numbered(RECIPES[job.task].attempt(context, fixed, number), number, len(context.masks))
    again = [one for one in made if one.mask_kind == kind and one.index == record["index"]]
    if not again or again[0].seed != record["seed"]:
        raise EmuEditError(
            f"candidate {record['index']} of job {job.id} cannot be made again: the record belongs to "
            "another job, or the recipe has changed since."
        )
    return again[0]
