"""Which layers a network offers to a control."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbone import Backbone, TextContext
from .layers import FEATURES, SELF, AttentionLayer


class Survey:
    """A control that wants nothing and notes what it is asked."""

    def __init__(self) -> None:
        self.layers: list[AttentionLayer] = []

    def wants(self, layer: AttentionLayer) -> bool:
        self.layers.append(layer)
        return False

    def attend(
        self, layer: AttentionLayer, q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None
    ) -> Tensor:
        raise AssertionError("a survey wants nothing")

    def features(self, layer: AttentionLayer, hidden: Tensor) -> Tensor:
        raise AssertionError("a survey wants nothing")


def layers_of(backbone: Backbone, latents: Tensor, text: TextContext) -> list[AttentionLayer]:
    """Every layer, in the order in which the network reaches them, found by one call with one item."""
    survey = Survey()
    with torch.inference_mode():
        backbone.predict(latents[:1], int(backbone.schedule.timesteps(1)[0]), text[:1], control=survey)
    return survey.layers


def style_blocks(layers: list[AttentionLayer]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(feature blocks, self-attention blocks) of Plug-and-Play for a network with these layers.

    Of Stable Diffusion's 12 output blocks those are 4, and 4 to 11 (2211.12572, section 4): the block a third
    of the way up, counted in grids, which need not have as many blocks each, and those from there on. Where
    no output block has attention, None: all layers of the network.
    """
    up = [layer for layer in layers if layer.place == "up"]
    grids: dict[tuple[int, int], set[int]] = {}
    for layer in up:
        if layer.kind == FEATURES:
            grids.setdefault(layer.size, set()).add(layer.block)
    if not grids:
        return (), tuple(sorted({layer.block for layer in up if layer.kind == SELF})) or None
    level, rest = divmod(len(grids) / 3, 1)
    blocks = sorted(list(grids.values())[int(level)])
    first = blocks[0] + round(rest * len(blocks))
    attended = sorted({layer.block for layer in up if layer.kind == SELF and layer.block >= first})
    return (first,), tuple(attended) or None
