"""GroundingDINO: boxes for phrases, through transformers' model and without its processors.

The picture is prepared here (shorter side 800 px, longer at most 1333, ImageNet's mean and deviation) and the
answers are read here, because releases of transformers want different packages and arguments for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import EmuEditError
from ..images import check_images
from .phrases import Phrase, prompt_of
from .sources import NONE_FOUND, DetectSettings, Found

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORTEST, LONGEST = 800, 1333
FULL_STOP = "."


def prepared(image: Tensor, shortest: int = SHORTEST, longest: int = LONGEST) -> Tensor:
    """One picture [H,W,3] in 0..1 -> [1,3,h,w] as GroundingDINO was trained to see it."""
    height, width = image.shape[:2]
    scale = min(shortest / min(height, width), longest / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    planes = image.movedim(-1, 0)[None].float().clamp(0, 1)
    planes = F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)
    return standardised(planes)


def standardised(planes: Tensor) -> Tensor:
    """[B,3,h,w] by ImageNet's mean and deviation."""
    return (planes - planes.new_tensor(MEAN).view(1, 3, 1, 1)) / planes.new_tensor(STD).view(1, 3, 1, 1)


@dataclass(frozen=True, eq=False)
class GroundingDino:
    """A GroundingDINO or MM-GroundingDINO with its tokenizer, as a source of boxes.

    poll is called before each picture and may raise to interrupt.
    """

    model: Any
    tokenizer: Any
    name: str
    shortest: int = SHORTEST
    longest: int = LONGEST
    poll: Callable[[], None] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def longest_prompt(self) -> int:
        """In tokens. The model answers for so many columns, whatever its tokenizer would let through."""
        return min(self.tokenizer.model_max_length, self.model.config.max_text_len)

    def left_out(self, phrases: Sequence[Phrase]) -> tuple[str, ...]:
        """Phrases of a long list for which the prompt has no room, and which are not looked for."""
        return tuple(phrase.text for phrase in phrases[self._room(phrases) :])

    def _room(self, phrases: Sequence[Phrase]) -> int:
        """How many of the phrases fit whole; at least one, which may be cut."""
        used = self.tokenizer.num_special_tokens_to_add()
        for i, phrase in enumerate(phrases):
            used += len(self.tokenizer(prompt_of([phrase]), add_special_tokens=False)["input_ids"])
            if used > self.longest_prompt:
                return max(1, i)
        return len(phrases)

    @torch.inference_mode()
    def detect(
        self, images: Tensor, phrases: Sequence[Phrase], settings: DetectSettings
    ) -> tuple[Found, ...]:
        """Picture by picture, so that memory does not grow with the batch; without what is `left_out`."""
        images = check_images(images, "the picture")
        if not phrases:
            raise EmuEditError("detector: there is nothing to look for; give at least one phrase.")
        phrases = phrases[: self._room(phrases)]
        tokens = self.tokenizer(
            prompt_of(phrases), return_tensors="pt", truncation=True, max_length=self.longest_prompt
        ).to(self.device)
        spans = phrase_spans(self.tokenizer, tokens["input_ids"][0].tolist(), phrases)
        dtype = next(self.model.parameters()).dtype
        finds = []
        for image in images:
            if self.poll is not None:
                self.poll()
            pixels = prepared(image, self.shortest, self.longest).to(self.device, dtype)
            answer = self.model(
                pixel_values=pixels, **{k: tokens[k] for k in ("input_ids", "attention_mask")}
            )
            height, width = image.shape[:2]
            probabilities = answer.logits[0].float().sigmoid().cpu()
            finds.append(
                read_answer(probabilities, answer.pred_boxes[0].float().cpu(), spans, settings, height, width)
            )
        return tuple(finds)


@dataclass(frozen=True)
class Span:
    """Which tokens of the prompt a phrase is, and which of them its noun."""

    text: str
    tokens: tuple[int, ...]
    head: tuple[int, ...]


def phrase_spans(tokenizer: Any, ids: Sequence[int], phrases: Sequence[Phrase]) -> tuple[Span, ...]:
    """Find each phrase's tokens in the prompt: full stops part the phrases."""
    stop = tokenizer.convert_tokens_to_ids(FULL_STOP)
    groups: list[list[int]] = [[]]
    for place, token in enumerate(ids):
        if token == stop:
            groups.append([])
        elif token not in tokenizer.all_special_ids or token == tokenizer.unk_token_id:
            groups[-1].append(place)
    spans = []
    for phrase, group in zip(phrases, groups, strict=False):
        lead = phrase.text.split()
        end = lead.index(phrase.head) + 1 if phrase.head in lead else len(lead)
        upto = len(tokenizer(" ".join(lead[:end]), add_special_tokens=False)["input_ids"])
        noun = len(tokenizer(phrase.head, add_special_tokens=False)["input_ids"])
        spans.append(
            Span(phrase.text, tuple(group), tuple(group[max(0, upto - noun) : upto]) or tuple(group))
        )
    return tuple(span for span in spans if span.tokens)


def read_answer(
    probabilities: Tensor,
    centres: Tensor,
    spans: Sequence[Span],
    settings: DetectSettings,
    height: int,
    width: int,
) -> Found:
    """Finds from token probabilities [Q,T] and boxes [Q,4] (centre x, y, width, height in 0..1), best first.

    A box counts if its best token is above `threshold`, as in the original, and the noun of one phrase above
    `text_threshold`; it is labelled with the phrase whose tokens fit best.
    """
    if not spans:
        return NONE_FOUND
    best = torch.stack([probabilities[:, list(span.tokens)].amax(dim=-1) for span in spans], dim=-1)
    nouns = torch.stack([probabilities[:, list(span.head)].amax(dim=-1) for span in spans], dim=-1)
    fits = torch.where(nouns >= settings.text_threshold, best, -1.0)
    score, which = fits.max(dim=-1)
    kept = (score > settings.threshold).nonzero()[:, 0]
    kept = kept[score[kept].argsort(descending=True)]
    x, y, wide, tall = centres[kept].unbind(-1)
    corners = torch.stack((x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2), dim=-1).clamp(0, 1)
    boxes = corners * torch.tensor([width, height, width, height], dtype=corners.dtype)
    return Found(boxes, score[kept], tuple(spans[i].text for i in which[kept].tolist()))
