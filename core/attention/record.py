"""Cross-attention maps of chosen words, averaged over heads, layers and steps.

Recording reads queries and keys of the small layers once more and changes nothing: pictures made while maps
are recorded equal those made without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .algebra import Rows, pick, pick_mask, probabilities
from .layers import CROSS, AttentionLayer

MOST_TOKENS = 32 * 32
"""Layers with more queries are not recorded, as in Prompt-to-Prompt."""

Size = tuple[int, int]


@dataclass
class MapRecorder:
    """Sums of maps for P pairs. `source` and `target` [P,W,L] float32 select tokens of the two captions: a
    pair's map w is the sum of its tokens' maps, weighted by row w.
    """

    source: Tensor
    target: Tensor
    most_tokens: int = MOST_TOKENS
    sums: dict[Size, Tensor] = field(default_factory=dict)  # [2,P,W,h,w], source then target
    counts: dict[Size, Tensor] = field(default_factory=dict)  # [2,P], how many layers and steps

    def wants(self, layer: AttentionLayer) -> bool:
        return layer.kind == CROSS and layer.tokens <= self.most_tokens

    def add(
        self,
        layer: AttentionLayer,
        branch: int,
        pairs: Sequence[int],
        selection: Tensor,
        q: Tensor,
        k: Tensor,
        rows: Rows,
        scale: float,
        mask: Tensor | None,
        count: bool = True,
    ) -> None:
        """Add maps of `rows`, which belong to `pairs`, to branch 0 (source) or 1 (target).

        selection [n,L,W]. A map that is a sum of two parts comes in two calls, of which one counts.
        """
        maps = probabilities(pick(q, rows), pick(k, rows), scale, pick_mask(mask, rows)).mean(dim=1)
        found = torch.matmul(maps, selection.to(maps)).transpose(1, 2).cpu()
        total, number = self._store(layer.size)
        for place, pair in enumerate(pairs):
            total[branch, pair] += found[place].view(-1, *layer.size)
            number[branch, pair] += float(count)

    def _store(self, size: Size) -> tuple[Tensor, Tensor]:
        pairs, words = self.source.shape[:2]
        if size not in self.sums:
            self.sums[size] = torch.zeros(2, pairs, words, *size)
            self.counts[size] = torch.zeros(2, pairs)
        return self.sums[size], self.counts[size]

    def average(self, size: Size) -> Tensor:
        """Mean maps [2,P,W,h,w] of the layers of one size, in units of attention probability."""
        total, number = self._store(size)
        return total / number.clamp(min=1)[..., None, None, None]

    def nearest(self, tokens: float) -> Size | None:
        """The recorded size whose number of cells is nearest to `tokens`, by ratio; None before any step."""
        return min(
            self.sums,
            key=lambda size: (max(size[0] * size[1], tokens) / min(size[0] * size[1], tokens), size),
            default=None,
        )

    def maps(self, height: int, width: int) -> Tensor:
        """Mean maps of all recorded layers, resampled to [2,P,W,height,width]."""
        pairs, words = self.source.shape[:2]
        total, number = torch.zeros(2, pairs, words, height, width), torch.zeros(2, pairs)
        for size, maps in self.sums.items():
            scaled = F.interpolate(maps.flatten(0, 1), (height, width), mode="bilinear", align_corners=False)
            total += scaled.view_as(total)
            number += self.counts[size]
        return total / number.clamp(min=1)[..., None, None, None]
