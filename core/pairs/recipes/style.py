"""Style: Plug-and-Play on a real picture, with DDIM inversion (appendix 7.2.3; Tumanyan et al. 2211.12572).

Guidance is drawn from 6.5..11 (read so; the appendix prints 110; see generation.guidance_range) and the share
N_s of self-attention from 0.5..1; features are injected for 0.8 of the steps. The input caption is the
negative prompt, as in Plug-and-Play.
"""

from __future__ import annotations

from ..records import Candidate, PairJob
from ..restyle import StyleSettings, restyle
from .base import RecipeContext, real_picture, start
from .generation import backbone_of, guidance_range

GUIDANCE = (6.5, 11.0)
SELF_FRACTION = (0.5, 1.0)
FEATURES = 0.8


def style(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """One pair a try: the real picture, and the picture in the style of the output caption."""
    draw, words = start(job, number), job.instruction
    backbone = backbone_of(context, job)
    picture = real_picture(context, job)
    guidance = draw.uniform("guidance", *guidance_range(context, GUIDANCE))
    share = draw.uniform("self_fraction", *SELF_FRACTION)
    steps = int(draw.note("steps", context.steps or int(backbone.defaults.get("steps", 50))))
    settings = StyleSettings(
        steps=steps,
        guidance=guidance,
        self_fraction=share if context.control else 0.0,
        feature_fraction=float(draw.note("features", FEATURES)) if context.control else 0.0,
        substeps=int(draw.note("substeps", max(1, context.inversion_calls // steps))),
        size=max(context.size) if context.size else None,
    )
    before = words.input_caption
    made = restyle(backbone, picture[None], [""], [words.output_caption], settings, [before], context.on_step)
    parameters = draw.parameters | {"generation": made.parameters[0]}
    return [Candidate(made.source[0], made.target[0], words, 0, draw.seed, "blank", {}, parameters)]
