"""CLIP's four numbers as InstructPix2Pix filters by them (its repository's dataset_creation, ViT-L/14).

image-image >= 0.7 (the paper's appendix says 0.75), image-text >= 0.2 before and after, direction >= 0.2.
Emu Edit filters "as in InstructPix2Pix" (arXiv 2311.10089). Boxes, masks and maps drawn into a picture are no
photographs that CLIP could judge, nor are photometric changes an edit of content: those tasks are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scorer import Scorer
from ..records import Candidate, Score
from .base import Finding, at_least, batches, check_share, unconcerned

CONCERNS = ("local", "remove", "add", "texture", "background", "global", "style", "text")
NO_DIRECTION = 1e-6  # as core.scorer: shorter differences have no direction


@dataclass(frozen=True)
class ClipFilter:
    """image, text, direction: least cosines. Scores clip_image, clip_text_before, clip_text_after and
    clip_direction, the last of which ranks candidates."""

    scorer: Scorer
    image: float = 0.7
    text: float = 0.2
    direction: float = 0.2
    name = "clip"

    def __post_init__(self) -> None:
        for name in ("image", "text", "direction"):
            check_share(f"CLIP {name}", getattr(self, name), -1.0, 1.0)

    def look(self, candidates: Sequence[Candidate]) -> list[Finding]:
        findings = [unconcerned("clip_image", one.task) for one in candidates]
        concerned = [one.task in CONCERNS for one in candidates]
        for places, source, target in batches(candidates, concerned):
            words = [candidates[k].instruction for k in places]
            # Normalised before any difference, as InstructPix2Pix's code does.
            seen = [_unit(self.scorer.image_embeddings(picture)) for picture in (source, target)]
            told = [
                _unit(self.scorer.text_embeddings([getattr(each, caption) for each in words]))
                for caption in ("input_caption", "output_caption")
            ]
            alike = (seen[0] * seen[1]).sum(-1).tolist()
            fits = [(seen[k] * told[k]).sum(-1).tolist() for k in (0, 1)]
            moved, meant = seen[1] - seen[0], told[1] - told[0]
            along = F.cosine_similarity(moved, meant, dim=-1).tolist()
            still = (torch.minimum(moved.norm(dim=-1), meant.norm(dim=-1)) < NO_DIRECTION).tolist()
            for row, place in enumerate(places):
                scores = (
                    at_least("clip_image", alike[row], self.image, _low("the pictures", "each other")),
                    at_least("clip_text_before", fits[0][row], self.text, _low("the source", "its caption")),
                    at_least("clip_text_after", fits[1][row], self.text, _low("the target", "its caption")),
                    self._direction(along[row], still[row]),
                )
                findings[place] = Finding(scores)
        return findings

    def _direction(self, value: float, still: bool) -> Score:
        if still:
            told = "CLIP sees no difference between the pictures or between the captions"
            return Score("clip_direction", None, self.direction, False, told)
        told = "CLIP sees the picture change in another direction than the captions"
        return at_least("clip_direction", value, self.direction, told)


def _low(one: str, other: str) -> str:
    return f"CLIP finds {one} too unlike {other}"


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.cpu().double(), dim=-1)
