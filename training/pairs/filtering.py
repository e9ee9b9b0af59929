"""The judge of a build: which filters apply, with which models."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...core.pairs.filters.judge import judge_all
from ...core.pairs.filters.standard import NAMES, Thresholds, standard_filters
from ...core.pairs.recipes.annotators import DepthAnnotator
from ...core.pairs.recipes.base import RecipeContext
from ...core.predictor import bundled_predictor
from .plan import BuildPlan
from .stages import Judge

SURE = 0.8
"""How sure the task predictor must be to file a pair under another task than it was made for."""


def judge_of(plan: BuildPlan, context: RecipeContext) -> Judge:
    """The filters that the plan names, each with its model where there is one; the others say so."""
    scorer = depth = None
    if plan.scorer:
        from ...core.metric_models import load_clip
        from ...core.metric_presets import preset
        from ...core.scorer import Scorer

        # Pictures squashed, not cropped, as InstructPix2Pix prepares them for the filter.
        scorer = Scorer(preset("paper-like"), clip=load_clip(Path(plan.scorer), plan.device))
    annotator = context.annotators.get("depth")
    if isinstance(annotator, DepthAnnotator):
        depth = annotator.depth
    elif plan.depth:
        from ...core.pairs.filters.models import load_depth

        depth = load_depth(plan.depth, plan.device)
    filters = standard_filters(
        Thresholds(task=SURE),
        predictor=bundled_predictor(),
        scorer=scorer,
        depth=depth,
        detector=context.finder,
        reader=context.reader,
        names=plan.filters or NAMES,
    )
    return partial(judge_all, filters=filters)
