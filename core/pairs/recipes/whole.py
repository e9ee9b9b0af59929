"""Global: attention control with a blank mask, so that everything may change, and more copied steps for
faithfulness (appendix 7.2.3: blend in 0.1..0.2, N_s and N_c in 0.4..0.9).
"""

from __future__ import annotations

from ..records import Candidate, PairJob
from .base import RecipeContext, start
from .generation import as_candidates, drawn_settings, tied

FRACTION = (0.4, 0.9)
BLEND = (0.1, 0.2)


def whole(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """One pair a try, of the two captions."""
    draw, words = start(job, number), job.instruction
    settings = drawn_settings(context, draw, FRACTION, BLEND)
    made = tied(context, job, words.input_caption, words.output_caption, {}, settings, draw)
    return as_candidates(job, made, {}, {}, draw)
